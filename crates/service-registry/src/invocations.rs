//! `service-registry.invocations`: what runs did with services, counted.
//!
//! One transaction for a batch: what was counted before is passed over, what is new is remembered and added to the
//! counters. So a crash leaves a batch counted or not counted, and one that comes again is counted once. Services that
//! are gone meanwhile are passed over: nobody could see their numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message};
use chrono::{DateTime, Utc};
use model::service::{ServiceCall, ServicesInvoked};
use model::wire::decode_event;
use service_kit::database::{DatabaseError, DbConnection};
use service_kit::error::chain;
use uuid::Uuid;

use crate::State;
use crate::store::numbers::{self, Counts, InvocationKey};

/// Counts.
pub(crate) struct Invocations(pub(crate) Arc<State>);

#[async_trait]
impl Handler for Invocations {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        let invoked = batch
            .iter()
            .map(|message| decode_event::<ServicesInvoked>(message.kind, &message.body))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| HandleError::Rejected(chain(&error)))?;
        let now = self.0.clock.now();
        let counted = self.0.db.write(move |conn| Ok::<_, DatabaseError>(count(conn, &invoked, now)?));
        let Outcome { counted, repeated } = counted.await.map_err(|error| match error.is_unavailable() {
            true => HandleError::Unavailable(chain(&error)),
            false => HandleError::Failed(chain(&error)),
        })?;
        metrics::counter!("carillon_service_invocations_total", "outcome" => "counted").increment(counted);
        metrics::counter!("carillon_service_invocations_total", "outcome" => "repeated").increment(repeated);
        Ok(())
    }
}

struct Outcome {
    counted: u64,
    repeated: u64,
}

fn count(conn: &mut DbConnection, invoked: &[ServicesInvoked], now: DateTime<Utc>) -> diesel::QueryResult<Outcome> {
    let ids: Vec<Uuid> = invoked.iter().flat_map(|one| one.services.iter().map(|service| service.service)).collect();
    let registered = numbers::registered(conn, &ids)?;
    // In one order in every replica, so that no two wait for each other.
    let mut wanted = BTreeMap::new();
    for one in invoked {
        for service in one.services.iter().filter(|service| registered.contains(&service.service)) {
            let key = InvocationKey {
                service: service.service,
                run_id: one.run_id.0,
                run_attempt: i64::from(one.run_attempt),
            };
            wanted.entry(key).or_insert((one.at, counts_of(&service.calls)));
        }
    }
    let keys: Vec<InvocationKey> = wanted.keys().copied().collect();
    let new = numbers::remember(conn, &keys, now.into())?;
    let counted = new.iter().filter_map(|key| wanted.get(key).map(|(at, counts)| (key.service, *at, *counts)));
    numbers::add(conn, counted)?;
    Ok(Outcome { counted: new.len() as u64, repeated: (keys.len() - new.len()) as u64 })
}

/// What is the model's fault, or the end of the run, says nothing about the service.
fn counts_of(calls: &[ServiceCall]) -> Counts {
    let number = |wanted: &dyn Fn(&ServiceCall) -> bool| calls.iter().filter(|call| wanted(call)).count() as i64;
    Counts {
        offered: 1,
        succeeded: number(&|call| call.failure.is_none()),
        failed: number(&|call| call.failure.is_some_and(|failure| failure.is_the_services())),
        ..Counts::default()
    }
}

//! `runs.recorded`: the run log, as the dispatcher dictates it.
//!
//! A batch is stored in one transaction, then held is said of its ended runs, then it is acknowledged. After a crash
//! before the commit the batch comes again and nothing was stored; after the commit it comes again, changes nothing,
//! and held is said again, which the dispatcher takes as often as it comes.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message};
use model::document::Receiver;
use model::event::{Event, RunsHeld, RunsRecorded};
use model::id::RunId;
use model::wire::{Wire, decode_event};
use service_kit::database::DatabaseError;
use service_kit::error::chain;

use super::failure;
use crate::runs::{self, Recorded, Stands};
use crate::state::{NAME, State};

/// Handles `runs.recorded`.
pub(crate) struct Runs(pub(crate) Arc<State>);

#[async_trait]
impl Handler for Runs {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        let (recorded, schedules) = read(batch)?;
        let ended: Vec<RunId> = recorded
            .iter()
            .filter(|recorded| recorded.record.state.is_final())
            .map(|recorded| recorded.record.run.id)
            .collect();
        metrics::counter!("carillon_registry_runs_recorded_total").increment(recorded.len() as u64);
        self.store(recorded, schedules).await.map_err(|error| failure(&error))?;
        self.say_held(ended).await
    }
}

fn read(batch: &[Message]) -> Result<(Vec<Recorded>, Vec<Stands>), HandleError> {
    let (mut recorded, mut schedules) = (Vec::with_capacity(batch.len()), Vec::new());
    for message in batch {
        let event: RunsRecorded =
            decode_event(message.kind, &message.body).map_err(|error| HandleError::Rejected(chain(&error)))?;
        let said_at = message.time;
        recorded.extend(event.runs.into_iter().map(|record| Recorded { record, said_at }));
        schedules.extend(event.schedules.into_iter().map(|schedule| Stands { schedule, said_at }));
    }
    Ok((recorded, schedules))
}

impl Runs {
    async fn store(&self, recorded: Vec<Recorded>, schedules: Vec<Stands>) -> Result<(), DatabaseError> {
        let now = self.0.clock.now();
        let stored = self.0.db.write(move |conn| {
            let mut written = Vec::new();
            runs::record(conn, recorded, schedules, now, &mut written)?;
            Ok::<_, DatabaseError>(written)
        });
        self.0.outbox.announce(stored.await?);
        self.0.counted.notify_one();
        Ok(())
    }

    async fn say_held(&self, mut run_ids: Vec<RunId>) -> Result<(), HandleError> {
        run_ids.sort_unstable();
        run_ids.dedup();
        if run_ids.is_empty() {
            return Ok(());
        }
        let held = RunsHeld { receiver: Receiver::AgentRegistry, run_ids, ticks: Vec::new() };
        let message = Message::new(RunsHeld::KIND, NAME, self.0.clock.now(), held.encode());
        let published = self.0.bus.publish(vec![message]).await;
        published.map_err(|error| HandleError::Unavailable(chain(&error)))
    }
}

//! `callback-deliverer.documents`: agents' endpoints and organisations' limits, as the registry announces them.
//!
//! Idempotent: only a higher version is applied. On a crash before the commit nothing is stored, between the commit
//! and `documents.held` or the ack the batch comes again, changes nothing, and is said to be held (again).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message, documents_of};
use model::document::{Document, DocumentKind, HeldDocument, Receiver, Subject};
use model::event::DocumentsHeld;
use service_kit::database::{DatabaseError, Timestamp};
use service_kit::error::chain;

use super::{database_fault, publish};
use crate::core::Core;
use crate::delivery_attempt::count_settled;
use crate::lanes::Lane;
use crate::store::endpoints::{self, Endpoint};
use crate::store::organisations::{self, Organisation};
use crate::words::Status;

/// Stores endpoints, then says what is held.
pub(crate) struct Documents {
    pub(crate) core: Arc<Core>,
}

#[async_trait]
impl Handler for Documents {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        let documents = newest(batch)?;
        let now = Timestamp::from(self.core.clock.now());
        let endpoints: Vec<Endpoint> = documents.iter().filter_map(|document| endpoint(document, now)).collect();
        let organisations: Vec<Organisation> = documents.iter().filter_map(organisation).collect();
        if !endpoints.is_empty() || !organisations.is_empty() {
            self.store(endpoints, organisations, now).await?;
        }
        let documents: Vec<HeldDocument> = documents.iter().map(held).collect();
        if documents.is_empty() {
            return Ok(());
        }
        publish(&self.core, &DocumentsHeld { receiver: Receiver::CallbackDeliverer, documents, replanned: Vec::new() })
            .await
    }
}

impl Documents {
    async fn store(
        &self,
        endpoints: Vec<Endpoint>,
        organisations: Vec<Organisation>,
        now: Timestamp,
    ) -> Result<(), HandleError> {
        let changed: Vec<Lane> = endpoints
            .iter()
            .map(|endpoint| Lane::Endpoint(endpoint.agent_id))
            .chain(organisations.iter().map(|row| Lane::Alerts(row.organisation.clone())))
            .collect();
        let stored = self.core.db.write(move |connection| {
            organisations::apply(connection, &organisations)?;
            Ok(endpoints::apply(connection, &endpoints, now)?)
        });
        let applied = stored.await.map_err(|error: DatabaseError| database_fault(&error))?;
        count_settled(Status::Discarded, applied.discarded);
        self.core.secrets.forget(&changed);
        for agent_id in &applied.moved {
            self.core.lanes.forget(&Lane::Endpoint(*agent_id));
        }
        if applied.due {
            self.core.due.notify_one();
        }
        if !applied.moved.is_empty() {
            self.core.enabled.notify_one();
        }
        Ok(())
    }
}

/// The newest version of each document that is our business. A mentor's version waits for no word of ours.
fn newest(batch: &[Message]) -> Result<Vec<Document>, HandleError> {
    let mut newest: HashMap<(DocumentKind, String), Document> = HashMap::new();
    for message in batch {
        let documents = documents_of(message, |_| Ok(())).map_err(|error| HandleError::Rejected(chain(&error)))?;
        for document in documents.into_iter().filter(|document| document.kind() != DocumentKind::Mentor) {
            let known = newest.entry((document.kind(), document.key())).or_insert_with(|| document.clone());
            if known.version < document.version {
                *known = document;
            }
        }
    }
    Ok(newest.into_values().collect())
}

/// What is kept of an agent.
fn endpoint(document: &Document, now: Timestamp) -> Option<Endpoint> {
    let (agent_id, endpoint, deleted) = match &document.subject {
        Subject::Agent(agent) => (agent.id, agent.endpoint.clone(), false),
        Subject::AgentDeleted(id) => (*id, None, true),
        Subject::Organisation(_) | Subject::Mentor(_) | Subject::MentorDeleted(_) => return None,
    };
    let mut row = Endpoint {
        agent_id: agent_id.0,
        organisation: document.organisation.0.clone(),
        version: document.version,
        url: None,
        sealed_secret: Vec::new(),
        previous_sealed_secret: None,
        previous_until: None,
        encrypt: false,
        signature_only_hub: false,
        deleted,
        updated_at: now,
    };
    if let Some(endpoint) = endpoint {
        row.url = Some(endpoint.url);
        row.sealed_secret = endpoint.sealed_secret;
        if let Some(previous) = endpoint.previous_secret {
            row.previous_until = Some(previous.until.into());
            row.previous_sealed_secret = Some(previous.sealed);
        }
        row.encrypt = endpoint.encrypt;
        row.signature_only_hub = endpoint.signature_only_hub;
    }
    Some(row)
}

/// What is kept of an organisation.
fn organisation(document: &Document) -> Option<Organisation> {
    let Subject::Organisation(organisation) = &document.subject else { return None };
    let number = |number: Option<NonZeroU32>| number.map(|number| i32::try_from(number.get()).unwrap_or(i32::MAX));
    let alert = organisation.alert.as_ref();
    Some(Organisation {
        organisation: document.organisation.0.clone(),
        version: document.version,
        callbacks_in_flight_max: number(organisation.callbacks_in_flight_max),
        deliveries_days: number(organisation.deliveries_days),
        alert_url: alert.map(|alert| alert.url.clone()),
        alert_sealed_secret: alert.map(|alert| alert.sealed_secret.clone()).unwrap_or_default(),
    })
}

fn held(document: &Document) -> HeldDocument {
    HeldDocument { kind: document.kind(), key: document.key(), version: document.version, next_fire_time: None }
}

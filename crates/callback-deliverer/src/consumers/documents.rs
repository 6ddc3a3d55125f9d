//! `callback-deliverer.documents`: agents' endpoints, as the registry announces them.
//!
//! Idempotent: only a higher version is applied. On a crash before the commit nothing is stored, between the commit
//! and `documents.held` or the ack the batch comes again, changes nothing, and is said to be held (again).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message};
use model::document::{Document, DocumentKind, HeldDocument, Receiver, Subject};
use model::event::{DocumentChanged, DocumentsHeld};
use service_kit::database::{DatabaseError, Timestamp};

use super::{database_fault, decode, publish};
use crate::core::Core;
use crate::store::endpoints::{self, Endpoint};

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
        if !endpoints.is_empty() {
            self.store(endpoints, now).await?;
        }
        let documents: Vec<HeldDocument> = documents.iter().map(held).collect();
        if documents.is_empty() {
            return Ok(());
        }
        publish(&self.core, &DocumentsHeld { receiver: Receiver::CallbackDeliverer, documents }).await
    }
}

impl Documents {
    async fn store(&self, endpoints: Vec<Endpoint>, now: Timestamp) -> Result<(), HandleError> {
        let agents: Vec<i64> = endpoints.iter().map(|endpoint| endpoint.agent_id).collect();
        let stored = self.core.db.write(move |connection| Ok(endpoints::apply(connection, &endpoints, now)?)).await;
        let due = stored.map_err(|error: DatabaseError| database_fault(&error))?;
        self.core.secrets.forget(agents);
        if due {
            self.core.due.notify_one();
        }
        Ok(())
    }
}

/// The newest version of each document that is our business. Of an organisation nothing is needed here yet; it is
/// held all the same, so that it is not announced for ever. A mentor's version waits for no word of ours.
fn newest(batch: &[Message]) -> Result<Vec<Document>, HandleError> {
    let mut newest: HashMap<(DocumentKind, String), Document> = HashMap::new();
    for message in batch {
        let DocumentChanged { documents } = decode(message)?;
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
    let (url, sealed_secret) = endpoint.map_or_else(Default::default, |it| (Some(it.url), it.sealed_secret));
    Some(Endpoint {
        agent_id: agent_id.0,
        organisation: document.organisation.0.clone(),
        version: document.version,
        url,
        sealed_secret,
        deleted,
        updated_at: now,
    })
}

fn held(document: &Document) -> HeldDocument {
    HeldDocument { kind: document.kind(), key: document.key(), version: document.version, next_fire_time: None }
}

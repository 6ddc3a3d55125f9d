//! `documents.held`: which versions the receivers hold, and from the dispatcher when agents fire next.
//!
//! Idempotent: what is held only rises, and of an agent's next fire time the word that was said last counts. After a
//! crash before the acknowledgement the batch comes again and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message};
use chrono::{DateTime, Utc};
use diesel::QueryResult;
use model::document::{DocumentKind, Receiver};
use model::event::{DocumentsHeld, Replanned};
use model::wire::decode_event;
use service_kit::database::{DatabaseError, DbConnection};
use service_kit::error::chain;

use super::failure;
use crate::audit::{self, Author};
use crate::state::State;
use crate::store::activity::{self, News};
use crate::store::audit_log::{self, AuditFilter};
use crate::store::documents::{self, DocumentName, HeldVersions};
use crate::store::{agents, organisations};

/// What the audit log calls it; its subject is `schedules:<edition>`.
const REPLANNED: &str = "schedules.replanned";

/// Handles `documents.held`.
pub(crate) struct Held(pub(crate) Arc<State>);

/// An event, and when it was said.
type Said = (DocumentsHeld, DateTime<Utc>);

#[async_trait]
impl Handler for Held {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        let read = |message: &Message| {
            let event = decode_event(message.kind, &message.body);
            event.map(|event| (event, message.time)).map_err(|error| HandleError::Rejected(chain(&error)))
        };
        let said = batch.iter().map(read).collect::<Result<Vec<Said>, HandleError>>()?;
        let stored = self.0.db.write(move |conn| Ok::<_, DatabaseError>(store(conn, said)?));
        stored.await.map_err(|error| failure(&error))
    }
}

/// The dispatcher plans an organisation's agents anew: that is in the audit log once for each edition of the database.
fn note_replanned(conn: &mut DbConnection, said: &[Said]) -> QueryResult<()> {
    let mut replanned: Vec<(&Replanned, &Said)> =
        said.iter().flat_map(|said| said.0.replanned.iter().map(move |replanned| (replanned, said))).collect();
    replanned.sort_by_key(|(replanned, _)| replanned.organisation.as_str());
    for (Replanned { organisation, tzdb }, (event, said_at)) in replanned {
        let organisation = organisation.as_str();
        // Locked, so that two batches do not both find nothing.
        let known = organisations::find_for_update(conn, organisation)?.is_some();
        let filter = AuditFilter {
            organisation: organisation.to_owned(),
            action: Some(REPLANNED.to_owned()),
            subject_key: Some(tzdb.clone()),
            ..AuditFilter::default()
        };
        if known && audit_log::count(conn, &filter)? == 0 {
            let name = event.receiver.as_str();
            let author = Author { organisation, username: name, acting_as: name, credential: "internal" };
            audit::record_by(conn, author, REPLANNED, tzdb, &["next_fire_time"], *said_at)?;
        }
    }
    Ok(())
}

fn store(conn: &mut DbConnection, said: Vec<Said>) -> QueryResult<()> {
    note_replanned(conn, &said)?;
    let mut versions: BTreeMap<DocumentName, HeldVersions> = BTreeMap::new();
    let mut fires_next: BTreeMap<i64, News> = BTreeMap::new();
    for (event, said_at) in said {
        let by_dispatcher = match event.receiver {
            Receiver::CronDispatcher => true,
            Receiver::CallbackDeliverer => false,
            Receiver::AgentRegistry => continue,
        };
        for held in event.documents {
            if by_dispatcher
                && held.kind == DocumentKind::Agent
                && let Ok(agent_id) = held.key.parse()
            {
                let said = News::fires_next(agent_id, held.next_fire_time, said_at);
                activity::add(&mut fires_next, said);
            }
            let known = versions.entry(DocumentName { kind: held.kind, key: held.key }).or_default();
            let known = if by_dispatcher { &mut known.by_dispatcher } else { &mut known.by_deliverer };
            *known = held.version.max(*known);
        }
    }
    // In the order of `store`.
    let existing = agents::existing(conn, fires_next.keys().copied().collect())?;
    documents::hold(conn, &versions)?;
    let of_existing: Vec<News> = existing.iter().filter_map(|id| fires_next.remove(id)).collect();
    activity::take_over(conn, &of_existing)
}

//! Announces documents until every receiver holds them.
//!
//! A write wakes the announcer, which publishes what was written at once; what is written in the next moments goes
//! together, because an announcement costs four messages and three commits, however many documents it has. What is not
//! held when it is overdue is announced again, at doubling intervals, and only if the queue of a receiver that lacks it
//! was seen empty twice: a receiver that is merely slow has it in its queue. At start everything that is not held is
//! announced.
//!
//! What happens on a crash: before the commit of a write, there was no write. After the commit and before the publish,
//! the document's version is above what is held, so the next start announces it; so does any other replica, which
//! finds it overdue. After the publish it may be announced once more: receivers apply only higher versions. Emptied,
//! a bus loses nothing, since announcing goes on until a receiver says that it holds the version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{BATCH_BYTES_MAX, BATCH_MAX, Message, Queue};
use chrono::{DateTime, TimeDelta, Utc};
use model::document::{Document, DocumentKind, Receiver, version_time};
use model::event::{DocumentChanged, Event};
use model::wire::Wire;
use service_kit::database::DatabaseError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::state::{NAME, State};
use crate::store::documents::{self, DocumentName, Unheld};

/// How long after an announcement others are gathered for the next.
const GATHER: Duration = Duration::from_millis(50);
/// What was announced and is not held after this long is overdue; doubles with each announcement.
const OVERDUE_FIRST: TimeDelta = TimeDelta::seconds(5);
const OVERDUE_MAX: TimeDelta = TimeDelta::minutes(5);
/// Until the second look at a queue that was empty; and at least until the next one.
const SECOND_LOOK: TimeDelta = TimeDelta::seconds(1);
/// With nothing of its own to wait for: what another replica left behind when it died is found this soon.
const IDLE_LOOK: TimeDelta = TimeDelta::seconds(30);
/// After the bus or the database failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often a queue must be seen empty before something is announced again.
const EMPTY_LOOKS: u8 = 2;

/// Runs until shutdown.
pub(crate) async fn run(state: Arc<State>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut announcer = Announcer::new(state);
    while !shutdown.is_cancelled() {
        let next_look = announcer.work().await;
        if let Err(error) = &next_look {
            tracing::warn!(error = format!("{error:#}"), "documents are not announced, trying again");
        }
        let look = async {
            match next_look {
                Ok(moment) => announcer.state.clock.sleep_until(moment).await,
                // Not by the product's clock: when what failed is back is a matter of real time.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = announcer.state.outbox.written() => tokio::time::sleep_until(announcer.next_announcement).await,
            () = look => {}
        }
    }
    Ok(())
}

struct Announcer {
    state: Arc<State>,
    /// Not yet published, organisations first.
    pending: BTreeMap<(DocumentKind, String), Reason>,
    /// Published and not known to be held.
    announced: HashMap<DocumentName, Announcement>,
    /// How often in a row each receiver's queue was seen empty.
    empty_looks: HashMap<Receiver, u8>,
    next_look: DateTime<Utc>,
    /// Not by the product's clock: it spares the broker, which knows only real time.
    next_announcement: Instant,
    started: bool,
}

/// Why a document is to be published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It was written, or is not held at the start. A version that was published meanwhile is not published for this:
    /// of two writes in a row, the announcement of the first may have carried the second.
    New,
    /// It is overdue, and not waiting in a queue.
    Again,
}

#[derive(Clone, Copy)]
struct Announcement {
    version: i64,
    overdue_at: DateTime<Utc>,
    patience: TimeDelta,
}

impl Announcer {
    fn new(state: Arc<State>) -> Self {
        let next_look = state.clock.now();
        Self {
            state,
            pending: BTreeMap::new(),
            announced: HashMap::new(),
            empty_looks: HashMap::new(),
            next_look,
            next_announcement: Instant::now(),
            started: false,
        }
    }

    /// Publishes what is to be published now. Returns until when there is nothing more to do.
    async fn work(&mut self) -> anyhow::Result<DateTime<Utc>> {
        if !self.started {
            let unheld = self.unheld().await?;
            self.add_new(unheld.into_iter().map(|document| document.name));
            self.started = true;
        }
        self.publish_pending().await?;
        if self.state.clock.now() >= self.next_look {
            self.next_look = self.look_for_overdue().await?;
            self.publish_pending().await?;
        }
        Ok(self.next_look)
    }

    fn add_new(&mut self, names: impl IntoIterator<Item = DocumentName>) {
        for name in names {
            self.pending.entry((name.kind, name.key)).or_insert(Reason::New);
        }
    }

    async fn publish_pending(&mut self) -> anyhow::Result<()> {
        let written = self.state.outbox.take();
        self.add_new(written);
        while !self.pending.is_empty() {
            let names: Vec<DocumentName> = self
                .pending
                .keys()
                .take(BATCH_MAX)
                .map(|(kind, key)| DocumentName { kind: *kind, key: key.clone() })
                .collect();
            let loaded = names.clone();
            let found = self.state.db.read(move |conn| Ok::<_, DatabaseError>(documents::load(conn, &loaded)?)).await;
            let mut found = found.context("cannot read documents")?;
            found.retain(|document| self.is_to_be_published(document));
            self.publish(found).await?;
            for name in names {
                self.pending.remove(&(name.kind, name.key));
            }
        }
        Ok(())
    }

    fn is_to_be_published(&self, document: &Document) -> bool {
        let name = DocumentName::of(document);
        let published = self.announced.get(&name).is_some_and(|before| before.version == document.version);
        !published || self.pending.get(&(name.kind, name.key)) == Some(&Reason::Again)
    }

    async fn publish(&mut self, found: Vec<Document>) -> anyhow::Result<()> {
        let now = self.state.clock.now();
        let versions: Vec<(DocumentName, i64)> =
            found.iter().map(|document| (DocumentName::of(document), document.version)).collect();
        let messages: Vec<Message> = batches(found)
            .into_iter()
            .map(|documents| Message::new(DocumentChanged::KIND, NAME, now, DocumentChanged { documents }.encode()))
            .collect();
        if messages.is_empty() {
            return Ok(());
        }
        self.state.bus.publish(messages).await.context("cannot publish documents")?;
        self.next_announcement = Instant::now() + GATHER;
        metrics::counter!("carillon_registry_documents_announced_total").increment(versions.len() as u64);
        for (name, version) in versions {
            let before = self.announced.get(&name).filter(|before| before.version == version);
            let patience = before.map_or(OVERDUE_FIRST, |before| (before.patience * 2).min(OVERDUE_MAX));
            self.next_look = self.next_look.min(now + patience);
            self.announced.insert(name, Announcement { version, overdue_at: now + patience, patience });
        }
        Ok(())
    }

    /// Moves to pending what is overdue and was not just slow. Returns when to look again.
    async fn look_for_overdue(&mut self) -> anyhow::Result<DateTime<Utc>> {
        let unheld = self.unheld().await?;
        let now = self.state.clock.now();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("carillon_registry_documents_unheld").set(unheld.len() as f64);
        let names: std::collections::HashSet<&DocumentName> = unheld.iter().map(|document| &document.name).collect();
        self.announced.retain(|name, _| names.contains(name));
        let (overdue, waiting): (Vec<&Unheld>, Vec<&Unheld>) =
            unheld.iter().partition(|document| self.overdue_at(document) <= now);
        let next_overdue = waiting.into_iter().map(|document| self.overdue_at(document)).min();
        // Each look reads all that is not held: what becomes overdue one by one is looked for together.
        let mut next_look = next_overdue.unwrap_or(now + IDLE_LOOK).clamp(now + SECOND_LOOK, now + IDLE_LOOK);
        if overdue.is_empty() {
            self.empty_looks.clear();
            return Ok(next_look);
        }
        let quiet = self.look_at_queues(&overdue).await?;
        for document in overdue {
            if document.receivers.iter().any(|receiver| quiet.contains(receiver)) {
                self.pending.insert((document.name.kind, document.name.key.clone()), Reason::Again);
            }
        }
        let seen_once = self.empty_looks.values().any(|looks| *looks > 0);
        next_look = next_look.min(now + if seen_once { SECOND_LOOK } else { OVERDUE_FIRST });
        Ok(next_look)
    }

    /// The receivers among those that lack something whose queues have now been seen empty often enough.
    async fn look_at_queues(&mut self, overdue: &[&Unheld]) -> anyhow::Result<Vec<Receiver>> {
        let mut quiet = Vec::new();
        for (receiver, queue) in [
            (Receiver::CronDispatcher, Queue::CronDispatcherDocuments),
            (Receiver::CallbackDeliverer, Queue::CallbackDelivererDocuments),
        ] {
            if !overdue.iter().any(|document| document.receivers.contains(&receiver)) {
                self.empty_looks.remove(&receiver);
                continue;
            }
            let depth = self.state.bus.depth(queue).await.context("cannot look at a queue")?;
            let looks = self.empty_looks.entry(receiver).or_default();
            *looks = if depth.ready == 0 { *looks + 1 } else { 0 };
            if *looks >= EMPTY_LOOKS {
                *looks = 0;
                quiet.push(receiver);
            }
        }
        Ok(quiet)
    }

    /// What another replica wrote is overdue by the time that its version names.
    fn overdue_at(&self, document: &Unheld) -> DateTime<Utc> {
        let ours = self.announced.get(&document.name).filter(|ours| ours.version == document.version);
        ours.map_or_else(|| version_time(document.version) + OVERDUE_FIRST, |ours| ours.overdue_at)
    }

    async fn unheld(&self) -> anyhow::Result<Vec<Unheld>> {
        let found = self.state.db.read(|conn| Ok::<_, DatabaseError>(documents::unheld(conn)?)).await;
        found.context("cannot read which documents are held")
    }
}

/// Splits documents into messages of at most [`BATCH_MAX`] documents and [`BATCH_BYTES_MAX`]; a larger one goes alone.
fn batches(found: Vec<Document>) -> Vec<Vec<Document>> {
    let mut batches: Vec<Vec<Document>> = Vec::new();
    let mut room = 0;
    for document in found {
        let size = document.encode().len();
        match batches.last_mut().filter(|batch| size <= room && batch.len() < BATCH_MAX) {
            Some(batch) => {
                room -= size;
                batch.push(document);
            }
            None => {
                room = BATCH_BYTES_MAX.saturating_sub(size);
                batches.push(vec![document]);
            }
        }
    }
    batches
}

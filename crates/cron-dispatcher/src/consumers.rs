//! What the dispatcher hears: documents, starts and answers, and who holds what.
//!
//! Each handler commits before its batch is acknowledged, and each is idempotent: documents by their version, answers
//! by the first one winning, holding by being true already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message, documents_of};
use bytes::Bytes;
use model::crontab::Crontab;
use model::document::{Document, Receiver, Subject};
use model::event::{DocumentsHeld, Event, EventKind, RunStarted, RunsHeld};
use model::run::RunAnswer;
use model::wire::{Wire, decode_event};

use crate::announce::{announce_ended, announce_pieces, stop};
use crate::apply::apply;
use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::judge::Judged;
use crate::store::{runs, ticks};
use crate::{fire, judge, outcome, traces};

fn decode<E: Event>(message: &Message) -> Result<E, DispatchError> {
    Ok(decode_event(message.kind, &message.body)?)
}

/// `document.changed`: applies documents, and says which are held.
pub(crate) struct Documents(pub(crate) Arc<Context>);

#[async_trait]
impl Handler for Documents {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        Ok(self.apply(batch).await?)
    }
}

impl Documents {
    async fn apply(&self, batch: &[Message]) -> Result<(), DispatchError> {
        let context = &self.0;
        let mut documents = Vec::new();
        for message in batch {
            documents.extend(documents_of(message, is_understood)?);
        }
        let held = hold_documents(context, documents).await?;
        if held.documents.is_empty() {
            return Ok(());
        }
        let now = context.clock.now();
        context.bus.publish(vec![Message::new(DocumentsHeld::KIND, NAME, now, held.encode())]).await?;
        Ok(())
    }
}

/// A crontab that only a newer version can read is as good as none.
fn is_understood(document: &Document) -> Result<(), String> {
    let Subject::Agent(agent) = &document.subject else { return Ok(()) };
    Crontab::parse(&agent.schedule.crontab).map(|_| ()).map_err(|error| error.to_string())
}

/// Applies documents, at once and whole: when this returns, a pause is true of every dispatcher and runner.
pub(crate) async fn hold_documents(
    context: &Context,
    documents: Vec<Document>,
) -> Result<DocumentsHeld, DispatchError> {
    let (now, config) = (context.clock.now(), context.config.clone());
    let applied = context.db.write(move |conn| apply(conn, &documents, &config, now)).await?;
    let held = DocumentsHeld { receiver: Receiver::CronDispatcher, documents: applied.held, replanned: Vec::new() };
    stop(context, applied.taken_back).await?;
    fire::tell(context, applied.fired).await?;
    context.schedules_changed.notify_one();
    context.runs_queued.notify_one();
    context.zones_changed.notify_one();
    Ok(held)
}

/// `run.started` and `run.answered`: judges, and announces what ended.
pub(crate) struct Answers(pub(crate) Arc<Context>);

#[async_trait]
impl Handler for Answers {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        Ok(self.judge(batch).await?)
    }
}

impl Answers {
    async fn judge(&self, batch: &[Message]) -> Result<(), DispatchError> {
        let context = &self.0;
        let mut starts: Vec<RunStarted> = Vec::new();
        let mut answers: Vec<(RunAnswer, Bytes)> = Vec::new();
        for message in batch {
            match message.kind {
                EventKind::RunStarted => starts.push(decode(message)?),
                _ => answers.push((decode(message)?, message.body.clone())),
            }
        }
        // An answer implies the start.
        starts.retain(|start| answers.iter().all(|(answer, _)| answer.run_id != start.run_id));

        let origins = traces::origins(context, batch);
        let now = context.clock.now();
        let config = context.config.clone();
        // Each transaction locks its runs in key order. Both in one would lock them in two orders, and two dispatchers
        // wait for each other. A crash in between: the batch comes again, and a start that is noted changes nothing.
        if !starts.is_empty() {
            starts.sort_by_key(|start| start.run_id);
            let config = config.clone();
            let begun = context.db.write(move |conn| judge::take_starts(conn, &starts, &config, now)).await?;
            announce_pieces(context, begun).await?;
        }
        if answers.is_empty() {
            context.schedules_changed.notify_one();
            return Ok(());
        }
        let judged = context.db.write(move |conn| judge::take_answers(conn, &answers, &config, now)).await?;
        let Judged { ended, sent_again } = judged;
        outcome::note(context, &ended, &origins);
        if context.runs_wait.load(Ordering::Relaxed) {
            context.runs_queued.notify_one();
        }
        context.schedules_changed.notify_one();
        let stopped = stop(context, sent_again).await;
        // Not heard, it is announced again when overdue.
        announce_ended(context, &ended).await?;
        stopped
    }
}

/// `runs.held`: forgets what all hold that need it.
pub(crate) struct Held(pub(crate) Arc<Context>);

#[async_trait]
impl Handler for Held {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        Ok(self.hold(batch).await?)
    }
}

impl Held {
    async fn hold(&self, batch: &[Message]) -> Result<(), DispatchError> {
        let held = batch.iter().map(decode::<RunsHeld>).collect::<Result<Vec<_>, _>>()?;
        self.0
            .db
            .write(move |conn| {
                let of = |receiver: Receiver| -> Vec<i64> {
                    let by_it = held.iter().filter(|one| one.receiver == receiver);
                    by_it.flat_map(|one| &one.run_ids).map(|id| id.0).collect()
                };
                // All at once: message by message, two dispatchers might wait for each other.
                runs::hold(conn, &of(Receiver::AgentRegistry), &of(Receiver::CallbackDeliverer))?;
                let ticks: Vec<_> = held.iter().flat_map(|one| one.ticks.iter().copied()).collect();
                ticks::hold(conn, &ticks)?;
                Ok(())
            })
            .await
    }
}

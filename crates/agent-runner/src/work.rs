//! The work of a runner: requests become runs, and all of them end in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{BATCH_BYTES_MAX, BusError, Consumer, Delivery, Subscription};
use futures::future::join_all;
use model::run::{RunReason, RunRequest};
use model::wire::decode_event;
use service_kit::error::chain;
use service_kit::secrets::OpenError;
use service_kit::traces::{Kind, Place};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::answers::{self, Outgoing};
use crate::ask::{ApiKey, Ended};
use crate::in_flight::{Admission, InFlight, Over, key_of};
use crate::join::{join, rejoin};
use crate::missing_keys::MissingKeys;
use crate::runner::{KEY_DELAY, OUTAGE_DELAYS, Parts, hear_cancels};
use crate::slots::{Slot, Slots};
use crate::trace::Trace;

/// After a shutdown whose time is up: how long what is ready to be said still has.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Everything under way. Dropped, all of it stops and the requests go back to their queue.
pub(crate) struct Work {
    parts: Arc<Parts>,
    in_flight: Arc<InFlight>,
    slots: Arc<Slots>,
    missing_keys: MissingKeys,
    runs: JoinSet<()>,
    /// The way out, and the ear for cancels.
    helpers: JoinSet<()>,
    cancels: AbortHandle,
    outgoing: UnboundedSender<Outgoing>,
    settled: UnboundedSender<Vec<Delivery>>,
    /// A dispatcher has named all runs that are to be let go.
    told_all: Arc<Notify>,
}

impl Work {
    pub(crate) fn start(parts: Arc<Parts>, subscription: Subscription) -> Self {
        let in_flight = Arc::new(InFlight::default());
        let slots = Arc::new(Slots::new(parts.config.concurrency));
        let (outgoing, to_publish) = unbounded_channel();
        let (settled, to_acknowledge) = unbounded_channel();
        let mut helpers = JoinSet::new();
        helpers.spawn(answers::publish(Arc::clone(&parts), Arc::clone(&in_flight), to_publish, settled.clone()));
        helpers.spawn(answers::acknowledge(to_acknowledge));
        let told_all = Arc::new(Notify::new());
        let hearing = hear_cancels(subscription, Arc::clone(&in_flight), settled.clone(), Arc::clone(&told_all));
        let rejoining = rejoin(Arc::clone(&parts));
        let cancels = helpers.spawn(async move {
            tokio::select! {
                () = hearing => {}
                () = rejoining => {}
            }
        });
        let missing_keys = MissingKeys::new(parts.keys.clone());
        let runs = JoinSet::new();
        Self { parts, in_flight, slots, missing_keys, runs, helpers, cancels, outgoing, settled, told_all }
    }

    /// Before the first request: learns which runs are to be let go.
    pub(crate) async fn join(&self, shutdown: &CancellationToken) {
        join(&self.parts, &self.told_all, shutdown).await;
    }

    /// Takes requests until shutdown, or until the bus is closed.
    pub(crate) async fn take(&mut self, mut consumer: Consumer, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut outages = 0;
        loop {
            while let Some(ended) = self.runs.try_join_next() {
                check_panic(ended).context("a run panicked")?;
            }
            let slots = Arc::clone(&self.slots);
            let next = async {
                let slot = slots.take().await?;
                let batch = consumer.next_batch(1 + slots.free(), BATCH_BYTES_MAX).await?;
                Some((slot, batch))
            };
            let (slot, batch) = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                // None of them ends before the bus is closed.
                Some(ended) = self.helpers.join_next() => {
                    return check_panic(ended).context("a part of the runner panicked");
                }
                next = next => match next {
                    Some(taken) => taken,
                    None => return Ok(()),
                },
                () = self.missing_keys.unmissed() => {
                    self.missing_keys.forget();
                    continue;
                }
            };
            let keyless = self.begin_all(slot, batch).await;
            if keyless.is_empty() {
                continue;
            }
            // Dropped at a shutdown, it goes on all the same.
            match shutdown.run_until_cancelled(Delivery::put_off_all(keyless, KEY_DELAY)).await {
                Some(Err(error)) => {
                    log_unsettled(Err(error));
                    // They are back in the queue, and come at once.
                    outages += 1;
                    let pause = tokio::time::sleep(OUTAGE_DELAYS.after(outages));
                    let _ = shutdown.run_until_cancelled(pause).await;
                }
                Some(Ok(())) | None => outages = 0,
            }
        }
    }

    /// Begins a run for each request. Returns those that have to wait because the key to their API key is not here.
    async fn begin_all(&mut self, first: Slot, batch: Vec<Delivery>) -> Vec<Delivery> {
        let mut slot = Some(first);
        let mut keyless = Vec::new();
        for delivery in batch {
            let request = match decode_event::<RunRequest>(delivery.message.kind, &delivery.message.body) {
                Ok(request) => request,
                Err(error) => {
                    log_unsettled(delivery.dead_letter(&chain(&error)).await);
                    continue;
                }
            };
            let api_key = self.parts.asker.open_api_key(&request.mentor);
            if let Err(OpenError::UnknownKey(key)) = &api_key
                && self.in_flight.over(key_of(&request.run), &delivery.message).is_none()
            {
                self.missing_keys.missed(request.mentor.id, key, Instant::now());
                keyless.push(delivery);
                continue;
            }
            if api_key.is_ok() {
                self.missing_keys.opened(request.mentor.id);
            }
            // Nobody else takes slots, and no more requests were asked for than there were.
            let Some(slot) = slot.take().or_else(|| self.slots.try_take()) else {
                log_unsettled(delivery.release().await);
                continue;
            };
            self.begin(request, api_key, delivery, slot);
        }
        keyless
    }

    fn begin(&mut self, request: RunRequest, api_key: ApiKey, delivery: Delivery, slot: Slot) {
        let run = key_of(&request.run);
        let traceparent = delivery.message.traceparent.clone();
        // What is logged on the way says whose run it is, and in which trace.
        let span = tracing::info_span!(
            "run", run.id = %run.0, agent.id = %request.run.agent_id, organisation = %request.run.organisation,
            trace_id = Place::tick(run.0).trace_id()
        );
        let task = run_to_answer(RunTask {
            parts: Arc::clone(&self.parts),
            in_flight: Arc::clone(&self.in_flight),
            outgoing: self.outgoing.clone(),
            traceparent,
            slot,
            request,
            api_key,
        })
        .instrument(span);
        match self.in_flight.admit(run, delivery, || self.runs.spawn(task)) {
            Admission::Started => {}
            Admission::Joined => {
                tracing::info!(run.id = %run.0, run.attempt = run.1, "a run in flight was requested again");
            }
            Admission::Over(delivery, over) => {
                let why = match over {
                    Over::Cancelled => "cancelled",
                    Over::Answered => "answered",
                };
                metrics::counter!("carillon_requests_dropped_total", "reason" => why).increment(1);
                tracing::info!(run.id = %run.0, run.attempt = run.1, reason = why, "a request was dropped");
                let _ = self.settled.send(vec![delivery]);
            }
        }
    }

    /// Lets runs in flight end and their answers be confirmed; what is left when `limit` is over goes back.
    pub(crate) async fn drain(self, limit: Duration) {
        let Self { in_flight, mut runs, mut helpers, cancels, outgoing, settled, .. } = self;
        drop(settled);
        let mut last = Some((outgoing, cancels));
        let in_order = async {
            while runs.join_next().await.is_some() {}
            // Nobody answers any more, so the way out ends when it is empty.
            let Some((outgoing, cancels)) = last.take() else { return };
            drop(outgoing);
            cancels.abort();
            while helpers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(limit, in_order).await.is_ok() {
            return;
        }
        let left = in_flight.stop_all();
        tracing::warn!(runs.left = left.len(), "runs did not end in time and go back to their queue");
        for released in join_all(left.into_iter().map(Delivery::release)).await {
            log_unsettled(released);
        }
        let last_words = async {
            while runs.join_next().await.is_some() {}
            if let Some((_, cancels)) = last.take() {
                cancels.abort();
            }
            while helpers.join_next().await.is_some() {}
        };
        // What cannot be said now goes back as well: dropping it is enough.
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    }
}

/// One run and all that it needs.
struct RunTask {
    parts: Arc<Parts>,
    in_flight: Arc<InFlight>,
    outgoing: UnboundedSender<Outgoing>,
    traceparent: Option<String>,
    slot: Slot,
    request: RunRequest,
    api_key: ApiKey,
}

async fn run_to_answer(task: RunTask) {
    let RunTask { parts, in_flight, outgoing, traceparent, slot, request, api_key } = task;
    let run = key_of(&request.run);
    let trace = Trace::of_run(&parts.traces, &parts.clock, &request.run, traceparent.as_deref());
    // Without traces of its own it passes on what came.
    let from = |trace: &Trace| trace.traceparent().or_else(|| traceparent.clone());
    let announce = |started| {
        let message = parts.message(&started, from(&trace));
        let _ = outgoing.send(Outgoing::Started(message));
    };
    let Ended { answer, invoked } = parts.asker.answer(request, api_key, &slot, &trace, announce).await;
    let reason = answer.result.reason.map(RunReason::as_str);
    trace.end("run", Kind::Consumer, |span| span.failed(reason));
    let answering = trace.child();
    let message = parts.message(&answer, from(&answering));
    let invoked = invoked.map(|invoked| parts.message(&invoked, from(&trace)));
    // From here on there is no await: what is taken out is also sent.
    if let Some(deliveries) = in_flight.finish(run) {
        let _ = outgoing.send(Outgoing::Answered { run, message, invoked, deliveries, slot, answering });
    }
}

/// A task that was stopped or ended is well; one that panicked is not.
fn check_panic(ended: Result<(), JoinError>) -> anyhow::Result<()> {
    match ended {
        Err(error) if error.is_panic() => Err(error.into()),
        _ => Ok(()),
    }
}

fn log_unsettled(settled: Result<(), BusError>) {
    if let Err(error) = settled {
        tracing::warn!(error = chain(&error), "a request could not be settled, it comes again");
    }
}

//! The way out: what runs have to say is published, confirmed, and only then are their requests acknowledged.
//!
//! Two tasks, so that acknowledging one batch does not delay the next: each takes whatever has gathered while it was
//! busy, so batches grow with the load and nothing ever waits for a batch to fill.
//!
//! A crash before the confirmation: the requests come again and their mentors are asked again. A crash after it and
//! before the acknowledgement: the same, and the judge drops the second answer, as the service registry does what it has
//! counted. Without a crash a mentor is never
//! asked again: while the bus is away the answers wait here, and they hold the slots of their runs, so that no more is
//! taken on than can be kept.

use std::sync::Arc;

use bus::{BATCH_BYTES_MAX, BATCH_MAX, Bus, Delivery, Message, PublishError};
use service_kit::admin::Condition;
use service_kit::error::chain;
use service_kit::traces::Kind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::in_flight::{InFlight, RunKey};
use crate::runner::{OUTAGE_DELAYS, Parts};
use crate::slots::Slot;
use crate::trace::Trace;

/// What a run has to say. There are never more than two for each slot.
pub(crate) enum Outgoing {
    /// It has begun, and it lasts.
    Started(Message),
    /// It has ended.
    Answered {
        /// Whose answer it is.
        run: RunKey,
        /// The answer.
        message: Message,
        /// What its run did with services, if it was offered any: confirmed together with the answer.
        invoked: Option<Message>,
        /// To be acknowledged once that is confirmed.
        deliveries: Vec<Delivery>,
        /// Free again then.
        slot: Slot,
        /// Ends when it is confirmed.
        answering: Trace,
    },
}

impl Outgoing {
    /// One, or two that are confirmed together.
    fn messages(&self) -> impl Iterator<Item = &Message> {
        let (message, invoked) = match self {
            Self::Started(message) => (message, None),
            Self::Answered { message, invoked, .. } => (message, invoked.as_ref()),
        };
        std::iter::once(message).chain(invoked)
    }

    fn bytes(&self) -> usize {
        self.messages().map(|message| message.body.len()).sum()
    }
}

/// Publishes what comes until nobody sends any more, or the bus is closed.
pub(crate) async fn publish(
    parts: Arc<Parts>,
    in_flight: Arc<InFlight>,
    mut outgoing: UnboundedReceiver<Outgoing>,
    confirmed: UnboundedSender<Vec<Delivery>>,
) {
    let mut next = None;
    while let Some(batch) = gather(&mut outgoing, &mut next).await {
        if !publish_until_confirmed(&*parts.bus, &parts.publishing, &batch).await {
            return;
        }
        let now = parts.clock.now();
        let deliveries = batch.into_iter().flat_map(|item| match item {
            Outgoing::Started(_) => Vec::new(),
            Outgoing::Answered { run, mut deliveries, slot, answering, .. } => {
                answering.end("answer", Kind::Producer, |span| span);
                drop(slot);
                in_flight.confirmed(run, &mut deliveries, now);
                deliveries
            }
        });
        // Who is gone has given up on acknowledging: then they come again.
        let _ = confirmed.send(deliveries.collect());
    }
}

/// Waits for one, and takes with it what else is there; `next` keeps what found no room.
async fn gather(outgoing: &mut UnboundedReceiver<Outgoing>, next: &mut Option<Outgoing>) -> Option<Vec<Outgoing>> {
    let first = match next.take() {
        Some(kept) => kept,
        None => outgoing.recv().await?,
    };
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX
        && let Ok(item) = outgoing.try_recv()
    {
        bytes += item.bytes();
        if bytes > BATCH_BYTES_MAX {
            *next = Some(item);
            break;
        }
        batch.push(item);
    }
    Some(batch)
}

/// Publishes the same messages until they are confirmed; false: the bus is closed.
async fn publish_until_confirmed(bus: &dyn Bus, ready: &Condition, batch: &[Outgoing]) -> bool {
    let mut failures = 0;
    loop {
        let messages = batch.iter().flat_map(Outgoing::messages).cloned().collect();
        match bus.publish(messages).await {
            Ok(()) => {
                ready.met();
                return true;
            }
            Err(PublishError::Closed) => return false,
            // Nothing here can be unroutable or too large; were it so, being stuck and not ready is how one learns it.
            Err(error) => {
                failures += 1;
                ready.unmet("answers cannot be published: the bus is away");
                tracing::warn!(
                    answers = batch.len(),
                    failures,
                    error = chain(&error),
                    "cannot publish answers, trying again"
                );
                tokio::time::sleep(OUTAGE_DELAYS.after(failures)).await;
            }
        }
    }
}

/// Acknowledges what comes until nobody sends any more.
pub(crate) async fn acknowledge(mut confirmed: UnboundedReceiver<Vec<Delivery>>) {
    while let Some(mut deliveries) = confirmed.recv().await {
        while let Ok(more) = confirmed.try_recv() {
            deliveries.extend(more);
        }
        let requests = deliveries.len();
        if let Err(error) = Delivery::ack_all(deliveries).await {
            tracing::warn!(requests, error = chain(&error), "cannot acknowledge requests, they come again");
        }
    }
}

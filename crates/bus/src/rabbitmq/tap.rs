//! One channel that delivers from one queue: what came and is not handed out yet, what is in hand, and how it is
//! settled.
//!
//! Delivery tags mean nothing but on their channel, so everything here ends with it: what is settled later fails, and
//! the broker delivers it again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, message, options};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Shared;
use super::envelope::{self, Envelope, Unreadable};
use super::prefetch::{Change, Prefetch, Sizes};
use super::publisher::{publish, started};
use super::session::Session;
use crate::consumer::{Delivery, Lease, Settlement, Settler, Verdict, count_dead_letter};
use crate::error::BusError;
use crate::message::Message;
use crate::topology::Queue;

/// How long a message of a kind that this version does not know is put off, again and again: long enough to be no load,
/// and soon enough for the newer version that knows it.
const UNKNOWN_KIND_DELAY: Duration = Duration::from_secs(8);

/// A channel that delivers.
pub(super) struct Tap {
    /// Itself: one settler for all that it hands out, so that they are settled together.
    me: Weak<Self>,
    pub(super) queue: Queue,
    shared: Arc<Shared>,
    channel: Channel,
    /// Keeps the connection while anything of it is in hand.
    _session: Arc<Session>,
    state: Mutex<State>,
    arrived: Notify,
    taken: Notify,
    countings: mpsc::Sender<oneshot::Sender<()>>,
}

/// Who has a tap takes from it; dropped, the tap is closed, and what was not handed out goes back.
pub(super) struct OpenTap {
    pub(super) tap: Arc<Tap>,
    _stop: DropGuard,
}

struct State {
    /// Came, and was not handed out.
    pending: VecDeque<message::Delivery>,
    /// How large they are.
    sizes: Sizes,
    /// Takes no more, so that the next tap has another prefetch: ends once nothing is pending.
    change: Option<Change>,
    /// Every tag that is not settled, of `pending` too.
    unsettled: BTreeSet<u64>,
    ended: bool,
}

impl Tap {
    /// Starts to consume.
    pub(super) async fn open(
        shared: Arc<Shared>,
        session: Arc<Session>,
        queue: Queue,
        prefetch: Prefetch,
    ) -> lapin::Result<OpenTap> {
        let channel = session.connection.create_channel().await?;
        channel.basic_qos(prefetch.present(), BasicQosOptions::default()).await?;
        let (name, tag) = (shared.names.queue(queue), ShortString::default());
        let deliveries =
            channel.basic_consume(name, tag, BasicConsumeOptions::default(), FieldTable::default()).await?;
        let (countings, counting) = mpsc::channel(1);
        let sizes = Sizes::new(prefetch);
        let state = State { pending: VecDeque::new(), sizes, change: None, unsettled: BTreeSet::new(), ended: false };
        let (state, arrived, taken) = (Mutex::new(state), Notify::new(), Notify::new());
        let tap = |me: &Weak<Self>| Self {
            me: me.clone(),
            queue,
            shared,
            channel,
            _session: session,
            state,
            arrived,
            taken,
            countings,
        };
        let tap = Arc::new_cyclic(tap);
        tap.shared.add_tap(&tap);
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&tap).pump(deliveries, counting, stop.clone()));
        Ok(OpenTap { tap, _stop: stop.drop_guard() })
    }

    /// Moves what comes to where it can be counted, until the channel ends or nobody wants it any more.
    async fn pump(
        self: Arc<Self>,
        mut deliveries: lapin::Consumer,
        mut countings: mpsc::Receiver<oneshot::Sender<()>>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                next = deliveries.next() => match next {
                    Some(Ok(delivery)) => self.keep(delivery),
                    Some(Err(_)) | None => return self.end(),
                },
                Some(counted) = countings.recv() => {
                    while let Some(Some(Ok(delivery))) = deliveries.next().now_or_never() {
                        self.keep(delivery);
                    }
                    let _ = counted.send(());
                }
                () = stop.cancelled() => break,
                () = self.shared.closing.cancelled() => break,
            }
            if self.change().is_some() {
                break;
            }
        }
        let cancelled = self.channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await;
        // Everything that was sent before the broker heard of it is here now.
        while let Some(Some(Ok(delivery))) = deliveries.next().now_or_never() {
            self.keep(delivery);
        }
        if cancelled.is_ok() {
            // Whoever counts need not wait for what follows.
            drop(countings);
            // What found room is handed out before the next tap is opened, unless nobody wants it any more.
            tokio::select! {
                () = self.emptied(), if self.change().is_some() => {}
                () = stop.cancelled() => {}
                () = self.shared.closing.cancelled() => {}
            }
            self.give_back_pending();
        }
        self.end();
    }

    /// Keeps what came, or has the broker have it again if there is no room.
    fn keep(&self, delivery: message::Delivery) {
        let mut state = self.lock();
        let (tag, bytes) = (delivery.delivery_tag, delivery.data.len());
        state.unsettled.insert(tag);
        if state.sizes.has_room(bytes) {
            let change = state.sizes.came(bytes);
            state.change = state.change.or(change);
            state.pending.push_back(delivery);
        } else {
            state.change = Some(Change::Narrower);
            self.requeue(&mut state, tag);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Nothing comes any more. What was not handed out, the broker has again.
    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        for delivery in std::mem::take(&mut state.pending) {
            state.unsettled.remove(&delivery.delivery_tag);
        }
        drop(state);
        self.arrived.notify_one();
    }

    fn give_back_pending(&self) {
        let mut state = self.lock();
        for delivery in std::mem::take(&mut state.pending) {
            self.requeue(&mut state, delivery.delivery_tag);
        }
    }

    /// Returns when nothing is pending.
    async fn emptied(&self) {
        loop {
            let taken = self.taken.notified();
            if self.lock().pending.is_empty() {
                return;
            }
            taken.await;
        }
    }

    /// Waits for messages and hands them out; `None` when the channel has ended. Dropping the future loses nothing.
    pub(super) async fn take(self: &Arc<Self>, max: usize, max_bytes: usize) -> Option<Vec<Delivery>> {
        loop {
            let arrived = self.arrived.notified();
            let batch = self.take_now(max, max_bytes)?;
            if !batch.is_empty() {
                return Some(batch);
            }
            arrived.await;
        }
    }

    fn take_now(self: &Arc<Self>, max: usize, max_bytes: usize) -> Option<Vec<Delivery>> {
        let mut state = self.lock();
        if state.ended {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0_usize);
        while batch.len() < max {
            let Some(first) = state.pending.front() else { break };
            bytes = bytes.saturating_add(first.data.len());
            if !batch.is_empty() && bytes > max_bytes {
                break;
            }
            let Some(delivery) = state.pending.pop_front() else { break };
            state.sizes.went(delivery.data.len());
            batch.extend(self.hand_out(delivery));
        }
        if !batch.is_empty() && !state.pending.is_empty() {
            self.arrived.notify_one();
        }
        self.taken.notify_one();
        Some(batch)
    }

    /// `None` for what cannot be read: it becomes a dead letter, or is put off if a newer version may know it.
    fn hand_out(self: &Arc<Self>, delivery: message::Delivery) -> Option<Delivery> {
        let tag = delivery.delivery_tag;
        self.shared.in_hand.send_modify(|count| *count += 1);
        match envelope::open(&delivery.properties) {
            Ok((message, failures)) => {
                let message = Message { body: delivery.data.into(), ..message };
                let lease = Lease::new(self.queue, tag, Arc::<Self>::clone(self));
                Some(Delivery::new(message, failures, delivery.redelivered, lease))
            }
            Err(unreadable) => {
                let tap = Arc::clone(self);
                tokio::spawn(async move {
                    match unreadable {
                        Unreadable::UnknownKind(kind) => tap.put_off_unread(delivery, kind).await,
                        Unreadable::Broken(reason) => tap.bury_unread(delivery, &reason).await,
                    }
                });
                None
            }
        }
    }

    /// In a rolling upgrade a queue has what only the newer version knows, and hands it to either. As it came it waits
    /// for the newer one.
    async fn put_off_unread(&self, delivery: message::Delivery, kind: String) {
        let (tag, queue) = (delivery.delivery_tag, self.queue);
        if let Some(since) = envelope::put_off_too_long(&delivery) {
            let unknown = Unreadable::UnknownKind(kind);
            return self.bury_unread(delivery, &format!("{unknown}, and no other has taken it since {since}")).await;
        }
        if self.shared.is_first_of_kind(&kind) {
            tracing::warn!(%queue, message.kind = kind, "message of a kind that this version does not know, put off for a newer one");
        }
        let name = self.shared.names.retry(queue, UNKNOWN_KIND_DELAY);
        let envelope = Envelope::put_off_unread(name, delivery, UNKNOWN_KIND_DELAY);
        let _in_hand = InHand { shared: Arc::clone(&self.shared), count: 1 };
        // On an error it is back in its queue, and comes again.
        let _ = self.move_away(vec![envelope], vec![tag]).await;
    }

    async fn bury_unread(&self, delivery: message::Delivery, reason: &str) {
        let (tag, queue) = (delivery.delivery_tag, self.queue);
        tracing::error!(%queue, reason, "message cannot be read, now a dead letter");
        let exchange = self.shared.names.dead_letters.clone();
        let envelope = Envelope::dead_unread(exchange, queue, delivery, reason);
        let _in_hand = InHand { shared: Arc::clone(&self.shared), count: 1 };
        // On an error it is back in its queue, and comes again.
        if self.move_away(vec![envelope], vec![tag]).await.is_ok() {
            count_dead_letter(queue);
        }
    }

    /// Publishes elsewhere, then acknowledges: a crash in between leaves a message twice, never not at all.
    async fn move_away(&self, envelopes: Vec<Envelope>, tags: Vec<u64>) -> Result<(), BusError> {
        if !self.channel.status().connected() {
            // The broker has them again already; to publish them elsewhere would only double them.
            return Err(BusError::Unavailable("the connection that brought the message was lost".into()));
        }
        match publish(&self.shared.publishing, envelopes).await {
            Ok(()) => self.acknowledge(tags).await,
            Err(error) => {
                self.give_back_all(&tags);
                Err(error)
            }
        }
    }

    fn give_back_all(&self, tags: &[u64]) {
        let mut state = self.lock();
        for tag in tags {
            self.requeue(&mut state, *tag);
        }
    }

    /// Acknowledges with as few frames as it takes, and returns when they are on the wire.
    async fn acknowledge(&self, mut tags: Vec<u64>) -> Result<(), BusError> {
        tags.sort_unstable();
        let sent: Vec<_> = {
            let mut state = self.lock();
            let all_up_to = settled_together(&state.unsettled, &tags);
            for tag in &tags {
                state.unsettled.remove(tag);
            }
            let ack = |tag, multiple| {
                let channel = self.channel.clone();
                started(async move { channel.basic_ack(tag, BasicAckOptions { multiple }).await })
            };
            let together = all_up_to.map(|tag| ack(tag, true));
            let alone = tags.iter().filter(|tag| all_up_to.is_none_or(|up_to| **tag > up_to));
            together.into_iter().chain(alone.map(|tag| ack(*tag, false))).collect()
        };
        for ack in sent {
            ack.await.map_err(|error| BusError::Unavailable(error.into()))?;
        }
        Ok(())
    }

    /// Back to the queue. The frame is queued when this returns.
    fn requeue(&self, state: &mut MutexGuard<'_, State>, tag: u64) {
        if state.unsettled.remove(&tag) {
            let channel = self.channel.clone();
            let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            drop(started(async move { channel.basic_nack(tag, options).await }));
        }
    }

    /// How many messages the broker counts as handed out here. Every one that it had sent when this was called is
    /// counted, though it may still have been on its way.
    pub(super) async fn unsettled(&self) -> usize {
        // The answer comes behind whatever the broker sent before on this channel.
        let options = options::QueueDeclareOptions { passive: true, ..options::QueueDeclareOptions::default() };
        let name = self.shared.names.queue(self.queue);
        if self.channel.queue_declare(name, options, FieldTable::default()).await.is_ok() {
            let (sender, counted) = oneshot::channel();
            if self.countings.send(sender).await.is_ok() {
                let _ = counted.await;
            }
        }
        self.lock().unsettled.len()
    }

    /// Why it takes no more, if the next one should have another prefetch.
    pub(super) fn change(&self) -> Option<Change> {
        self.lock().change
    }

    /// Whether nothing comes any more.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The greatest of these tags up to which nothing else is unsettled: one acknowledgement is enough for all those. Both
/// in order.
fn settled_together(unsettled: &BTreeSet<u64>, tags: &[u64]) -> Option<u64> {
    unsettled.iter().zip(tags).take_while(|(unsettled, tag)| unsettled == tag).last().map(|(_, tag)| *tag)
}

#[async_trait]
impl Settler for Tap {
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), BusError> {
        let in_hand = InHand { shared: Arc::clone(&self.shared), count: settlements.len() };
        let names = &self.shared.names;
        let (mut acks, mut moved, mut envelopes) = (Vec::new(), Vec::new(), Vec::new());
        for Settlement { tag, message, failures, verdict } in settlements {
            let counted = failures.saturating_add(1);
            match verdict {
                Verdict::Ack => acks.push(tag),
                Verdict::Release => self.give_back_all(&[tag]),
                Verdict::RetryLater { delay } => {
                    moved.push(tag);
                    envelopes.push(Envelope::later(names.retry(self.queue, delay), &message, counted, delay));
                }
                Verdict::PutOff { delay } => {
                    moved.push(tag);
                    envelopes.push(Envelope::later(names.retry(self.queue, delay), &message, failures, delay));
                }
                Verdict::DeadLetter { reason } => {
                    let exchange = names.dead_letters.clone();
                    moved.push(tag);
                    envelopes.push(Envelope::dead(exchange, self.queue, &message, counted, &reason));
                }
            }
        }
        let acknowledged = if acks.is_empty() { Ok(()) } else { self.acknowledge(acks).await };
        // Whoever calls this has it from an `Arc`.
        let Some(tap) = self.me.upgrade().filter(|_| !moved.is_empty()) else { return acknowledged };
        // Goes on though the caller may not wait for it.
        let moving = tokio::spawn(async move {
            let _in_hand = in_hand;
            tap.move_away(envelopes, moved).await
        });
        acknowledged.and(moving.await.unwrap_or(Err(BusError::Closed)))
    }

    fn give_back(&self, tag: u64) {
        let _in_hand = InHand { shared: Arc::clone(&self.shared), count: 1 };
        self.give_back_all(&[tag]);
    }
}

/// So many messages that were handed out; dropped, they are settled.
struct InHand {
    shared: Arc<Shared>,
    count: usize,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.shared.in_hand.send_modify(|count| *count -= self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acknowledgement_covers_what_nothing_unsettled_comes_before() {
        let unsettled = BTreeSet::from([3, 4, 6, 7, 9]);
        assert_eq!(settled_together(&unsettled, &[3, 4, 6, 7, 9]), Some(9));
        assert_eq!(settled_together(&unsettled, &[3, 4, 7]), Some(4));
        assert_eq!(settled_together(&unsettled, &[3]), Some(3));
        assert_eq!(settled_together(&unsettled, &[4, 6]), None);
        assert_eq!(settled_together(&BTreeSet::new(), &[4]), None);
    }
}

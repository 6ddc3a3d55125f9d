//! What every bus promises, as tests that know only [`Bus`]. An implementation is held to all of them by an
//! [`Installation`] and one line: `contract_suite!(MyInstallation);`.
//!
//! Asserted is only what every implementation can keep: a batch may be smaller than what waits, a retry may come later
//! than asked, and what comes back may come in another order.

pub mod broadcast;
pub mod close;
pub mod consume;
pub mod dead_letters;
pub mod handler;
pub mod outage;
pub mod publish;
pub mod settle;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Depth, Message, Queue};
use chrono::{DateTime, Utc};
use model::event::EventKind;

/// One bus with all that it stores, empty at first, used by one test only.
#[async_trait]
pub trait Installation: Send + Sync + Sized {
    /// Makes it.
    async fn new() -> Self;

    /// Opens the bus, for the first time or after it was closed.
    async fn open(&self) -> Arc<dyn Bus>;

    /// Ends the bus as a crash does, with nothing said or written any more, and opens it again.
    async fn crash_and_reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus>;
}

/// Expands to every test of the contract.
macro_rules! contract_suite {
    ($installation:ty) => {
        contract_suite! { @modules $installation;
            publish {
                a_publish_is_durable_when_it_returns,
                a_changed_document_reaches_both_queues_bound_to_it,
                what_no_queue_is_bound_to_cannot_be_published,
                a_body_too_large_for_a_broker_is_refused,
                an_empty_body_and_a_large_one_arrive_as_they_were_sent,
            }
            consume {
                messages_come_in_the_order_of_their_publishing,
                a_batch_keeps_to_its_bounds,
                a_waiting_consumer_gets_what_is_published_later,
                a_consumer_never_has_more_unacknowledged_than_its_prefetch,
                large_messages_do_not_all_come_ahead,
                unacknowledged_messages_return_when_their_consumer_is_dropped,
                a_consumer_that_stops_waiting_loses_nothing,
                several_consumers_share_a_queue_without_a_message_going_to_two,
                every_message_arrives_exactly_once_when_nothing_crashes,
            }
            settle {
                an_acknowledged_message_is_gone_for_good,
                many_messages_are_acknowledged_in_one_call,
                a_delivery_outlives_its_consumer,
                a_retried_message_comes_back_after_its_delay_with_one_more_failure,
                failures_survive_a_crash,
                a_released_message_returns_uncounted,
                a_message_is_put_off_as_often_as_it_takes_and_nothing_is_counted,
                depth_tells_ready_unacknowledged_and_delayed_apart,
            }
            dead_letters {
                a_dead_letter_is_kept_with_its_reason,
                requeued_dead_letters_come_again_as_if_new,
                discarded_dead_letters_are_gone,
            }
            broadcast {
                a_broadcast_reaches_every_subscriber,
                a_broadcast_is_not_stored,
                subscriptions_end_when_the_bus_is_closed,
            }
            close {
                closing_hands_out_nothing_more_and_waits_for_what_is_in_hand,
                closing_loses_nothing,
                a_closed_bus_says_so,
            }
            handler {
                handled_messages_are_acknowledged,
                what_comes_soon_after_a_batch_is_gathered,
                a_handler_that_panics_takes_no_neighbour_with_it_and_never_spins,
                a_rejected_message_is_a_dead_letter_at_once,
                a_failed_batch_is_retried_one_by_one,
                twenty_failures_end_in_a_dead_letter,
                the_loop_ends_when_the_bus_is_closed,
            }
            outage {
                a_batch_is_kept_while_something_is_unavailable,
                an_outage_is_not_counted,
                one_that_is_cut_off_keeps_at_most_one_message_from_the_others,
                shutdown_finishes_the_batch_in_hand_and_takes_nothing_new,
                shutdown_during_an_outage_gives_the_batch_back,
            }
        }
    };
    (@modules $installation:ty; $($module:ident { $($test:ident,)+ })+) => {
        $(mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::contract::$module::$test(<$installation as crate::contract::Installation>::new().await).await;
                }
            )+
        })+
    };
}
pub(crate) use contract_suite;

/// A queue that is bound to one kind of event, as most are.
pub const QUEUE: Queue = Queue::AgentRunnerRuns;

/// No bound on the bytes of a batch.
pub const ANY_BYTES: usize = usize::MAX;

/// Far more than anything here takes: who waits so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what must happen.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("what must happen did not happen in time")
}

/// Waits for what must not happen.
pub async fn never<T>(future: impl Future<Output = T>) {
    let happened = tokio::time::timeout(Duration::from_millis(150), future).await.is_ok();
    assert!(!happened, "what must not happen happened");
}

/// Waits until the queue is as described.
pub async fn depth_becomes(bus: &dyn Bus, queue: Queue, expected: Depth) {
    let mut last = Depth::default();
    let matches = async {
        loop {
            last = bus.depth(queue).await.unwrap();
            if last == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, matches).await.is_ok();
    assert!(in_time, "{queue} is {last:?}, and was to become {expected:?}");
}

/// The message number `n` for [`QUEUE`].
pub fn run_requested(n: usize) -> Message {
    message(EventKind::RunRequested, n.to_string())
}

/// That many numbered messages for [`QUEUE`].
pub fn runs_requested(count: usize) -> Vec<Message> {
    (0..count).map(run_requested).collect()
}

/// A message with every attribute.
pub fn message(kind: EventKind, body: impl Into<bytes::Bytes>) -> Message {
    let time: DateTime<Utc> = "2026-11-05T08:30:00.123456Z".parse().unwrap();
    let mut message = Message::new(kind, "cron-dispatcher", time, body);
    message.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    message
}

/// The numbers of messages made by [`run_requested`].
pub fn numbers<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<usize> {
    messages.into_iter().map(number).collect()
}

/// The number of a message made by [`run_requested`].
pub fn number(message: &Message) -> usize {
    std::str::from_utf8(&message.body).unwrap().parse().unwrap()
}

/// Takes exactly so many messages, in as many batches as it needs.
pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(soon(consumer.next_batch(count - taken.len(), ANY_BYTES)).await.expect("the bus is open"));
    }
    taken
}

/// The messages of deliveries.
pub fn messages(deliveries: &[Delivery]) -> Vec<Message> {
    deliveries.iter().map(|delivery| delivery.message.clone()).collect()
}

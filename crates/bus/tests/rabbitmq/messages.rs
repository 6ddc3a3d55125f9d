//! What is in the queues: foreign messages, delays, the broker's own limit.

use std::time::Duration;

use bus::{Depth, Queue};
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use crate::contract::{Installation, QUEUE, depth_becomes, messages, numbers, run_requested, runs_requested, take};
use crate::installation::RabbitMqInstallation;

/// Publishes what no microservice of ours would.
async fn publish_foreign(channel: &Channel, queue: &str, headers: &[(&'static str, &str)], body: &[u8]) {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    let properties = BasicProperties::default().with_headers(table).with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
    assert!(sent.await.unwrap().take_message().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_dead_letter_with_its_reason_and_what_may_be_read_by_a_newer_version_waits_for_it() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let channel = installation.connect().await.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let queue = &installation.queues(QUEUE)[0];
    let unknown = |since| {
        [
            ("cloudEvents:id", "01890a5d-ac96-774b-bcce-b302099a8057"),
            ("cloudEvents:type", "run.dreamt"),
            ("cloudEvents:source", "a runner in another language"),
            ("cloudEvents:time", "2026-11-05T08:30:00Z"),
            ("carillon-postponed-since", since),
        ]
    };
    let long_ago = "2026-11-05T08:30:00.000000Z";
    bus.publish(vec![run_requested(0)]).await.unwrap();
    publish_foreign(&channel, queue, &[], b"who am I?").await;
    publish_foreign(&channel, queue, &unknown(long_ago), b"something else").await;
    publish_foreign(&channel, queue, &unknown("")[..4], b"dream").await;
    bus.publish(vec![run_requested(1)]).await.unwrap();

    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let taken = take(&mut consumer, 2).await;
    assert_eq!(numbers(&messages(&taken)), [0, 1]);
    bus::Delivery::ack_all(taken).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { delayed: 1, ..Depth::default() }).await;
    let retry = format!("{queue}.retry.8s");
    let put_off = channel.basic_get(retry.into(), BasicGetOptions::default()).await.unwrap().unwrap().delivery;
    assert_eq!(put_off.data, b"dream");
    let headers = put_off.properties.headers().clone().unwrap();
    for (name, value) in &unknown("")[..4] {
        assert_eq!(headers.inner()[*name], AMQPValue::LongString((*value).into()), "{name}");
    }
    assert!(headers.contains_key("carillon-postponed-since"));
    put_off.acker.ack(BasicAckOptions::default()).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth::default()).await;

    let mut dead = bus.dead_letters(QUEUE, 10).await.unwrap();
    dead.sort_by_key(|dead| dead.message.body.len());
    let reasons: Vec<_> = dead.iter().map(|dead| dead.reason.as_str()).collect();
    let too_long =
        format!("`run.dreamt` is no type that this version knows, and no other has taken it since {long_ago}");
    assert_eq!(reasons, ["the header `cloudEvents:id` is missing", &too_long]);
    assert_eq!(dead[1].message.source, "a runner in another language");

    // A newer version might know it: sent back, it is as it came.
    drop(consumer);
    assert_eq!(bus.requeue_dead_letters(QUEUE).await.unwrap(), 2);
    depth_becomes(&*bus, QUEUE, Depth { ready: 2, ..Depth::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_delay_does_not_block_a_short_one() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    bus.publish(runs_requested(5)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    // The next shortest is so much longer that a busy machine does not make up for it.
    for (delivery, millis) in take(&mut consumer, 5).await.into_iter().zip([3_600_000, 600_000, 64_000, 30_000, 300]) {
        delivery.retry_later(Duration::from_millis(millis), "a mentor was asleep").await.unwrap();
    }
    let first = take(&mut consumer, 1).await;
    assert_eq!(numbers(&messages(&first)), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_at_dead_letters_never_uses_them_up() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    bus.publish(vec![run_requested(7)]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 1).await.unwrap();
    take(&mut consumer, 1).await.remove(0).dead_letter("the mentor is unknown").await.unwrap();
    for _ in 0..250 {
        assert_eq!(bus.dead_letters(QUEUE, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_handed_out_for_ever_is_given_up_by_the_broker_at_last() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    bus.publish(vec![run_requested(7)]).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 1).await.unwrap();
    for _ in 0..=200 {
        take(&mut consumer, 1).await.remove(0).release().await.unwrap();
    }
    crate::contract::soon(async {
        while bus.dead_letters(QUEUE, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let dead = bus.dead_letters(QUEUE, 10).await.unwrap().remove(0);
    assert_eq!((numbers([&dead.message]), dead.failures), (vec![7], 0));
    assert_eq!(dead.reason, "given up by the broker: delivery_limit");
    assert!(dead.time > chrono::DateTime::UNIX_EPOCH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_buses_in_one_virtual_host_share_only_what_has_the_same_prefix() {
    let installation = RabbitMqInstallation::new().await;
    let other = RabbitMqInstallation::new().await;
    let (bus, other) = (installation.open().await, other.open().await);
    bus.publish(vec![run_requested(1)]).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 1, ..Depth::default() }).await;
    for queue in Queue::ALL {
        assert!(other.depth(queue).await.unwrap().is_empty());
    }
}

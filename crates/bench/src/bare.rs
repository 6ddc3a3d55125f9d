//! What the machine does at most: the same work by a program that does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aws_lc_rs::hmac;
use futures::{StreamExt, TryStreamExt, stream};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

use crate::pace;
use crate::sample::Summary;
use crate::sink::{SIGNATURE, Sink, signing_key};

/// Bytes of a body.
pub(crate) const BODY_BYTES: usize = 1024;
/// Publishes that wait for their confirms.
pub(crate) const CONFIRMS_WAITING: usize = 500;

/// POSTs per second of signed bodies, so many at once, to a sink that answers after `delay`.
pub(crate) async fn posts(sink: &Sink, count: usize, at_once: usize, delay: Duration) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let (key, next) = (signing_key(), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let posting = (0..at_once).map(|number| {
        let (client, key, next, url) = (client.clone(), key.clone(), Arc::clone(&next), sink.url(number, delay));
        tokio::spawn(async move {
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= count {
                    return anyhow::Ok(());
                }
                let body = callback(i64::try_from(id)?);
                let signature = format!("sha256={}", hex::encode(hmac::sign(&key, body.as_bytes())));
                let answer = client.post(&url).header(SIGNATURE, signature).body(body).send().await?;
                ensure!(answer.status().is_success(), "the sink answered {}", answer.status());
            }
        })
    });
    for one in futures::future::join_all(posting).await {
        one??;
    }
    let received = sink.take(count, Duration::from_secs(5)).await?;
    Ok(per_second(count, received.last()? - began))
}

/// A body as large as a callback.
pub(crate) fn callback(id: i64) -> String {
    format!("{{\"agent_output\":\"{}\",\"log_id\":{id}}}", "o".repeat(BODY_BYTES - 40))
}

/// A channel with confirms, and a quorum queue of its own.
pub(crate) async fn channel_with_queue(url: &str, queue: &str) -> anyhow::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

pub(crate) async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> anyhow::Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    confirmed(&channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?)
}

fn confirmed(confirm: &Confirmation) -> anyhow::Result<()> {
    ensure!(matches!(confirm, Confirmation::Ack(None)), "not confirmed: {confirm:?}");
    Ok(())
}

/// What a message is besides its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing, straight to its queue.
    Plain,
    /// An event as the bus publishes it: five CloudEvents attributes as headers, by way of a direct exchange.
    Event,
}

/// Messages per second published to a quorum queue with confirms, hundreds of which are waited for at a time.
pub(crate) async fn publishes(url: &str, count: usize, shape: Shape) -> anyhow::Result<f64> {
    let (queue, events, kind) = ("bench.publishes", "bench.events", "run.requested");
    let (connection, channel) = channel_with_queue(url, queue).await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(events.into(), ExchangeKind::Direct, options, FieldTable::default()).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), events.into(), kind.into(), options, FieldTable::default()).await?;
    let (exchange, routing_key) = if shape == Shape::Event { (events, kind) } else { ("", queue) };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let body = vec![b'b'; BODY_BYTES];
    let began = Instant::now();
    let publishing = stream::iter(0..count).map(|number| {
        let properties = if shape == Shape::Event {
            properties.clone().with_headers(attributes(number))
        } else {
            properties.clone()
        };
        let options = BasicPublishOptions { mandatory: shape == Shape::Event, ..BasicPublishOptions::default() };
        let sending = channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties);
        async { confirmed(&sending.await?.await?) }
    });
    publishing.buffer_unordered(CONFIRMS_WAITING).try_collect::<Vec<()>>().await?;
    let rate = per_second(count, began.elapsed());
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    channel.exchange_delete(events.into(), ExchangeDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(rate)
}

fn attributes(number: usize) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("cloudEvents:specversion", "1.0".to_owned()),
        ("cloudEvents:id", format!("00000000-0000-7000-8000-{number:012}")),
        ("cloudEvents:type", "run.requested".to_owned()),
        ("cloudEvents:source", "cron-dispatcher".to_owned()),
        ("cloudEvents:time", "2026-01-01T00:00:00.000000Z".to_owned()),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    headers
}

/// How long a message takes through a quorum queue, at so many a second.
pub(crate) async fn hop(url: &str, rate: u32, duration: Duration) -> anyhow::Result<Summary> {
    let queue = "bench.hop";
    let (connection, channel) = channel_with_queue(url, queue).await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let consuming = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "hop".into(), consuming, FieldTable::default()).await?;
    let (began, count) = (Instant::now(), pace::count(rate, duration));
    let receiving = tokio::spawn(async move {
        let mut times = Vec::with_capacity(count);
        while times.len() < count {
            let delivery = consumer.next().await.context("the consumer ended")??;
            let sent = Duration::from_nanos(u64::from_le_bytes(delivery.data[..8].try_into()?));
            times.push(began.elapsed().saturating_sub(sent));
            delivery.ack(BasicAckOptions::default()).await?;
        }
        // Dropped, it would be cancelled beside the queue's end, which this broker does not survive.
        anyhow::Ok((times, consumer))
    });
    pace::at_rate(rate, duration, |_| {
        let channel = channel.clone();
        async move {
            let mut body = vec![b'b'; BODY_BYTES];
            let sent = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            body[..8].copy_from_slice(&sent.to_le_bytes());
            publish(&channel, queue, &body).await
        }
    })
    .await?;
    let received = tokio::time::timeout(Duration::from_secs(10), receiving).await;
    let (times, _consumer) = received.context("messages are missing")???;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(Summary::of(times))
}

/// How many a second that is.
pub(crate) fn per_second(count: usize, duration: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / duration.as_secs_f64()
}

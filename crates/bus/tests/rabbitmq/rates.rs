//! How fast it is. To be run in a release build, with nothing else going on:
//! `deploy/local/services.sh run cargo test --release -p bus --test rabbitmq -- --ignored --nocapture rates`.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::rabbitmq::RabbitMqBus;
use bus::{Bus, Delivery, Message};
use model::event::EventKind;

use crate::contract::{Installation, QUEUE, depth_becomes, message, soon};
use crate::installation::{RabbitMqInstallation, url};

const COUNT: usize = 40_000;
const BATCH: usize = 100;

fn one_kibibyte(n: usize) -> Message {
    message(EventKind::RunRequested, format!("{n:<1024}"))
}

/// So many publishers at once, each publishing batches.
async fn publish(bus: &Arc<RabbitMqBus>, publishers: usize, count: usize, batch: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for publisher in 0..publishers {
        let bus = Arc::clone(bus);
        tasks.spawn(async move {
            for start in (publisher * batch..count).step_by(publishers * batch) {
                bus.publish((start..start + batch).map(one_kibibyte).collect()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

async fn consume(bus: &Arc<RabbitMqBus>, count: usize) {
    let mut consumer = bus.consume(QUEUE, 500).await.unwrap();
    let mut left = count;
    while left > 0 {
        let batch = soon(consumer.next_batch(BATCH, 256 * 1024)).await.unwrap();
        left -= batch.len();
        Delivery::ack_all(batch).await.unwrap();
    }
}

async fn measured(name: &str, count: usize, work: impl Future<Output = ()>) {
    let started = Instant::now();
    work.await;
    println!("{name}: {:.0} a second", count as f64 / started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and asserts nothing"]
async fn rates() {
    let installation = RabbitMqInstallation::new().await;
    let bus = Arc::new(RabbitMqBus::open(&url(), &installation.prefix).await.unwrap());
    for _ in 0..3 {
        measured("publish, 500 in flight", COUNT, publish(&bus, 5, COUNT, BATCH)).await;
        measured("consume, batches of 100", COUNT, consume(&bus, COUNT)).await;
        let together = async { tokio::join!(publish(&bus, 5, COUNT, BATCH), consume(&bus, COUNT)) };
        measured("publish and consume together", COUNT, async { _ = together.await }).await;
        measured("publish one at a time", 1000, publish(&bus, 1, 1000, 1)).await;
        consume(&bus, 1000).await;
    }
    depth_becomes(&*bus, QUEUE, bus::Depth::default()).await;

    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let mut latencies = Vec::new();
    for n in 0..250 {
        let sent = Instant::now();
        let (published, batch) = tokio::join!(bus.publish(vec![one_kibibyte(n)]), consumer.next_batch(1, usize::MAX));
        latencies.push(sent.elapsed());
        published.unwrap();
        Delivery::ack_all(batch.unwrap()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    latencies.sort_unstable();
    println!("publish to consume at 50 a second: p50 {:?}, p99 {:?}", latencies[125], latencies[247]);
}

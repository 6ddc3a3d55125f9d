//! The bench in the place of a microservice that is not measured: it takes what that would take, and says so.

use std::sync::Arc;

use bus::{Bus, Consumer, Delivery, Message, Queue};
use model::document::Receiver;
use model::event::{Event, RunsHeld, RunsRecorded};
use model::id::RunId;
use model::wire::{Wire, decode_event};

/// Messages taken at once.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 1 << 20;
const PREFETCH: usize = 1_000;

/// Takes whatever comes to a queue, until the bus is closed.
pub(crate) async fn drain(bus: &Arc<dyn Bus>, queue: Queue) -> anyhow::Result<()> {
    let mut consumer = bus.consume(queue, PREFETCH).await?;
    tokio::spawn(async move {
        while let Some(batch) = next(&mut consumer).await {
            // What is not acknowledged comes again.
            let _ = Delivery::ack_all(batch).await;
        }
    });
    Ok(())
}

/// Holds the runs that a dispatcher records, as the registry does.
pub(crate) async fn hold_runs(bus: &Arc<dyn Bus>) -> anyhow::Result<()> {
    let (mut consumer, bus) = (bus.consume(Queue::AgentRegistryRuns, PREFETCH).await?, Arc::clone(bus));
    tokio::spawn(async move {
        while let Some(batch) = next(&mut consumer).await {
            let run_ids: Vec<RunId> = batch.iter().flat_map(|delivery| ended(&delivery.message)).collect();
            let held = RunsHeld { receiver: Receiver::AgentRegistry, run_ids, ticks: Vec::new() };
            let time = batch[0].message.time;
            // What is not said to be held is announced again.
            let _ = bus.publish(vec![Message::new(RunsHeld::KIND, "bench", time, held.encode())]).await;
            let _ = Delivery::ack_all(batch).await;
        }
    });
    Ok(())
}

fn ended(message: &Message) -> Vec<RunId> {
    let runs = decode_event::<RunsRecorded>(message.kind, &message.body).map(|recorded| recorded.runs);
    runs.unwrap_or_default().into_iter().filter(|run| run.result.is_some()).map(|run| run.run.id).collect()
}

/// The next messages, at least one.
async fn next(consumer: &mut Consumer) -> Option<Vec<Delivery>> {
    consumer.next_batch(BATCH, BATCH_BYTES).await
}

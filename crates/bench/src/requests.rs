//! A copy of every request that the dispatcher publishes, and when it came.

use std::time::Instant;

use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::sync::mpsc;

/// Requests as they come: when, and their bytes.
pub(crate) type Requests = mpsc::UnboundedReceiver<(Instant, Vec<u8>)>;

/// Listens from now on.
pub(crate) async fn listen(url: &str) -> anyhow::Result<Requests> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?.name().clone();
    let options = QueueBindOptions::default();
    let (exchange, key) = ("carillon.by-kind".into(), "run.requested".into());
    channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut copies = channel.basic_consume(queue, "listen".into(), options, FieldTable::default()).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // The connection lives as long as somebody listens.
        let _connection = connection;
        while let Some(Ok(copy)) = copies.next().await {
            if sender.send((Instant::now(), copy.data)).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

//! Listening to broadcasts: one exclusive queue for the whole process, made anew on each connection.

use std::sync::Weak;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::envelope;
use super::session::Session;
use crate::message::Message;

/// How many broadcasts a slow listener may lag behind before it misses the oldest.
pub(super) const BROADCASTS_KEPT: usize = 4096;
/// Between tries on a connection that seems well.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Brings every broadcast to the subscriptions of this process until the bus is closed. `listening` says whether it
/// hears them at present.
pub(super) async fn listen(
    shared: Weak<Shared>,
    closed: CancellationToken,
    sender: broadcast::Sender<Message>,
    listening: watch::Sender<bool>,
) {
    let listen = async {
        loop {
            // Held for a moment only: a bus that nobody has any more is to end.
            let Some(session) = connected(&shared).await else { return };
            let Some(names) = shared.upgrade().map(|shared| shared.names.broadcast.clone()) else { return };
            match open(&session, names).await {
                Ok(mut deliveries) => {
                    listening.send_replace(true);
                    while let Some(Ok(delivery)) = deliveries.next().await {
                        match envelope::open(&delivery.properties) {
                            // Fails only if nobody listens at present.
                            Ok((message, _)) => {
                                let _ = sender.send(Message { body: delivery.data.into(), ..message });
                            }
                            Err(reason) => tracing::warn!(%reason, "broadcast cannot be read"),
                        }
                    }
                    listening.send_replace(false);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot listen to broadcasts at present");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    };
    closed.run_until_cancelled(listen).await;
}

async fn connected(shared: &Weak<Shared>) -> Option<std::sync::Arc<Session>> {
    let waiting = shared.upgrade()?.consuming.waiting();
    waiting.await.ok()
}

async fn open(session: &Session, exchange: ShortString) -> lapin::Result<lapin::Consumer> {
    let channel = session.connection.create_channel().await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    let kept = i32::try_from(BROADCASTS_KEPT).unwrap_or(i32::MAX);
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(kept));
    let queue = channel.queue_declare(ShortString::default(), options, arguments).await?.name().clone();
    let (key, none) = (ShortString::default(), FieldTable::default());
    channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), none.clone()).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue, ShortString::default(), options, none).await
}

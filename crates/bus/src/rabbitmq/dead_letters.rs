//! Dead letters: looked at, sent back, thrown away. They lie in a queue, so looking is taking and giving back, and
//! sending back is publishing and then acknowledging: a crash in between leaves a message twice, never not at all.

use std::time::Duration;

use futures::future::try_join_all;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, message};

use super::Shared;
use super::envelope::{self, Envelope};
use super::publisher::publish;
use super::session::Session;
use crate::bus::DeadLetter;
use crate::error::BusError;
use crate::topology::Queue;

/// How many are moved at a time.
const CHUNK: usize = 100;

/// How often, and in what intervals, to look whether what was given back is there again.
const RETURN_LOOKS: usize = 1_000;
const RETURN_LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The oldest dead letters. Two who look at the same time may each see only some.
pub(super) async fn list(shared: &Shared, queue: Queue, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
    let session = shared.asking().await?;
    let _alone = session.moving.lock().await;
    let name = shared.names.dead(queue);
    let found = async {
        let channel = session.connection.create_channel().await?;
        let all = count(&session, &name).await?;
        let taken = take(&channel, &name, limit.min(all as usize)).await?;
        if let Some(last) = taken.last() {
            let options = BasicNackOptions { multiple: true, requeue: true };
            channel.basic_nack(last.delivery_tag, options).await?;
            await_return(&session, &name, all).await?;
        }
        channel.close(200, "seen".into()).await?;
        Ok(taken)
    };
    let taken = found.await.map_err(|error: lapin::Error| failed(&session, error))?;
    Ok(taken.into_iter().map(|delivery| envelope::open_dead(queue, delivery)).collect())
}

/// Sends all that are there now back to the end of their queue.
pub(super) async fn requeue(shared: &Shared, queue: Queue) -> Result<u64, BusError> {
    let session = shared.asking().await?;
    let _alone = session.moving.lock().await;
    let name = shared.names.dead(queue);
    let fail = |error| failed(&session, error);
    let mut left = count(&session, &name).await.map_err(fail)? as usize;
    let mut moved = 0;
    // What is taken and not acknowledged returns when the channel ends, whatever happens.
    let channel = session.connection.create_channel().await.map_err(fail)?;
    while left > 0 {
        let taken = take(&channel, &name, left.min(CHUNK)).await.map_err(fail)?;
        let Some(last) = taken.last().map(|delivery| delivery.delivery_tag) else { break };
        let count = taken.len();
        let revived = taken.into_iter().map(|delivery| Envelope::revived(shared.names.queue(queue), delivery));
        publish(&shared.publishing, revived.collect()).await?;
        channel.basic_ack(last, BasicAckOptions { multiple: true }).await.map_err(fail)?;
        left = left.saturating_sub(count);
        moved += count as u64;
    }
    channel.close(200, "moved".into()).await.map_err(fail)?;
    Ok(moved)
}

/// Throws all away.
pub(super) async fn discard(shared: &Shared, queue: Queue) -> Result<u64, BusError> {
    let session = shared.asking().await?;
    let name = shared.names.dead(queue);
    let purged = session.control.queue_purge(name, QueuePurgeOptions::default()).await;
    purged.map(u64::from).map_err(|error| failed(&session, error))
}

/// How many messages are ready in each queue, asked at once.
pub(super) async fn counts(
    session: &Session,
    names: impl IntoIterator<Item = ShortString>,
) -> Result<u64, lapin::Error> {
    let counted = try_join_all(names.into_iter().map(async |name| count(session, &name).await)).await?;
    Ok(counted.into_iter().map(u64::from).sum())
}

async fn count(session: &Session, name: &ShortString) -> Result<u32, lapin::Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(session.control.queue_declare(name.clone(), options, FieldTable::default()).await?.message_count())
}

/// Waits (not for ever) until the queue has so many again: giving back is not confirmed, and who looks next is to see
/// the same.
async fn await_return(session: &Session, name: &ShortString, all: u32) -> Result<(), lapin::Error> {
    for _ in 0..RETURN_LOOKS {
        if count(session, name).await? >= all {
            break;
        }
        tokio::time::sleep(RETURN_LOOK_INTERVAL).await;
    }
    Ok(())
}

async fn take(channel: &Channel, name: &ShortString, limit: usize) -> Result<Vec<message::Delivery>, lapin::Error> {
    let mut taken = Vec::with_capacity(limit.min(CHUNK));
    while taken.len() < limit {
        match channel.basic_get(name.clone(), BasicGetOptions::default()).await? {
            Some(message) => taken.push(message.delivery),
            None => break,
        }
    }
    Ok(taken)
}

/// An error on a channel may have closed it, and queues that are missing are declared by the next connection.
pub(super) fn failed(session: &Session, error: lapin::Error) -> BusError {
    session.give_up(&error.to_string());
    BusError::Unavailable(error.into())
}

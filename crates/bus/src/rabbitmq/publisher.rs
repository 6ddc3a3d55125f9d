//! Publishing: many messages on their way at once, each confirmed before the caller goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::future::{Either, Ready, join_all, ready};
use lapin::Confirmation;
use lapin::options::BasicPublishOptions;

use super::envelope::Envelope;
use super::link::Link;
use super::session::{PublishingChannel, Session};
use crate::error::{BusError, Cause};

/// How long a publish waits for a connection and for its confirms, over as many connections as it takes. Longer than
/// it takes to find out that a broker is gone.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between tries of what the broker did not want.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Publishes all, and returns when all are confirmed. What was in flight when a connection broke, or came back from
/// the broker, is published again, so that the broker may have it twice, under the same message id.
pub(super) async fn publish(link: &Link, mut envelopes: Vec<Envelope>) -> Result<(), BusError> {
    let deadline = Instant::now() + PATIENCE;
    let mut last: Option<Cause> = None;
    loop {
        let session = match link.session(Some(deadline)).await {
            Err(BusError::Unavailable(cause)) => return Err(BusError::Unavailable(last.unwrap_or(cause))),
            other => other?,
        };
        let sent = async {
            // Nothing is confirmed meanwhile, and what is sent would only wait in memory.
            let mut blocked = session.blocked.clone();
            let _ = blocked.wait_for(|blocked| !blocked).await;
            send(&session, &envelopes).await
        };
        let results = tokio::time::timeout_at(deadline.into(), sent).await;
        let Ok(results) = results else {
            let cause = "the broker did not confirm in time".into();
            return Err(BusError::Unavailable(last.unwrap_or(cause)));
        };
        let (mut failed, mut broken) = (Vec::new(), None);
        for (envelope, result) in envelopes.into_iter().zip(results) {
            match result {
                Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => continue,
                Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => {
                    last = Some(
                        format!("no queue gets `{}`, its queue may have been deleted", envelope.routing_key).into(),
                    );
                    broken = Some("a message came back from the broker".to_owned());
                }
                Ok(Confirmation::Nack(None)) => last = Some("the broker could not store a message".into()),
                Err(error) => {
                    broken = Some(error.to_string());
                    last = Some(error.into());
                }
            }
            failed.push(envelope);
        }
        if failed.is_empty() {
            return Ok(());
        }
        envelopes = failed;
        // The next connection declares again what is missing.
        if let Some(reason) = broken {
            session.give_up(&reason);
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Sends all in this order, then waits for the confirm of each.
async fn send(session: &Session, envelopes: &[Envelope]) -> Vec<lapin::Result<Confirmation>> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent: Vec<_> = {
        let PublishingChannel { channel, starting } = session.publishing();
        let _one_at_a_time = starting.lock().unwrap_or_else(PoisonError::into_inner);
        let send = |envelope: &Envelope| {
            let Envelope { exchange, routing_key, properties, body } = envelope.clone();
            let channel = channel.clone();
            started(async move { channel.basic_publish(exchange, routing_key, options, &body, properties).await })
        };
        envelopes.iter().map(send).collect()
    };
    join_all(sent.into_iter().map(async |sent| sent.await?.await)).await
}

/// Begins with a future at once, which queues the frames of whatever method of a channel it is. Dropped, the frames are
/// sent all the same.
pub(super) fn started<F: Future>(future: F) -> Either<Ready<F::Output>, Pin<Box<F>>> {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Either::Left(ready(output)),
        Poll::Pending => Either::Right(future),
    }
}

//! Sweeping: forgetting what is older than anybody asks for, a little at a time.
//!
//! A batch is a transaction of the microservice's own, so that a crash leaves only more to do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::chain;

/// Most rows of a table that a batch forgets.
pub const ROWS_MAX: u16 = 500;

/// Between two batches, so that others write in between.
const PAUSE: Duration = Duration::from_millis(100);

/// Sweeps in every `round` until `shutdown`: as many batches as it takes. `batch` answers the most rows that it forgot
/// of one table; fewer than [`ROWS_MAX`] are all there were.
///
/// A batch that fails is logged and tried again in the next round.
///
/// # Errors
///
/// Never: this is the shape of a [`Role`](crate::supervise::Role).
pub async fn run<E, F>(
    round: Duration,
    clock: Clock,
    shutdown: CancellationToken,
    mut batch: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<usize, E>>,
{
    loop {
        // The next round is counted from here: what becomes due while this one runs is not to wait for one more.
        let began = clock.now();
        while one(&mut batch).await {
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Ok(());
            }
        }
        if shutdown.run_until_cancelled(clock.sleep_until(began + round)).await.is_none() {
            return Ok(());
        }
    }
}

/// Returns whether there may be more.
async fn one<E, F>(batch: &mut impl FnMut() -> F) -> bool
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<usize, E>>,
{
    match batch().await {
        Ok(rows) => rows >= usize::from(ROWS_MAX),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the sweep failed, trying again in the next round");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use chrono::TimeDelta;
    use tokio::sync::mpsc;

    use super::*;

    const ROUND: Duration = Duration::from_secs(60);

    #[derive(Debug, thiserror::Error)]
    #[error("the database is away")]
    struct Away;

    #[tokio::test]
    async fn a_round_takes_as_many_batches_as_there_are_and_a_failed_one_waits_for_the_next() {
        let clock = Clock::manual("2026-03-01T12:00:00Z".parse().unwrap());
        let shutdown = CancellationToken::new();
        let (tell, mut told) = mpsc::unbounded_channel();
        let batches = Arc::new(AtomicUsize::new(0));
        let sweeping = tokio::spawn(run(ROUND, clock.clone(), shutdown.clone(), move || {
            let batch = batches.fetch_add(1, Ordering::Relaxed);
            tell.send(batch).unwrap();
            async move {
                match batch {
                    0 | 1 | 4 => Ok(usize::from(ROWS_MAX)),
                    2 => Err(Away),
                    _ => Ok(0),
                }
            }
        }));
        for batch in 0..=2 {
            assert_eq!(told.recv().await, Some(batch));
        }
        for next in [3, 4] {
            assert!(told.try_recv().is_err());
            clock.advance(TimeDelta::seconds(60));
            assert_eq!(told.recv().await, Some(next));
        }
        assert_eq!(told.recv().await, Some(5));
        shutdown.cancel();
        sweeping.await.unwrap().unwrap();
    }
}

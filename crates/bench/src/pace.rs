//! Doing something so many times a second, whether or not what was begun before has ended: a slow receiver must not
//! slow down those who measure it.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// How often it is done in all.
pub(crate) fn count(rate: u32, duration: Duration) -> usize {
    usize::try_from(u128::from(rate) * duration.as_millis() / 1_000).unwrap_or(usize::MAX)
}

/// Begins `act` with 0, 1, 2 … at even distances, and waits until all have ended.
pub(crate) async fn at_rate<F>(rate: u32, duration: Duration, act: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (began, mut acting) = (Instant::now(), JoinSet::new());
    for number in 0..count(rate, duration) {
        let due = began + Duration::from_secs(1) * u32::try_from(number)? / rate;
        tokio::time::sleep_until(due.into()).await;
        acting.spawn(act(number));
        while let Some(ended) = acting.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = acting.join_next().await {
        ended??;
    }
    Ok(())
}

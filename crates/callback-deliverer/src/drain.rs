//! Lets go what was held for endpoints that are enabled again, and goes on with replays, both at a limited rate: a
//! receiver that has just come back must not fall over what waited for it.
//!
//! A step of either is a transaction of its own, so that one that fails does not hold up the other. A crash leaves the
//! rest held, or the job unfinished, for whoever looks next.

use std::sync::Arc;
use std::time::Duration;

use service_kit::database::{DatabaseError, Timestamp};
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::store::{drain, replays};

/// Held deliveries that are let go for each endpoint in a round.
const OF_EACH_ENDPOINT: i64 = 10;
/// Deliveries replayed in a round.
const REPLAYED: i64 = 100;
/// Between two rounds while there is more.
const ROUND: Duration = Duration::from_secs(1);
/// How often somebody looks although nobody said anything: another replica may have stopped halfway.
const LOOK: Duration = Duration::from_secs(60);

/// Works whenever there is something to let go, until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let began = core.clock.now();
        let pause = match round(&core).await {
            Ok(true) => ROUND,
            Ok(false) => LOOK,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "what was held cannot be let go, trying again");
                ROUND
            }
        };
        tokio::select! {
            () = core.clock.sleep_until(began + pause) => {}
            () = core.enabled.notified(), if pause == LOOK => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Returns whether there may be more.
async fn round(core: &Core) -> Result<bool, DatabaseError> {
    let now = Timestamp::from(core.clock.now());
    let let_go =
        core.db.write(move |connection| Ok::<_, DatabaseError>(drain::let_go(connection, OF_EACH_ENDPOINT, now)?));
    let let_go = let_go.await;
    let replayed = core.db.write(move |connection| Ok::<_, DatabaseError>(replays::step(connection, REPLAYED, now)?));
    let replayed = replayed.await;
    if matches!(let_go, Ok(1..)) || matches!(replayed, Ok(Some(1..))) {
        core.due.notify_one();
    }
    let (let_go, replayed) = (let_go?, replayed?);
    Ok(let_go > 0 || replayed.is_some())
}

//! Lets go what was held for endpoints that are enabled again, and goes on with replays, both at a limited rate: a
//! receiver that has just come back must not fall over what waited for it.
//!
//! Each round is a transaction of its own. A crash leaves the rest held, or the job unfinished, for whoever looks next.

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
    let (let_go, replayed) = core
        .db
        .write(move |connection| {
            let let_go = drain::let_go(connection, OF_EACH_ENDPOINT, now)?;
            Ok::<_, DatabaseError>((let_go, replays::step(connection, REPLAYED, now)?))
        })
        .await?;
    if let_go > 0 || replayed.is_some_and(|replayed| replayed > 0) {
        core.due.notify_one();
    }
    Ok(let_go > 0 || replayed.is_some())
}

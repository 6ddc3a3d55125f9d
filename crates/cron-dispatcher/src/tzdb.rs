//! Tzdb: what was planned with an older edition of the time zone database is planned anew, once a process begins.
//!
//! Piece by piece, each a transaction, so that nobody waits; until then schedules fire as they were planned. Before a piece
//! is planned the registry is told of its organisations, for the audit log: a crash in between leaves schedules of an
//! older edition, which the next process finds, and says the same again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bus::Message;
use chrono::{DateTime, Utc};
use model::crontab::tzdb_version;
use model::document::Receiver;
use model::event::{DocumentsHeld, Event, Replanned};
use model::schedule::Timing;
use model::wire::Wire;
use service_kit::database::DbConnection;
use tokio_util::sync::CancellationToken;

use crate::config::DispatcherConfig;
use crate::context::{Context, NAME};
use crate::error::DispatchError;
use crate::fire::tell;
use crate::fired::Fired;
use crate::store::documents::Directory;
use crate::store::history::NewChapter;
use crate::store::schedules::Schedule;
use crate::store::{history, schedules};
use crate::zones;

/// Schedules planned anew in one transaction.
const PIECE: i64 = 500;
/// Until the next try when something was away.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Plans anew until nothing is left of an older edition, then rests.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut replanned = 0;
    while !shutdown.is_cancelled() {
        match replan_piece(&context).await {
            Ok(0) => {
                if replanned > 0 {
                    let tzdb = tzdb_version();
                    tracing::warn!(
                        schedules = replanned,
                        tzdb,
                        "ticks were planned anew with a newer time zone database"
                    );
                }
                shutdown.cancelled().await;
            }
            Ok(count) => replanned += count,
            Err(error) => {
                let error = service_kit::error::chain(&error);
                tracing::error!(error, "ticks were not planned anew with a newer time zone database, trying again");
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(TRY_AGAIN)).await;
            }
        }
    }
    Ok(())
}

/// Returns how many schedules were of an older edition.
async fn replan_piece(context: &Context) -> Result<usize, DispatchError> {
    let older = context.db.read(|conn| Ok::<_, DispatchError>(schedules::of_older_tzdb(conn, tzdb_version(), PIECE)?));
    let older = older.await?;
    if older.is_empty() {
        return Ok(0);
    }
    let organisations: BTreeSet<_> = older.iter().map(|schedule| schedule.organisation.clone()).collect();
    let replanned = organisations
        .into_iter()
        .map(|organisation| Replanned { organisation, tzdb: tzdb_version().to_owned() })
        .collect();
    let said = DocumentsHeld { receiver: Receiver::CronDispatcher, documents: Vec::new(), replanned };
    let now = context.clock.now();
    context.bus.publish(vec![Message::new(DocumentsHeld::KIND, NAME, now, said.encode())]).await?;
    let ids: Vec<i64> = older.iter().map(|schedule| schedule.agent_id).collect();
    let config = context.config.clone();
    let fired = context.db.write(move |conn| replan(conn, &ids, &config, now)).await?;
    context.schedules_changed.notify_one();
    tell(context, fired).await?;
    Ok(older.len())
}

fn replan(
    conn: &mut DbConnection,
    ids: &[i64],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Fired, DispatchError> {
    let mut fired = Fired::default();
    // All at once: of one that is settled by the way, turns would be held while it waits for the next.
    zones::lock_all(conn, ids)?;
    for agent_id in ids {
        let Some(mut schedule) = schedules::lock(conn, *agent_id)? else { continue };
        let directory = Directory::load(conn, &[*agent_id])?;
        // Whoever follows to another zone is planned anew by that.
        if let Some(followed) = zones::catch_up(conn, std::slice::from_ref(&schedule), &directory, config, now)? {
            fired.join(followed);
            continue;
        }
        if schedule.tzdb.as_str() < tzdb_version() {
            replan_one(conn, &mut schedule)?;
            schedules::put(conn, &schedule)?;
            fired.schedules.push(schedule.stands());
        }
    }
    Ok(fired)
}

fn replan_one(conn: &mut DbConnection, schedule: &mut Schedule) -> Result<(), DispatchError> {
    tzdb_version().clone_into(&mut schedule.tzdb);
    let directory = Directory::load(conn, &[schedule.agent_id])?;
    let Some(view) = directory.agent(schedule.agent_id) else { return Ok(()) };
    if schedule.follows.is_some() || schedule.finished {
        return Ok(());
    }
    let timing = Timing::of(view.agent, view.zone).map_err(|error| DispatchError::Crontab(view.agent.id, error))?;
    let first = timing.first_after(schedule.fired_through);
    match &mut schedule.waits {
        Some((_, since)) => *since = first.unwrap_or(*since),
        None => schedule.plan(&timing, first),
    }
    let effective_from = schedule.fired_through;
    let chapter = NewChapter { agent: view.agent, organisation_zone: view.zone, effective_from };
    Ok(history::begin(conn, &[chapter])?)
}

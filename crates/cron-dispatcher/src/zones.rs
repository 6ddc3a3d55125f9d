//! Zones: an organisation goes by another zone, and its schedules follow one after the other.
//!
//! Taking the organisation's document notes the change, nothing more, so that a pause or an edit waits for nobody's
//! hundred thousand schedules. From then on:
//!
//! - No tick later than the change is settled by the old zone: whoever settles ticks of a schedule, or edits it, has it
//!   follow first ([`fire`](crate::settle::fire)). What was due up to the change is settled by the old zone.
//! - A walk has all follow, in pieces of a transaction each, which move the walk's place along. A tick that the new zone
//!   puts before the one that was planned is found when the walk gets there: it is late by as long as that takes, and
//!   its run knows how late. If a pause comes first, it is a tick of the pause.
//! - A crash between pieces leaves the change with the place that the walk got to, where any dispatcher goes on. Two walk
//!   along two changes; a schedule says which change it follows, and so follows each once, in order.
//! - A schedule that cannot follow (its document is damaged) is passed over, with an error in the log.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::Connection;
use service_kit::database::DbConnection;
use service_kit::error::chain;
use tokio_util::sync::CancellationToken;

use crate::config::DispatcherConfig;
use crate::context::Context;
use crate::error::DispatchError;
use crate::fire::tell;
use crate::fired::Fired;
use crate::replan::{plan_by, settle_until};
use crate::store::documents::Directory;
use crate::store::schedules::{self, Schedule};
use crate::store::turns;
use crate::store::zone_changes::{self, ZoneChange};

/// Schedules that follow in one transaction.
const PIECE: i64 = 200;
/// How often it looks for a change whose walk another dispatcher has left, and tries again when something was away.
const ROUND: Duration = Duration::from_secs(10);

/// Has schedules follow, for as long as the process runs.
pub(crate) async fn run(context: Arc<Context>, shutdown: CancellationToken) -> anyhow::Result<()> {
    while !shutdown.is_cancelled() {
        match walk_on(&context).await {
            Ok(true) => {}
            Ok(false) => rest(&context, &shutdown).await,
            Err(error) => {
                tracing::error!(error = chain(&error), "schedules do not follow to a new zone, trying again");
                rest(&context, &shutdown).await;
            }
        }
    }
    Ok(())
}

async fn rest(context: &Context, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = context.zones_changed.notified() => {}
        () = tokio::time::sleep(ROUND) => {}
    }
}

/// Walks one piece. False: there is none.
async fn walk_on(context: &Context) -> Result<bool, DispatchError> {
    if !context.knows_the_time()
        || context.db.read(|conn| zone_changes::load(conn).map_err(DispatchError::from)).await?.is_empty()
    {
        return Ok(false);
    }
    let (now, config) = (context.clock.now(), context.config.clone());
    let Some(fired) = context.db.write(move |conn| walk(conn, PIECE, &config, now)).await? else {
        return Ok(false);
    };
    context.schedules_changed.notify_one();
    context.runs_queued.notify_one();
    tell(context, fired).await?;
    Ok(true)
}

/// Has the next `limit` schedules follow the newest change. None: there is no change that another has not in hand.
pub(crate) fn walk(
    conn: &mut DbConnection,
    limit: i64,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Option<Fired>, DispatchError> {
    let Some(newest) = zone_changes::lock_newest(conn)? else { return Ok(None) };
    let mut changes = zone_changes::load(conn)?;
    changes.retain(|change| change.organisation == newest.organisation && change.version <= newest.version);
    let organisation = newest.organisation.as_str();
    let Some((piece, last)) = schedules::of_organisation(conn, organisation, newest.place, limit)? else {
        tracing::info!(organisation, zone = newest.after.name(), "all schedules follow to the new zone");
        zone_changes::end(conn, &newest)?;
        return Ok(Some(Fired::default()));
    };
    lock_all(conn, &piece)?;
    let fired = match conn.transaction(|conn| follow(conn, &piece, &changes, config, now)) {
        Err(error) if !error.is_unavailable() => follow_one_by_one(conn, &piece, &changes, config, now)?,
        followed => followed?,
    };
    zone_changes::move_on(conn, &newest, last)?;
    Ok(Some(fired))
}

/// Locks the schedules of these agents and those that follow them, then turns, as whoever fires: one by one, those of the
/// first would be held while it waits for the next.
pub(crate) fn lock_all(conn: &mut DbConnection, agent_ids: &[i64]) -> Result<(), DispatchError> {
    let organisations = schedules::lock_with_followers(conn, agent_ids)?;
    turns::lock(conn, &organisations.iter().map(String::as_str).collect())?;
    Ok(())
}

fn follow_one_by_one(
    conn: &mut DbConnection,
    agent_ids: &[i64],
    changes: &[ZoneChange],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Fired, DispatchError> {
    let mut all = Fired::default();
    for agent_id in agent_ids {
        match conn.transaction(|conn| follow(conn, &[*agent_id], changes, config, now)) {
            Ok(fired) => all.join(fired),
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) => {
                let error = chain(&error);
                tracing::error!(agent.id = *agent_id, error, "a schedule cannot follow to its organisation's new zone");
            }
        }
    }
    Ok(all)
}

/// Has the schedules of these agents of one organisation follow those changes of its zone that they do not follow yet:
/// each settles what was due before, and plans what comes after.
fn follow(
    conn: &mut DbConnection,
    agent_ids: &[i64],
    changes: &[ZoneChange],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Fired, DispatchError> {
    let (mut fired, mut left) = (Fired::default(), agent_ids);
    while !left.is_empty() {
        let (directory, read) = Directory::load_first(conn, left)?;
        let (some, others) = left.split_at(read);
        fired.join(follow_some(conn, some, directory, changes, config, now)?);
        left = others;
    }
    Ok(fired)
}

/// The same for agents that are in the directory.
fn follow_some(
    conn: &mut DbConnection,
    agent_ids: &[i64],
    mut directory: Directory,
    changes: &[ZoneChange],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Fired, DispatchError> {
    let mut fired = Fired::default();
    for change in changes {
        let mut following = Vec::new();
        directory.set_zone(&change.organisation, change.before);
        for agent_id in agent_ids {
            let Some(schedule) = schedules::lock(conn, *agent_id)? else { continue };
            if is_behind(&schedule, &directory, change) {
                fired.join(settle_until(conn, schedule, &directory, change.changed_at, now, config)?);
                following.push(*agent_id);
            }
        }
        directory.set_zone(&change.organisation, change.after);
        for agent_id in following {
            let planned = plan_by(conn, &directory, agent_id, Some(change.version), (change.changed_at, now))?;
            fired.schedules.extend(planned.map(|schedule| schedule.stands()));
        }
    }
    Ok(fired)
}

fn is_behind(schedule: &Schedule, directory: &Directory, change: &ZoneChange) -> bool {
    schedule.organisation == change.organisation
        && schedule.zone_version < change.version
        && directory.agent(schedule.agent_id).is_some_and(|view| view.agent.schedule.timezone.is_none())
}

/// Has those of these locked schedules follow that do not yet; the directory was loaded before, so that who reads a new
/// zone there finds the change. None: all did.
pub(crate) fn catch_up(
    conn: &mut DbConnection,
    locked: &[Schedule],
    directory: &Directory,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Option<Fired>, DispatchError> {
    let changes = zone_changes::load(conn)?;
    let behind = |schedule: &&Schedule| changes.iter().any(|change| is_behind(schedule, directory, change));
    let behind: Vec<&Schedule> = locked.iter().filter(behind).collect();
    if !behind.is_empty() && locked.len() > 1 {
        lock_all(conn, &locked.iter().map(|schedule| schedule.agent_id).collect::<Vec<_>>())?;
    }
    let mut fired = None;
    for schedule in behind {
        let own: Vec<_> = changes.iter().filter(|change| is_behind(schedule, directory, change)).cloned().collect();
        let followed = follow(conn, &[schedule.agent_id], &own, config, now)?;
        fired.get_or_insert_with(Fired::default).join(followed);
    }
    Ok(fired)
}

//! Ticks: what became of each planned moment.
//!
//! A tick that ran is its run's row; spans of ticks that did not are rows of `skipped_ticks`.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use model::event::HeldTick;
use model::id::{AgentId, OrganisationKey, RunId};
use model::internal::TickPage;
use model::run::{SkippedTick, Tick, TickOutcome};
use model::schedule::INSTANT;
use service_kit::database::{DbConnection, SqlTimestamp, Timestamp};
use service_kit::per_backend;

use super::{ROWS_MAX, read_word};
use crate::ledger::Entry;
use crate::schema::{runs, skipped_ticks};

/// Later than any tick.
const FAR_AWAY: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

#[derive(Insertable)]
#[diesel(table_name = skipped_ticks, treat_none_as_default_value = false)]
struct SkippedRow {
    agent_id: i64,
    fire_time: Timestamp,
    until: Timestamp,
    reason: &'static str,
    organisation: String,
    agent_version: Option<i64>,
    announce_at: Option<Timestamp>,
}

/// Records spans of ticks that became no run; those whose agents want to hear of it are announced at `announce_at`
/// again, unless they are held by then. Two followers' moments may be the same: they are one tick.
pub(crate) fn skip(conn: &mut DbConnection, skipped: &[Skipped], announce_at: DateTime<Utc>) -> QueryResult<()> {
    let rows: Vec<SkippedRow> = skipped
        .iter()
        .map(|Skipped { tick, calls_back }| SkippedRow {
            agent_id: tick.agent_id.0,
            fire_time: Timestamp::from(tick.fire_time),
            until: Timestamp::from(tick.until),
            reason: tick.reason.as_str(),
            organisation: tick.organisation.0.clone(),
            agent_version: tick.agent_version,
            announce_at: calls_back.then(|| Timestamp::from(announce_at)),
        })
        .collect();
    for piece in rows.chunks(ROWS_MAX) {
        per_backend!(conn, c => diesel::insert_into(skipped_ticks::table)
            .values(piece)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    Ok(())
}

/// A tick without a run, or a span of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) tick: SkippedTick,
    /// Whether the agent's endpoint is told.
    pub(crate) calls_back: bool,
}

/// Up to `limit` spans that are to be announced by now. They are put off until `next`.
pub(crate) fn take_unannounced(
    conn: &mut DbConnection,
    now: DateTime<Utc>,
    next: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<SkippedTick>> {
    type Row = (i64, Timestamp, Timestamp, String, String, Option<i64>);
    let rows: Vec<Row> = skipped_ticks::table
        .filter(skipped_ticks::announce_at.le(Timestamp::from(now)))
        .order((skipped_ticks::agent_id, skipped_ticks::fire_time))
        .limit(limit)
        .select((
            skipped_ticks::agent_id,
            skipped_ticks::fire_time,
            skipped_ticks::until,
            skipped_ticks::reason,
            skipped_ticks::organisation,
            skipped_ticks::agent_version,
        ))
        .load(conn)?;
    let mut ticks = Vec::with_capacity(rows.len());
    for (agent_id, fire_time, until, reason, organisation, agent_version) in rows {
        diesel::update(skipped_ticks::table.find((agent_id, fire_time)))
            .filter(skipped_ticks::announce_at.is_not_null())
            .set(skipped_ticks::announce_at.eq(Some(Timestamp::from(next))))
            .execute(conn)?;
        ticks.push(SkippedTick {
            organisation: OrganisationKey(organisation),
            agent_id: AgentId(agent_id),
            fire_time: fire_time.into(),
            nominal_time: fire_time.into(),
            until: until.into(),
            reason: read_word(&reason)?,
            agent_version,
        });
    }
    Ok(ticks)
}

/// Whether any span is to be announced by now.
pub(crate) fn any_unannounced(conn: &mut DbConnection, now: DateTime<Utc>) -> QueryResult<bool> {
    let unannounced = skipped_ticks::table.filter(skipped_ticks::announce_at.le(Timestamp::from(now)));
    diesel::select(diesel::dsl::exists(unannounced)).get_result(conn)
}

/// The deliverer stored these spans: nobody needs to hear of them any more.
pub(crate) fn hold(conn: &mut DbConnection, ticks: &[HeldTick]) -> QueryResult<()> {
    let mut ordered: Vec<&HeldTick> = ticks.iter().collect();
    // In key order, so that two dispatchers never wait for each other.
    ordered.sort_by_key(|tick| (tick.agent_id, tick.fire_time));
    for tick in ordered {
        diesel::update(skipped_ticks::table.find((tick.agent_id.0, Timestamp::from(tick.fire_time))))
            .set(skipped_ticks::announce_at.eq(None::<Timestamp>))
            .execute(conn)?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct TickRow {
    #[diesel(sql_type = SqlTimestamp)]
    fire_time: Timestamp,
    #[diesel(sql_type = SqlTimestamp)]
    nominal_time: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    run_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<SqlTimestamp>)]
    until: Option<Timestamp>,
}

impl TryFrom<TickRow> for Tick {
    type Error = diesel::result::Error;

    fn try_from(row: TickRow) -> QueryResult<Self> {
        let outcome = match (row.run_id, row.reason, row.until) {
            (Some(id), _, _) => TickOutcome::Run(RunId(id)),
            (None, Some(reason), Some(until)) => {
                TickOutcome::Skipped { reason: read_word(&reason)?, until: until.into() }
            }
            _ => return Err(diesel::result::Error::NotFound),
        };
        Ok(Self { fire_time: row.fire_time.into(), nominal_time: row.nominal_time.into(), outcome })
    }
}

/// Which of an agent's ticks; by default all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) run: bool,
    pub(crate) skipped: bool,
    /// Not before this.
    pub(crate) from: Option<DateTime<Utc>>,
    /// Before this.
    pub(crate) to: Option<DateTime<Utc>>,
}

/// One page of an agent's ticks, newest first. Runs that somebody asked for are no ticks. What waits at `now` for the
/// end of a pause, or to be enabled, is one row.
pub(crate) fn page(
    conn: &mut DbConnection,
    agent_id: i64,
    wanted: Wanted,
    now: DateTime<Utc>,
    (offset, limit): (i64, i64),
) -> QueryResult<TickPage> {
    // Numbered in the order in which they appear: SQLite counts them so. A schedule waits from its first tick that is not settled: if that has passed, there is a span up to now.
    const TICKS: &str = "
        SELECT fire_time, nominal_time, id AS run_id, NULL AS reason, NULL AS until
          FROM runs
         WHERE agent_id = $1 AND made_by IN ('schedule', 'catch_up') AND $2 AND fire_time >= $3 AND fire_time < $4
        UNION ALL
        SELECT fire_time, fire_time AS nominal_time, NULL AS run_id, reason, until
          FROM skipped_ticks WHERE agent_id = $1 AND $5 AND until > $3 AND fire_time < $4
        UNION ALL
        SELECT waits_since AS fire_time, waits_since AS nominal_time, NULL AS run_id, waits_for AS reason, $6 AS until
          FROM schedules
         WHERE agent_id = $1 AND $5 AND waits_for IN ('paused', 'disabled') AND waits_since < $6
           AND $6 > $3 AND waits_since < $4";
    let from = Timestamp::from(wanted.from.unwrap_or(DateTime::UNIX_EPOCH));
    let to = Timestamp::from(wanted.to.unwrap_or(FAR_AWAY));
    let now = Timestamp::from(now);
    let paged = format!("{TICKS} ORDER BY fire_time DESC LIMIT $7 OFFSET $8");
    let rows: Vec<TickRow> = per_backend!(conn, c => diesel::sql_query(paged)
        .bind::<BigInt, _>(agent_id)
        .bind::<Bool, _>(wanted.run)
        .bind::<SqlTimestamp, _>(from)
        .bind::<SqlTimestamp, _>(to)
        .bind::<Bool, _>(wanted.skipped)
        .bind::<SqlTimestamp, _>(now)
        .bind::<BigInt, _>(limit)
        .bind::<BigInt, _>(offset)
        .load(c))?;
    let counted = format!("SELECT count(*) AS count FROM ({TICKS}) AS ticks");
    let count: CountRow = per_backend!(conn, c => diesel::sql_query(counted)
        .bind::<BigInt, _>(agent_id)
        .bind::<Bool, _>(wanted.run)
        .bind::<SqlTimestamp, _>(from)
        .bind::<SqlTimestamp, _>(to)
        .bind::<Bool, _>(wanted.skipped)
        .bind::<SqlTimestamp, _>(now)
        .get_result(c))?;
    let ticks = rows.into_iter().map(Tick::try_from).collect::<QueryResult<_>>()?;
    Ok(TickPage { count: count.count, ticks })
}

/// What became of an agent's ticks since then.
pub(crate) fn entries(conn: &mut DbConnection, agent_id: i64, since: DateTime<Utc>) -> QueryResult<Vec<Entry>> {
    let since = Timestamp::from(since);
    // In the words of the index `runs_tick`, which stands for nothing else.
    let are_ticks = diesel::dsl::sql::<Bool>("made_by IN ('schedule', 'catch_up')");
    let ran: Vec<Timestamp> = runs::table
        .filter(runs::agent_id.eq(agent_id).and(runs::nominal_time.gt(since)))
        .filter(are_ticks)
        .select(runs::nominal_time)
        .load(conn)?;
    let skipped: Vec<(Timestamp, Timestamp, String)> = skipped_ticks::table
        .filter(skipped_ticks::agent_id.eq(agent_id).and(skipped_ticks::until.gt(since)))
        .select((skipped_ticks::fire_time, skipped_ticks::until, skipped_ticks::reason))
        .load(conn)?;
    let ran = ran.into_iter().map(|tick| Entry { from: *tick, until: *tick + INSTANT, reason: None });
    let skipped = skipped.into_iter();
    Ok(ran.chain(skipped.map(|(from, until, why)| Entry { from: *from, until: *until, reason: Some(why) })).collect())
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Whose skipped spans are forgotten.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Retained<'a> {
    /// Those of one organisation.
    Of(&'a str),
    /// Those of all but these, which say for themselves how long they keep them.
    OfAllBut(&'a [String]),
}

/// Forgets up to `limit` skipped spans that ended before `before`. Returns how many.
pub(crate) fn sweep(
    conn: &mut DbConnection,
    whose: Retained<'_>,
    before: DateTime<Utc>,
    limit: i64,
) -> QueryResult<usize> {
    let old = skipped_ticks::table
        .filter(skipped_ticks::until.lt(Timestamp::from(before)))
        .order(skipped_ticks::until)
        .select((skipped_ticks::agent_id, skipped_ticks::fire_time))
        .limit(limit);
    let old: Vec<(i64, Timestamp)> = match whose {
        Retained::Of(organisation) => old.filter(skipped_ticks::organisation.eq(organisation)).load(conn)?,
        Retained::OfAllBut(organisations) => {
            old.filter(skipped_ticks::organisation.ne_all(organisations)).load(conn)?
        }
    };
    for (agent_id, fire_time) in &old {
        diesel::delete(skipped_ticks::table.find((agent_id, fire_time))).execute(conn)?;
    }
    Ok(old.len())
}

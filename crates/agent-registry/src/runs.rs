//! Takes over what the dispatcher says of runs: from the bus, and from its answer to a trigger.
//!
//! Idempotent: a final state absorbs and a lower state never takes the place of a higher, so that a record may come
//! twice and in any order; of an agent's next fire time, the word that was said last counts; a one-off is finished
//! only once for its timing version. Of an agent that is gone there is nothing to store.
//!
//! Rows are touched in the order of [`store`](crate::store), so that two batches at once never wait for each other in a
//! circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use model::id::AgentId;
use model::run::{RunRecord, RunState, ScheduleRecord};
use service_kit::database::{DbConnection, Timestamp};

use crate::documents::{self, Written};
use crate::store::activity::{self, Latest, NextFire};
use crate::store::agents;
use crate::store::logs::{self, Log};

/// A record, and when the dispatcher said it.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) record: RunRecord,
    pub(crate) said_at: DateTime<Utc>,
}

/// Where a schedule stands, and when the dispatcher said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stands {
    pub(crate) schedule: ScheduleRecord,
    pub(crate) said_at: DateTime<Utc>,
}

impl Recorded {
    /// A run's record says where its agent's schedule stands, too.
    fn stands(&self) -> Stands {
        let RunRecord { run, next_fire_time, finished_timing_version, .. } = &self.record;
        let (next_fire_time, finished_timing_version) = (*next_fire_time, *finished_timing_version);
        let schedule = ScheduleRecord { agent_id: run.agent_id, next_fire_time, finished_timing_version };
        Stands { schedule, said_at: self.said_at }
    }
}

/// Stores records, and where schedules stand, in the caller's transaction.
pub(crate) fn record(
    conn: &mut DbConnection,
    mut batch: Vec<Recorded>,
    mut schedules: Vec<Stands>,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    schedules.extend(batch.iter().map(Recorded::stands));
    let mut agent_ids: Vec<i64> = schedules.iter().map(|stands| stands.schedule.agent_id.0).collect();
    agent_ids.sort_unstable();
    agent_ids.dedup();
    let existing = agents::existing(conn, agent_ids)?;
    let exists = |agent_id: AgentId| existing.binary_search(&agent_id.0).is_ok();
    batch.retain(|recorded| exists(recorded.record.run.agent_id));
    schedules.retain(|stands| exists(stands.schedule.agent_id));

    finish_one_offs(conn, &schedules, now, written)?;
    activity::set_next_fires(conn, &next_fires(&schedules))?;
    let logs = not_ended(conn, furthest(batch))?;
    logs::upsert(conn, &logs)?;
    set_latest(conn, &logs, now)
}

/// The logs of runs whose end is not stored yet: the first verdict stands, and comes again often.
fn not_ended(conn: &mut DbConnection, records: Vec<RunRecord>) -> QueryResult<Vec<Log>> {
    let stored = logs::states(conn, records.iter().map(|record| record.run.id.0).collect())?;
    let has_ended = |record: &RunRecord| stored.get(&record.run.id.0).is_some_and(|state| state.is_final());
    Ok(records.into_iter().filter(|record| !has_ended(record)).map(Log::of).collect())
}

/// Of several records of one run, the one in the furthest state.
fn furthest(batch: Vec<Recorded>) -> Vec<RunRecord> {
    let mut by_run: BTreeMap<i64, RunRecord> = BTreeMap::new();
    for Recorded { record, .. } in batch {
        match by_run.get(&record.run.id.0) {
            Some(known) if known.state.is_final() || known.state > record.state => {}
            _ => {
                by_run.insert(record.run.id.0, record);
            }
        }
    }
    by_run.into_values().collect()
}

/// Of several words on one agent, the one said last.
fn next_fires(schedules: &[Stands]) -> Vec<NextFire> {
    let mut by_agent: BTreeMap<i64, NextFire> = BTreeMap::new();
    for Stands { schedule, said_at } in schedules {
        let agent_id = schedule.agent_id.0;
        let said = NextFire {
            agent_id,
            next_fire_time: schedule.next_fire_time.map(Timestamp::from),
            next_fire_time_as_of: Timestamp::from(*said_at),
        };
        match by_agent.get(&agent_id) {
            Some(known) if known.next_fire_time_as_of > said.next_fire_time_as_of => {}
            _ => {
                by_agent.insert(agent_id, said);
            }
        }
    }
    by_agent.into_values().collect()
}

fn set_latest(conn: &mut DbConnection, logs: &[Log], now: DateTime<Utc>) -> QueryResult<()> {
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    for log in logs {
        let newest = newest.entry(log.row.agent_id).or_insert(log.row.id);
        *newest = log.row.id.max(*newest);
    }
    let mut states = HashMap::new();
    let mut unsure = Vec::new();
    for log in logs.iter().filter(|log| newest.get(&log.row.agent_id) == Some(&log.row.id)) {
        // A final state absorbs; of any other, what came may have been less than what was there.
        let state = log.state()?;
        if state.is_final() {
            states.insert(log.row.id, state);
        } else {
            unsure.push(log.row.id);
        }
    }
    if !unsure.is_empty() {
        states.extend(logs::states(conn, unsure)?);
    }
    let latest = |(agent_id, run_id): (i64, i64)| {
        let latest_status = status_of(*states.get(&run_id)?);
        Some(Latest { agent_id, latest_run_id: run_id, latest_status, next_fire_time_as_of: now.into() })
    };
    activity::set_latest(conn, &newest.into_iter().filter_map(latest).collect::<Vec<_>>())
}

/// Turns off the one-offs that are finished: first all agents, then their documents, each in their order.
fn finish_one_offs(
    conn: &mut DbConnection,
    schedules: &[Stands],
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    let finished = |Stands { schedule, .. }: &Stands| Some((schedule.agent_id.0, schedule.finished_timing_version?));
    let finished: BTreeSet<(i64, i64)> = schedules.iter().filter_map(finished).collect();
    let mut turned_off = Vec::new();
    for (agent_id, timing_version) in finished {
        let Some(organisation) = agents::finish_one_off(conn, agent_id, timing_version)? else { continue };
        turned_off.extend(agents::find(conn, &organisation, agent_id)?);
    }
    turned_off.sort_by_key(|agent| agent.id.to_string());
    for agent in &turned_off {
        documents::write(conn, &agent.organisation, documents::of_agent(agent), now, written)?;
    }
    Ok(())
}

/// The status that a log shows: the original knows no run that is not started.
pub(crate) fn status_of(state: RunState) -> &'static str {
    match state {
        RunState::Pending | RunState::Running => RunState::Running.as_str(),
        RunState::Success | RunState::Error => state.as_str(),
    }
}

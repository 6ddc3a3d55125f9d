//! Takes over what the dispatcher says of runs: from the bus, and from its answer to a trigger.
//!
//! Idempotent: a final state absorbs and a lower state never takes the place of a higher, so that a record may come
//! twice and in any order; of an agent's next fire time, the word that was said last counts; a one-off is finished
//! only once for its timing version. Of an agent that is gone there is nothing to store.
//!
//! Rows are touched in the order of [`store`](crate::store), so that two batches at once never wait for each other in a
//! circle.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use model::id::AgentId;
use model::run::{RunRecord, RunState, ScheduleRecord};
use service_kit::database::DbConnection;

use crate::documents::{self, Written};
use crate::store::activity::{self, News};
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

    fn news(&self) -> News {
        let RunRecord { run, state, .. } = &self.record;
        News { latest_run_id: Some(run.id.0), latest_status: Some(status_of(*state)), ..self.stands().news() }
    }
}

impl Stands {
    fn news(&self) -> News {
        News::fires_next(self.schedule.agent_id.0, self.schedule.next_fire_time, self.said_at)
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
    activity::take_over(conn, &news(&schedules, &batch))?;
    let logs: Vec<Log> = furthest(batch).into_iter().map(Log::of).collect();
    logs::upsert(conn, &logs)
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

/// What schedules and records say of each agent, in the order of the agents.
fn news(schedules: &[Stands], batch: &[Recorded]) -> Vec<News> {
    let mut by_agent: BTreeMap<i64, News> = BTreeMap::new();
    for said in schedules.iter().map(Stands::news).chain(batch.iter().map(Recorded::news)) {
        activity::add(&mut by_agent, said);
    }
    by_agent.into_values().collect()
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

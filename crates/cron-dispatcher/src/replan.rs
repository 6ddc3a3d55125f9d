//! Replan: a schedule gets a new timing, after what was due under the old one is settled.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, Utc};
use model::crontab::tzdb_version;
use model::document::{Agent, OverlapPolicy, Previous, version_time};
use model::id::{AgentId, OrganisationKey};
use model::run::SkipReason;
use model::schedule::{INSTANT, Span, Timing, planning_start};
use service_kit::database::DbConnection;

use crate::chain::leave;
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::fired::Fired;
use crate::settle::{Through, settle, skipped};
use crate::store::documents::{AgentView, Directory};
use crate::store::history::NewChapter;
use crate::store::schedules::{self, Schedule};
use crate::store::{arrivals, history, one_offs, runs, ticks, zone_changes};
use crate::zones;

/// Settles what was due before an edit that ends a timing, as the agent was then; the held document is the old one.
pub(crate) fn settle_before(
    conn: &mut DbConnection,
    agent: &Agent,
    edited_at: DateTime<Utc>,
    now: DateTime<Utc>,
    config: &DispatcherConfig,
) -> Result<Fired, DispatchError> {
    let id = agent.id.0;
    let Some(mut schedule) = schedules::lock(conn, id)? else { return Ok(Fired::default()) };
    let mut directory = Directory::load(conn, &[id])?;
    let mut fired = Fired::default();
    if let Some(followed) = zones::catch_up(conn, std::slice::from_ref(&schedule), &directory, config, now)? {
        fired.join(followed);
        directory = Directory::load(conn, &[id])?;
        schedule = schedules::lock(conn, id)?.unwrap_or(schedule);
    }
    let until = if agent.schedule.timing_version > schedule.timing_version {
        // Later edits that left timing alone may have come together with it.
        version_time(agent.schedule.timing_version).min(now)
    } else {
        edited_at
    };
    fired.join(settle_until(conn, schedule, &directory, until, now, config)?);
    Ok(fired)
}

/// Settles the ticks of a schedule up to and including `until`, those that wait for something included: no others
/// follow them.
pub(crate) fn settle_until(
    conn: &mut DbConnection,
    schedule: Schedule,
    directory: &Directory,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
    config: &DispatcherConfig,
) -> Result<Fired, DispatchError> {
    let agent_id = schedule.agent_id;
    let mut fired = Fired::default();
    if schedule.nominal().is_some_and(|nominal| nominal <= until) {
        (fired, _) = settle(conn, vec![schedule], directory, Through::Edit(until), now, config)?;
    }
    let Some(mut schedule) = schedules::lock(conn, agent_id)? else { return Ok(fired) };
    if let Some((reason, since)) = schedule.waits.take() {
        if since <= until && schedule.follows.is_none() {
            let span = Span { from: since, until: until + INSTANT, reason };
            let skipped: Vec<_> =
                directory.agent(agent_id).map(|view| skipped(&schedule, view, span)).into_iter().collect();
            ticks::skip(conn, &skipped, now + config.overdue(1))?;
            fired.skipped.extend(skipped);
        }
        schedule.resumed_with = None;
        schedules::advance(conn, &[schedule.clone()])?;
    }
    if schedule.follows.is_none() {
        schedule.fired_through = schedule.fired_through.max(until);
        schedules::advance(conn, &[schedule])?;
    }
    Ok(fired)
}

/// Whether an edit ends the timing of the document before it.
pub(crate) fn replans(before: Option<&Agent>, after: &Agent) -> bool {
    before.is_none_or(|before| {
        before.schedule.timing_version < after.schedule.timing_version
            || before.schedule.enabled != after.schedule.enabled
            || before.previous != after.previous
    })
}

/// Brings the schedule's row to what the documents say; `replans`: from where it was settled to.
pub(crate) fn plan(
    conn: &mut DbConnection,
    agent_id: i64,
    replans: bool,
    edited_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    let directory = Directory::load(conn, &[agent_id])?;
    let Some(view) = directory.agent(agent_id) else { return Ok(()) };
    // Read after the document that says the zone: whoever plans by that follows the change that brought it.
    let follows = if replans { Some(zone_changes::newest(conn, view.organisation)?.unwrap_or_default()) } else { None };
    plan_by(conn, &directory, agent_id, follows, (edited_at, now)).map(drop)
}

/// The same, by the zones that the directory has. `follows_zone`: it was settled, and follows this change of its zone
/// from now on. Returns where it stands then.
pub(crate) fn plan_by(
    conn: &mut DbConnection,
    directory: &Directory,
    agent_id: i64,
    follows_zone: Option<i64>,
    (edited_at, now): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<Schedule>, DispatchError> {
    let Some(view) = directory.agent(agent_id) else { return Ok(None) };
    let agent = view.agent;
    // Read even if it does not fire now: a crontab that cannot be read is refused when it comes, not when it is due.
    let timing = Timing::of(agent, view.zone).map_err(|error| DispatchError::Crontab(agent.id, error))?;
    let mut schedule = match schedules::lock(conn, agent_id)? {
        Some(schedule) => {
            if follows(agent) != schedule.follows {
                leave(conn, agent_id)?;
            }
            if schedule.overlap == OverlapPolicy::Allow && agent.schedule.overlap != OverlapPolicy::Allow {
                runs::make_exclusive(conn, agent_id)?;
            }
            schedule
        }
        None => Schedule::new(agent.id, view.organisation.clone(), schedules::next_place(conn, view.organisation)?),
    };
    let was_finished = schedule.finished;
    if let Some(chapter) = rewrite(&mut schedule, view, &timing, follows_zone, (edited_at, now)) {
        history::begin(conn, &[chapter])?;
    }
    if was_finished && !(schedule.finished && agent.schedule.enabled) {
        one_offs::forget(conn, agent_id)?;
    }
    let is_free = schedule.follows.is_some() && !schedule.finished && schedule.waits.is_none();
    if is_free && arrivals::is_waiting(conn, agent_id)? {
        (schedule.next_fire_at, schedule.nominal_at) = (timing.first_allowed(now), None);
    }
    schedules::put(conn, &schedule)?;
    Ok(Some(schedule))
}

/// Plans new agents, of which there are no schedules: what [`plan`] does for one, by a few statements for all. Each was
/// edited at its moment.
pub(crate) fn plan_new(
    conn: &mut DbConnection,
    directory: &Directory,
    new: &[(AgentId, DateTime<Utc>)],
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    let (mut planned, mut chapters) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    // What is known of organisations: the newest change of its zone, and the place of its next schedule.
    let mut known: HashMap<&OrganisationKey, (i64, i64)> = HashMap::new();
    for (id, edited_at) in new {
        let Some(view) = directory.agent(id.0) else { continue };
        let timing = Timing::of(view.agent, view.zone).map_err(|error| DispatchError::Crontab(*id, error))?;
        let (zone_version, place) = match known.entry(view.organisation) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let zone_version = zone_changes::newest(conn, view.organisation)?.unwrap_or_default();
                unknown.insert((zone_version, schedules::next_place(conn, view.organisation)?))
            }
        };
        let mut schedule = Schedule::new(*id, view.organisation.clone(), *place);
        *place += 1;
        chapters.extend(rewrite(&mut schedule, view, &timing, Some(*zone_version), (*edited_at, now)));
        planned.push(schedule);
    }
    history::begin(conn, &chapters)?;
    Ok(schedules::insert(conn, &planned)?)
}

/// Writes over a schedule what its agent says. Returns the chapter of its history that begins with that, if any.
fn rewrite<'a>(
    schedule: &mut Schedule,
    view: AgentView<'a>,
    timing: &Timing,
    follows_zone: Option<i64>,
    (edited_at, now): (DateTime<Utc>, DateTime<Utc>),
) -> Option<NewChapter<'a>> {
    let agent = view.agent;
    if follows(agent) != schedule.follows {
        schedule.follows = follows(agent);
        schedule.plan_none();
        schedule.waits = None;
    }
    schedule.overlap = match agent.schedule.overlap {
        // No later tick makes up for the only one: it is late rather than skipped.
        OverlapPolicy::Skip if agent.schedule.one_off => OverlapPolicy::QueueOne,
        overlap => overlap,
    };
    if let Some((SkipReason::Overlap, since)) = schedule.waits
        && schedule.overlap != OverlapPolicy::QueueOne
    {
        // Nobody looks for it at the end of the run any more: what waits is due now, to be settled by the new policy.
        (schedule.next_fire_at, schedule.nominal_at) = (Some(since), Some(since));
    }
    let called_back = agent.endpoint.as_ref().map(|endpoint| endpoint.callback_on);
    schedule.calls_back = called_back.is_some_and(|on| on.runs);
    schedule.calls_back_skipped = called_back.is_some_and(|on| on.skipped);

    let timing_version = agent.schedule.timing_version;
    let begins = timing_version > schedule.timing_version;
    if begins {
        schedule.finished = false;
        schedule.timing_version = timing_version;
        schedule.fired_through = planning_start(timing_version, schedule.fired_through, now);
    }
    if !begins && follows_zone.is_none() {
        return None;
    }
    schedule.zone_version = schedule.zone_version.max(follows_zone.unwrap_or_default());
    begin(schedule, view, timing, edited_at)
}

/// Begins a chapter of its history: plans its first tick, or lets its ticks wait for its owner. One that is finished
/// has no more chapters.
fn begin<'a>(
    schedule: &mut Schedule,
    view: AgentView<'a>,
    timing: &Timing,
    edited_at: DateTime<Utc>,
) -> Option<NewChapter<'a>> {
    tzdb_version().clone_into(&mut schedule.tzdb);
    (schedule.waits, schedule.resumed_with) = (None, None);
    schedule.plan_none();
    if schedule.fired_through == DateTime::UNIX_EPOCH {
        schedule.fired_through = edited_at;
    }
    if schedule.finished {
        return None;
    }
    let effective_from = schedule.fired_through;
    if view.agent.previous.is_none() {
        schedule.plan(timing, timing.first_after(effective_from));
        if !view.agent.schedule.enabled {
            schedule.wait(SkipReason::Disabled);
        }
    }
    Some(NewChapter { agent: view.agent, organisation_zone: view.zone, effective_from })
}

/// Whom it follows, if it is enabled.
fn follows(agent: &Agent) -> Option<Previous> {
    agent.previous.filter(|_| agent.schedule.enabled)
}

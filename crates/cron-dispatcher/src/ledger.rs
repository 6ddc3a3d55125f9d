//! The ledger: recomputes from the history of schedules what should have become of every tick, and compares.
//!
//! Each tick up to where its schedule is settled must be one run or lie in one span of skipped ticks, and the next one
//! must be planned. What nobody can find out any more is left out: ticks older than their retention, and those that
//! were planned with another edition of the time zone database.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use model::crontab::tzdb_version;
use model::document::OverlapPolicy;
use model::id::AgentId;
use model::run::SkipReason;
use model::schedule::Timing;
use serde::Serialize;
use service_kit::config::DatabaseConfig;
use service_kit::database::{DatabaseError, Db, DbConnection};

use crate::store::history::Chapter;
use crate::store::schedules::Schedule;
use crate::store::{self, documents, history, schedules, ticks};

/// Agents read at once.
const AGENTS_AT_ONCE: i64 = 200;
/// Most findings of a kind for one agent: the first tell what is wrong.
const FINDINGS_MAX: usize = 100;

/// What was found; all three lists are empty where every tick is accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Agents whose ticks were recomputed.
    pub agents: u64,
    /// Ticks that were recomputed.
    pub ticks: u64,
    /// Ticks with neither run nor reason, and next ticks that are not planned.
    pub missing: Vec<Finding>,
    /// Ticks with more than one of them.
    pub double: Vec<Finding>,
    /// Runs and skipped spans of no tick.
    pub unexplained: Vec<Finding>,
    /// Chapters of schedules that were planned with another edition of the time zone database.
    pub unverified: u64,
}

/// One tick that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose it is.
    pub organisation: String,
    /// Whose tick it is.
    pub agent: i64,
    /// Its nominal time, or the beginning of the span.
    pub tick: DateTime<Utc>,
    /// What there is.
    pub what: String,
}

impl Report {
    /// Whether every tick is accounted for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.double.is_empty() && self.unexplained.is_empty()
    }
}

/// Verifies every agent's ticks of the last `ticks_days` days, or as many as its organisation keeps.
///
/// # Errors
///
/// The database cannot be opened or read.
pub async fn verify(database: &DatabaseConfig, ticks_days: u32, now: DateTime<Utc>) -> Result<Report, DatabaseError> {
    let db = Db::open_as_it_is(database, store::migrations()).await?;
    let (mut report, mut after) = (Report::default(), i64::MIN);
    loop {
        let page = db.read(move |conn| read_page(conn, after, ticks_days, now)).await?;
        let Some(last) = page.last() else { return Ok(report) };
        after = last.schedule.agent_id;
        page.iter().for_each(|agent| agent.check(&mut report));
    }
}

/// Verifies on a connection that is open.
#[cfg(test)]
pub(crate) fn verify_on(conn: &mut DbConnection, ticks_days: u32, now: DateTime<Utc>) -> Result<Report, DatabaseError> {
    let (mut report, mut after) = (Report::default(), i64::MIN);
    loop {
        let page = read_page(conn, after, ticks_days, now)?;
        let Some(last) = page.last() else { return Ok(report) };
        after = last.schedule.agent_id;
        page.iter().for_each(|agent| agent.check(&mut report));
    }
}

fn read_page(
    conn: &mut DbConnection,
    after: i64,
    ticks_days: u32,
    now: DateTime<Utc>,
) -> Result<Vec<AgentLedger>, DatabaseError> {
    let own: HashMap<String, u32> = documents::ticks_days(conn)?.into_iter().collect();
    let found = schedules::page(conn, after, AGENTS_AT_ONCE)?;
    let ids: Vec<i64> = found.iter().map(|schedule| schedule.agent_id).collect();
    let mut chapters: HashMap<i64, Vec<Chapter>> = HashMap::new();
    for chapter in history::load(conn, &ids)? {
        chapters.entry(chapter.agent_id).or_default().push(chapter);
    }
    let mut page = Vec::with_capacity(found.len());
    for schedule in found {
        let days = own.get(schedule.organisation.as_str()).copied().unwrap_or(ticks_days);
        let since = now - TimeDelta::days(i64::from(days));
        let entries = ticks::entries(conn, schedule.agent_id, since)?;
        let chapters = chapters.remove(&schedule.agent_id).unwrap_or_default();
        page.push(AgentLedger { schedule, chapters, entries, since });
    }
    Ok(page)
}

/// What became of a tick or a span of them, as the tables say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    /// Why there is no run; none: there is one.
    pub(crate) reason: Option<String>,
}

impl Entry {
    fn what(&self) -> String {
        self.reason.as_ref().map_or_else(|| "run".to_owned(), |reason| format!("skipped as {reason}"))
    }
}

/// All that is known of one agent's ticks.
struct AgentLedger {
    schedule: Schedule,
    chapters: Vec<Chapter>,
    entries: Vec<Entry>,
    since: DateTime<Utc>,
}

impl AgentLedger {
    fn check(&self, report: &mut Report) {
        let mut expected: BTreeMap<DateTime<Utc>, u32> = BTreeMap::new();
        let mut unknown = Vec::new();
        for (at, chapter) in self.chapters.iter().enumerate() {
            let next = self.chapters.get(at + 1).map_or(self.schedule.fired_through, |next| next.effective_from);
            let until = next.min(self.schedule.fired_through);
            match timing(chapter) {
                Some(timing) if chapter.tzdb == tzdb_version() => {
                    let ticks = timing.ticks(chapter.effective_from).take_while(|tick| *tick <= until);
                    expected.extend(ticks.filter(|tick| *tick > self.since).map(|tick| (tick, 0)));
                }
                timing => {
                    report.unverified += u64::from(timing.is_some());
                    unknown.push((chapter.effective_from, next));
                }
            }
        }
        // An agent that was there before its history was kept.
        unknown.push((
            DateTime::UNIX_EPOCH,
            self.chapters.first().map_or(DateTime::<Utc>::MAX_UTC, |first| first.effective_from),
        ));

        for entry in self.entries.iter().filter(|entry| entry.from <= self.schedule.fired_through) {
            let mut covered = 0;
            for count in expected.range_mut(entry.from..entry.until).map(|(_, count)| count) {
                *count += 1;
                covered += 1;
            }
            let is_known = unknown.iter().all(|(from, until)| entry.until <= *from || entry.from > *until);
            if covered == 0 && is_known && entry.from > self.since && !self.may_be_followers(entry) {
                self.find(&mut report.unexplained, entry.from, entry.what());
            }
        }
        report.agents += 1;
        report.ticks += expected.len() as u64;
        for (tick, count) in expected {
            match count {
                0 => self.find(&mut report.missing, tick, "neither run nor reason".to_owned()),
                1 => {}
                _ => self.find(&mut report.double, tick, self.all_of(tick)),
            }
        }
        self.check_plan(report);
    }

    /// Whether it may have been skipped while the agent followed another, at a moment that is no tick of any timing: an
    /// edit that ended this, and was made before, may have come after.
    fn may_be_followers(&self, entry: &Entry) -> bool {
        let followed = |chapter: &Chapter| chapter.schedule.is_none() && chapter.effective_from < entry.from;
        entry.reason.is_some() && self.chapters.iter().any(followed)
    }

    /// The tick after the settled ones must be planned, or wait for something.
    fn check_plan(&self, report: &mut Report) {
        let last = self.chapters.last().filter(|chapter| chapter.tzdb == tzdb_version());
        let Some((chapter, timing)) = last.and_then(|chapter| Some((chapter, timing(chapter)?))) else { return };
        if self.schedule.finished || self.schedule.follows.is_some() {
            return;
        }
        let planned = self.schedule.waits.map(|(_, since)| since).or(self.schedule.nominal());
        let next = timing.first_after(self.schedule.fired_through.max(chapter.effective_from));
        let overlaps = matches!(self.schedule.waits, Some((SkipReason::Overlap, _)));
        if overlaps && self.schedule.overlap != OverlapPolicy::QueueOne && self.schedule.next_fire_at.is_none() {
            let what = "waits for a run to end, but its agent lets no tick wait for that".to_owned();
            self.find(&mut report.missing, planned.unwrap_or_default(), what);
        } else if planned != next {
            let what = planned.map_or("not planned".to_owned(), |planned| format!("{planned} is planned instead"));
            self.find(&mut report.missing, next.or(planned).unwrap_or_default(), what);
        }
    }

    fn all_of(&self, tick: DateTime<Utc>) -> String {
        let covers = |entry: &&Entry| entry.from <= tick && tick < entry.until;
        self.entries.iter().filter(covers).map(Entry::what).collect::<Vec<_>>().join(", ")
    }

    fn find(&self, findings: &mut Vec<Finding>, tick: DateTime<Utc>, what: String) {
        let agent = self.schedule.agent_id;
        if findings.iter().rev().take_while(|one| one.agent == agent).count() < FINDINGS_MAX {
            findings.push(Finding { organisation: self.schedule.organisation.0.clone(), agent, tick, what });
        }
    }
}

fn timing(chapter: &Chapter) -> Option<Timing> {
    let schedule = chapter.schedule.as_ref()?;
    Timing::new(schedule, AgentId(chapter.agent_id), Tz::UTC).ok()
}

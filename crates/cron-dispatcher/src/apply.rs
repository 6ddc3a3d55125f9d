//! Apply: documents become schedules, limits and pauses.
//!
//! A document is applied only when its version is higher than the one held, under a lock of its own until the end of the
//! transaction; so repeats and stragglers change nothing. What was due under an agent's old timing is settled before its new timing
//! begins. Other edits leave the next tick alone. Agents that are new are taken together: there is nothing to settle, and a
//! dispatcher that begins with none may be told of a million.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use model::document::{
    Agent, Document, DocumentKind, HeldDocument, Mentor, Organisation, Pause, Subject, version_time,
};
use model::id::{AgentId, MentorId, RunId};
use service_kit::database::DbConnection;

use crate::chain::leave;
use crate::config::DispatcherConfig;
use crate::creators;
use crate::error::DispatchError;
use crate::fired::Fired;
use crate::pause::{self, change_pause};
use crate::replan::{plan, plan_new, replans, settle_before};
use crate::store::documents::{Directory, Versions};
use crate::store::schedules::{self, Of};
use crate::store::zone_changes::{self, ZoneChange};
use crate::store::{documents, history, limits, one_offs, turns};

/// What a batch of documents came to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// What is held now, for the registry to know.
    pub(crate) held: Vec<HeldDocument>,
    /// What was due under old timings, and before pauses.
    pub(crate) fired: Fired,
    /// Requested runs that pauses took back.
    pub(crate) taken_back: Vec<RunId>,
}

/// Applies documents, those that others lean on first.
///
/// An agent without its mentor or organisation is not held: the registry announces it again, by then they have come.
pub(crate) fn apply(
    conn: &mut DbConnection,
    documents: &[Document],
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Applied, DispatchError> {
    documents::lock(conn, documents)?;
    let mut held = Versions::load(conn, documents)?;
    lock_edited(conn, &held, documents, now)?;
    let mut ordered: Vec<&Document> = documents.iter().collect();
    ordered.sort_by_key(|document| (document.kind(), document.version));
    let mut applied = Applied::default();
    let mut new_agents = Vec::new();
    for document in ordered {
        let (kind, key) = (document.kind(), document.key());
        let version = held.of(kind, &key);
        if version.is_none_or(|version| document.version > version) {
            if !leans_on_held(&held, document) {
                tracing::info!(document.kind = %kind, document.key = key, "document came before what it leans on");
                continue;
            }
            if version.is_none() && kind == DocumentKind::Agent {
                new_agents.push(document);
            } else {
                // In the order of the edits: whoever follows another is there before the other's next edit.
                add(conn, &std::mem::take(&mut new_agents), now)?;
                Applying { conn, document, config, now, applied: &mut applied }.apply()?;
            }
            held.set(document);
        }
        let version = held.of(kind, &key).unwrap_or_default();
        applied.held.push(HeldDocument { kind, key, version, next_fire_time: None });
    }
    add(conn, &new_agents, now)?;
    say_when_due(conn, &mut applied.held)?;
    Ok(applied)
}

/// Locks the schedules of all agents that are about to be edited, and of organisations about to be paused or resumed, with
/// those that follow them: in the order of the edits, each would be locked while those before it are held, and the turns
/// that these took, and the window and the runs that these took back.
fn lock_edited(
    conn: &mut DbConnection,
    held: &Versions,
    documents: &[Document],
    now: DateTime<Utc>,
) -> Result<(), DispatchError> {
    let is_edit = |document: &&Document| {
        held.of(document.kind(), &document.key()).is_some_and(|version| version < document.version)
    };
    let edits: Vec<&Document> = documents.iter().filter(is_edit).collect();
    // One alone locks things in their order.
    if edits.len() < 2 {
        return Ok(());
    }
    let (mut agent_ids, mut may_take_back) = (Vec::new(), false);
    for document in edits {
        match &document.subject {
            Subject::Agent(agent) => {
                agent_ids.push(agent.id.0);
                may_take_back |= agent.pause.paused;
            }
            Subject::AgentDeleted(AgentId(id)) => agent_ids.push(*id),
            Subject::Organisation(organisation) => {
                let of = Of::Organisation(document.organisation.as_str());
                let moved = if organisation.pause.paused {
                    schedules::due_of(conn, of, now)
                } else {
                    schedules::paused_of(conn, of)
                };
                agent_ids.extend(moved?);
                may_take_back = true;
            }
            Subject::Mentor(_) | Subject::MentorDeleted(_) => {}
        }
    }
    if agent_ids.is_empty() {
        return Ok(());
    }
    let organisations = schedules::lock_with_followers(conn, &agent_ids)?;
    if organisations.len() > 1 || may_take_back {
        turns::lock(conn, &organisations.iter().map(String::as_str).collect())?;
    }
    Ok(())
}

/// When an edit was made.
fn edited_at(document: &Document, now: DateTime<Utc>) -> DateTime<Utc> {
    version_time(document.version).min(now)
}

/// Adds agents of which nothing is held: nothing was due, nothing runs, and nobody waits for anything of theirs.
fn add(conn: &mut DbConnection, new: &[&Document], now: DateTime<Utc>) -> Result<(), DispatchError> {
    if new.is_empty() {
        return Ok(());
    }
    documents::put(conn, new, now)?;
    let mut edits = Vec::with_capacity(new.len());
    for document in new {
        let Subject::Agent(agent) = &document.subject else { continue };
        if agent.runs_in_flight_max.is_some() || agent.pause.paused {
            let scope = limits::of_agent(document.organisation.as_str(), agent.id.0);
            limits::put(conn, &scope, agent.runs_in_flight_max, agent.pause)?;
        }
        edits.push((agent.id, edited_at(document, now)));
    }
    let directory = Directory::around(conn, new.iter().map(|document| (*document).clone()).collect())?;
    plan_new(conn, &directory, &edits, now)
}

fn leans_on_held(held: &Versions, document: &Document) -> bool {
    let Subject::Agent(agent) = &document.subject else { return true };
    held.of(DocumentKind::Mentor, &agent.mentor_id.to_string()).is_some()
        && held.of(DocumentKind::Organisation, document.organisation.as_str()).is_some()
}

/// Adds when agents are due next.
fn say_when_due(conn: &mut DbConnection, held: &mut [HeldDocument]) -> Result<(), DispatchError> {
    let id_of = |one: &HeldDocument| if one.kind == DocumentKind::Agent { one.key.parse().ok() } else { None };
    let agent_ids: Vec<i64> = held.iter().filter_map(id_of).collect();
    if agent_ids.is_empty() {
        return Ok(());
    }
    let schedules = schedules::load(conn, &agent_ids)?;
    let due: HashMap<i64, _> = schedules.into_iter().map(|one| (one.agent_id, one.next_fire_at)).collect();
    for one in held {
        one.next_fire_time = id_of(one).and_then(|id| due.get(&id).copied().flatten());
    }
    Ok(())
}

/// One document on its way into the tables.
struct Applying<'a> {
    conn: &'a mut DbConnection,
    document: &'a Document,
    config: &'a DispatcherConfig,
    now: DateTime<Utc>,
    applied: &'a mut Applied,
}

impl Applying<'_> {
    fn apply(&mut self) -> Result<(), DispatchError> {
        match &self.document.subject {
            Subject::Organisation(organisation) => self.organisation(organisation),
            Subject::Mentor(mentor) => self.mentor(mentor),
            Subject::MentorDeleted(MentorId(id)) => {
                let scope = limits::of_mentor(self.document.organisation.as_str(), *id);
                limits::delete(self.conn, &scope)?;
                self.put()
            }
            Subject::Agent(agent) => self.agent(agent),
            Subject::AgentDeleted(AgentId(id)) => {
                self.put()?;
                // Before the run that it waits to take, as whoever takes answers.
                let schedule = schedules::lock(self.conn, *id)?;
                if schedule.is_some_and(|schedule| schedule.finished) {
                    one_offs::forget(self.conn, *id)?;
                }
                leave(self.conn, *id)?;
                schedules::delete(self.conn, *id)?;
                history::delete(self.conn, *id)?;
                Ok(limits::delete(self.conn, &limits::of_agent(self.document.organisation.as_str(), *id))?)
            }
        }
    }

    fn put(&mut self) -> Result<(), DispatchError> {
        Ok(documents::put(self.conn, &[self.document], self.now)?)
    }

    fn edited_at(&self) -> DateTime<Utc> {
        edited_at(self.document, self.now)
    }

    fn organisation(&mut self, organisation: &Organisation) -> Result<(), DispatchError> {
        let key = self.document.organisation.as_str();
        let before = match documents::find(self.conn, DocumentKind::Organisation, key)?.map(|held| held.subject) {
            Some(Subject::Organisation(before)) => Some(before),
            _ => None,
        };
        let zone_before = before.as_ref().map(|before| before.timezone);
        let before = before.unwrap_or_default();
        let of = Of::Organisation(key);
        self.settle_before_pause(of, before.pause, organisation.pause)?;
        let resumes = before.pause.paused && !organisation.pause.paused;
        if resumes {
            schedules::lock_paused(self.conn, of)?;
        }
        // Its schedules follow one after the other.
        if let Some(zone_before) = zone_before.filter(|zone| *zone != organisation.timezone) {
            let change = ZoneChange {
                organisation: self.document.organisation.clone(),
                version: self.document.version,
                changed_at: self.edited_at(),
                before: zone_before,
                after: organisation.timezone,
                place: -1,
            };
            zone_changes::insert(self.conn, &change)?;
        }
        self.put()?;
        limits::put(self.conn, &limits::of_organisation(key), organisation.runs_in_flight_max, organisation.pause)?;
        if resumes {
            // Schedules before the window.
            self.pause(of, before.pause, organisation.pause)?;
        }
        if before.revoked_users != organisation.revoked_users {
            let users = &organisation.revoked_users;
            let (stopped, ended) = creators::revoke(self.conn, key, users, self.config, self.now)?;
            self.applied.fired.cancelled.extend(stopped);
            self.applied.fired.ended.extend(ended);
        }
        if resumes { Ok(()) } else { self.pause(of, before.pause, organisation.pause) }
    }

    fn mentor(&mut self, mentor: &Mentor) -> Result<(), DispatchError> {
        self.put()?;
        let scope = limits::of_mentor(self.document.organisation.as_str(), mentor.id.0);
        Ok(limits::put(self.conn, &scope, mentor.runs_in_flight_max, Pause::default())?)
    }

    fn agent(&mut self, agent: &Agent) -> Result<(), DispatchError> {
        let id = agent.id.0;
        let before = match documents::find(self.conn, DocumentKind::Agent, &id.to_string())?.map(|held| held.subject) {
            Some(Subject::Agent(before)) => Some(*before),
            _ => None,
        };
        let paused_before = before.as_ref().map(|before| before.pause).unwrap_or_default();
        self.settle_before_pause(Of::Agent(id), paused_before, agent.pause)?;
        let edited_at = self.edited_at();
        let replans = replans(before.as_ref(), agent);
        if replans {
            self.applied.fired.join(settle_before(self.conn, agent, edited_at, self.now, self.config)?);
        }
        self.put()?;
        let scope = limits::of_agent(self.document.organisation.as_str(), id);
        limits::put(self.conn, &scope, agent.runs_in_flight_max, agent.pause)?;
        plan(self.conn, id, replans, edited_at, self.now)?;
        self.pause(Of::Agent(id), paused_before, agent.pause)
    }

    fn settle_before_pause(&mut self, of: Of<'_>, before: Pause, after: Pause) -> Result<(), DispatchError> {
        if before.paused || !after.paused {
            return Ok(());
        }
        let fired = pause::settle_before(self.conn, of, self.edited_at(), self.now, self.config)?;
        self.applied.fired.join(fired);
        Ok(())
    }

    fn pause(&mut self, of: Of<'_>, before: Pause, after: Pause) -> Result<(), DispatchError> {
        if before.paused != after.paused {
            let taken_back = change_pause(self.conn, of, after, self.now)?;
            self.applied.taken_back.extend(taken_back);
        }
        Ok(())
    }
}

//! Creating agents: those of one organisation that are wanted at the same time are stored together, each statement once
//! for all of them.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use diesel::QueryResult;
use model::document::{CatchUp, OverlapPolicy, next_version};
use service_kit::database::DbConnection;
use service_kit::error::ApiError;

use super::apply::{Mentors, apply};
use super::{Edit, Saved, lock_chains, seal_secret};
use crate::access::{self, Acting};
use crate::documents::{self, Providers, Written};
use crate::state::State;
use crate::store::activity::{self, ActivityRow, NewActivity};
use crate::store::agents::{self, AgentRow};
use crate::store::organisations::{self, OrganisationRow};
use crate::{audit, policy, timing};

/// Stores new agents, all of one organisation: each is stored, or refused for what is wrong with it. What is returned as
/// an error undoes all of it; so does that every one is refused.
pub(crate) fn create(
    conn: &mut DbConnection,
    state: &State,
    edits: &[Edit],
) -> Result<(Vec<Result<Saved, ApiError>>, Written), ApiError> {
    let now = state.clock.now();
    let mut written = Written::new();
    let Some(first) = edits.first() else { return Ok((Vec::new(), written)) };
    let vouching = edits.iter().find(|edit| edit.acting.vouches_for_organisation).unwrap_or(first);
    let organisation = access::enter_organisation(conn, &vouching.acting, now, &mut written)?;
    let mut room = Room::find(conn, &organisation)?;
    if edits.iter().any(Edit::lengthens_a_chain) {
        lock_chains(conn, &organisation.key)?;
    }
    let mut mentors = Mentors::default();
    let mut created = Vec::with_capacity(edits.len());
    for edit in edits {
        let one = room.check().and_then(|()| prepare(conn, state, &organisation, edit, &mut mentors, now));
        match &one {
            Ok(_) => room.take(),
            Err(failure) if failure.status().is_server_error() => return Err(failure.clone()),
            Err(_) => {}
        }
        created.push(one);
    }
    if let Some(Err(refused)) = created.first()
        && created.iter().all(Result::is_err)
    {
        return Err(refused.clone());
    }
    let mut accepted: Vec<(&Edit, &mut Saved)> =
        edits.iter().zip(&mut created).filter_map(|(edit, one)| Some((edit, one.as_mut().ok()?))).collect();
    let ids = agents::next_ids(conn, accepted.len())?;
    for ((edit, saved), id) in accepted.iter_mut().zip(ids) {
        saved.row.id = id;
        saved.row.sealed_callback_secret = seal_secret(state, id, &edit.input.callback_secret, None)?;
        let next_fire_time = timing::next_fire(Some(&organisation), &saved.row, now);
        saved.activity = Some(ActivityRow::of_new(id, next_fire_time));
    }
    insert(conn, Providers::of(Some(&organisation), &state.config), &accepted, now, &mut written)?;
    Ok((created, written))
}

/// Stores one new agent.
pub(crate) fn create_one(conn: &mut DbConnection, state: &State, edit: Edit) -> Result<(Saved, Written), ApiError> {
    let (mut created, written) = create(conn, state, &[edit])?;
    Ok((created.remove(0)?, written))
}

/// An agent as it will be stored, but for what it takes an id to know.
fn prepare(
    conn: &mut DbConnection,
    state: &State,
    organisation: &OrganisationRow,
    edit: &Edit,
    mentors: &mut Mentors,
    now: DateTime<Utc>,
) -> Result<Saved, ApiError> {
    let mut row = blank(&edit.acting, now);
    let mentor = apply(conn, state, Some(organisation), None, &mut row, edit, mentors)?;
    row.timing_version = next_version(0, now);
    Ok(Saved { row, mentor, activity: None })
}

/// Inserts what was accepted of one organisation, in the order of `store`: agents, documents, activities.
fn insert(
    conn: &mut DbConnection,
    providers: Providers<'_>,
    accepted: &[(&Edit, &mut Saved)],
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    let rows: Vec<&AgentRow> = accepted.iter().map(|(_, saved)| &saved.row).collect();
    agents::insert(conn, rows.clone())?;
    // By key, as text: the order of documents.
    let mentors: BTreeMap<String, _> =
        accepted.iter().map(|(_, saved)| (saved.mentor.id.to_string(), &saved.mentor)).collect();
    for mentor in mentors.values() {
        documents::write_mentor(conn, mentor, providers, now, written)?;
    }
    documents::write_new_agents(conn, &rows, now, written)?;
    let activities =
        accepted.iter().filter_map(|(_, saved)| Some(NewActivity::of(&saved.row, saved.activity.as_ref()?)));
    activity::insert(conn, activities.collect())?;
    audit::record_each(conn, accepted.iter().map(|(edit, saved)| (&edit.acting, saved.row.id)), "agent.created", now)
}

/// How many agents more an organisation may have.
enum Room {
    Unlimited,
    For { agents: i64, max: i32 },
}

impl Room {
    /// Where there is a limit, creations take turns, so that two at once do not both find room.
    fn find(conn: &mut DbConnection, read: &OrganisationRow) -> QueryResult<Self> {
        if read.agents_max.is_none() {
            return Ok(Self::Unlimited);
        }
        let locked = organisations::find_for_update(conn, &read.key)?;
        let Some(max) = locked.and_then(|row| row.agents_max) else { return Ok(Self::Unlimited) };
        Ok(Self::For { agents: i64::from(max) - agents::count(conn, &read.key)?, max })
    }

    /// Refuses one agent more than there is room for.
    fn check(&self) -> Result<(), ApiError> {
        let Self::For { agents: ..=0, max } = self else { return Ok(()) };
        let text =
            format!("This organisation may have at most {max} agents: delete some, or raise `limits.agents_max`.");
        Err(ApiError::detail(StatusCode::FORBIDDEN, text).with_code("agents_max_reached"))
    }

    /// One agent takes its place.
    fn take(&mut self) {
        if let Self::For { agents, .. } = self {
            *agents -= 1;
        }
    }
}

/// An agent of which nothing was said yet.
fn blank(acting: &Acting, now: DateTime<Utc>) -> AgentRow {
    let mut row = AgentRow {
        id: 0,
        organisation: acting.organisation.clone(),
        mentor_id: 0,
        title: String::new(),
        username: acting.username.clone(),
        last_editor: acting.caller.clone(),
        description: String::new(),
        prompt: String::new(),
        minute: String::new(),
        hour: String::new(),
        day_of_month: String::new(),
        month_of_year: String::new(),
        day_of_week: String::new(),
        timezone: None,
        one_off: false,
        start_time: None,
        enabled: true,
        pathway: String::new(),
        callback_url: String::new(),
        sealed_callback_secret: None,
        parent_session_id: String::new(),
        parent_mentor_id: None,
        previous_agent_id: None,
        previous_agent_status: "success".to_owned(),
        search_text: String::new(),
        created_at: now.into(),
        modified_at: now.into(),
        timing_version: 0,
        end_time: None,
        jitter_seconds: 0,
        overlap_policy: OverlapPolicy::default().to_string(),
        catch_up: CatchUp::default().to_string(),
        catch_up_window_seconds: None,
        max_attempts: 1,
        timeout_seconds: policy::TIMEOUT_SECONDS,
        callback_on_runs: true,
        callback_on_skipped: false,
        callback_encrypt: false,
        callback_signature_only_hub: false,
        sealed_previous_secret: None,
        previous_secret_until: None,
        paused: false,
        paused_note: String::new(),
        resumed_with: None,
    };
    row.set_crontab(model::crontab::CrontabFields::default());
    row
}

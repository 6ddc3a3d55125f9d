//! What a request says of an agent, written over what is stored, and held against what there is: its mentor, the agent
//! before it, where it may call back.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::QueryResult;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::egress::EgressError;
use service_kit::error::ApiError;
use url::Url;

use super::Edit;
use crate::documents::{self, Providers};
use crate::state::State;
use crate::store::agents::{self, AgentRow};
use crate::store::mentors::{self, MentorRow};
use crate::store::organisations::OrganisationRow;
use crate::validation::agent::{AgentInput, check_crontab};
use crate::validation::fields::Faults;
use crate::validation::reference::{MentorReference, no_such_pk};
use crate::{policy, timing};

/// Longer chains of previous agents are not followed: nobody has them, unless they go in a circle.
const CHAIN_MAX: usize = 1_000;

/// The mentors that requests of one transaction name, each read once: many agents may be made of one.
#[derive(Default)]
pub(super) struct Mentors(HashMap<MentorReference, Option<Arc<MentorRow>>>);

impl Mentors {
    fn find(
        &mut self,
        conn: &mut DbConnection,
        organisation: &str,
        reference: MentorReference,
    ) -> QueryResult<Option<Arc<MentorRow>>> {
        if let Some(known) = self.0.get(&reference) {
            return Ok(known.clone());
        }
        let found = mentors::find(conn, organisation, reference)?;
        let found = found.filter(|mentor| mentor.deleted_at.is_none()).map(Arc::new);
        Ok(self.0.entry(reference).or_insert(found).clone())
    }
}

/// Writes over a row what the request says. The errors are all that is wrong with it, at once.
pub(super) fn apply(
    conn: &mut DbConnection,
    state: &State,
    organisation: Option<&OrganisationRow>,
    before: Option<&AgentRow>,
    row: &mut AgentRow,
    edit: &Edit,
    mentors: &mut Mentors,
) -> Result<Arc<MentorRow>, ApiError> {
    let faults = Faults::from(edit.errors.clone());
    let providers = Providers::of(organisation, &state.config);
    let mentor = apply_mentor(conn, providers, row, &edit.input, mentors, &faults)?;
    apply_previous_agent(conn, row, &edit.input, &faults)?;
    apply_texts(row, &edit.input);
    apply_task(row, &edit.input, &faults);
    policy::apply(row, &edit.input, &faults);
    policy::check_together(before, row, &faults);
    timing::check(organisation, before, row, state.clock.now(), &faults);
    check_callback_url(state, edit.input.callback_url.as_deref(), &faults);
    faults.into_errors().into_result()?;
    // Without a fault there is a mentor.
    mentor.ok_or_else(|| ApiError::no_such("Mentor"))
}

fn apply_mentor(
    conn: &mut DbConnection,
    providers: Providers<'_>,
    row: &mut AgentRow,
    input: &AgentInput,
    mentors: &mut Mentors,
    faults: &Faults,
) -> Result<Option<Arc<MentorRow>>, ApiError> {
    let Some(reference) = input.mentor else {
        return Ok(mentors::by_ids(conn, vec![row.mentor_id])?.remove(&row.mentor_id).map(Arc::new));
    };
    let Some(mentor) = mentors.find(conn, &row.organisation, reference)? else {
        faults.add("mentor", reference.missing());
        return Ok(None);
    };
    if let Err(fault) = documents::check_can_be_asked(&mentor, providers) {
        faults.add("mentor", fault);
    }
    row.mentor_id = mentor.id;
    Ok(Some(mentor))
}

fn apply_previous_agent(
    conn: &mut DbConnection,
    row: &mut AgentRow,
    input: &AgentInput,
    faults: &Faults,
) -> Result<(), ApiError> {
    let Some(previous) = input.previous_agent else { return Ok(()) };
    row.previous_agent_id = previous;
    let Some(previous) = previous else { return Ok(()) };
    if agents::find(conn, &row.organisation, previous)?.is_none() {
        faults.add("previous_agent", no_such_pk(&previous.to_string()));
        return Ok(());
    }
    let mut earlier = Some(previous);
    for _ in 0..CHAIN_MAX {
        match earlier {
            None => return Ok(()),
            // A new agent has no id yet, and nobody waits for it.
            Some(id) if id == row.id => break,
            Some(id) => earlier = agents::previous_of(conn, id)?,
        }
    }
    let fault = if previous == row.id {
        "An agent cannot be its own previous agent."
    } else {
        "These agents would wait for each other in a circle."
    };
    faults.add("previous_agent", fault);
    Ok(())
}

fn apply_texts(row: &mut AgentRow, input: &AgentInput) {
    let texts = [
        (&mut row.title, &input.title),
        (&mut row.description, &input.description),
        (&mut row.prompt, &input.prompt),
        (&mut row.pathway, &input.pathway),
        (&mut row.callback_url, &input.callback_url),
        (&mut row.parent_session_id, &input.parent_session_id),
    ];
    for (place, text) in texts {
        if let Some(text) = text {
            place.clone_from(text);
        }
    }
    row.search_text = [&row.title, &row.description, &row.prompt].map(|text| text.to_lowercase()).join("\n");
    row.parent_mentor_id = input.parent_mentor_id.unwrap_or(row.parent_mentor_id);
    if let Some(status) = input.previous_agent_status {
        status.clone_into(&mut row.previous_agent_status);
    }
}

fn apply_task(row: &mut AgentRow, input: &AgentInput, faults: &Faults) {
    let task = &input.task;
    row.one_off = task.one_off.unwrap_or(row.one_off);
    row.enabled = task.enabled.unwrap_or(row.enabled);
    if let Some(start_time) = task.start_time {
        row.start_time = start_time.map(Timestamp::from);
    }
    if let Some(timezone) = task.crontab.timezone {
        row.timezone = timezone.map(|zone| zone.name().to_owned());
    }
    let mut crontab = row.crontab();
    task.crontab.apply(&mut crontab);
    check_crontab(&crontab, "task.crontab", faults);
    row.set_crontab(crontab);
}

/// An address that is not public and not allowed is refused here; of a name, the deliverer asks where it leads.
fn check_callback_url(state: &State, url: Option<&str>, faults: &Faults) {
    let Some(Ok(url)) = url.map(Url::parse) else { return };
    if let Err(refusal @ EgressError::NotPublic { .. }) = state.egress.check_url(&url) {
        faults.add("callback_url", format!("{refusal}."));
    }
}

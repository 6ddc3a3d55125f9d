//! Periodic agents: list, retrieve, statistics.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use diesel::QueryResult;
use serde::Serialize;
use service_kit::database::DbConnection;
use service_kit::error::{ApiError, FieldErrors};
use utoipa::ToSchema;
use uuid::Uuid;

use super::agent_view::AgentView;
use super::list::read_list;
use super::list_stream::Entries;
use super::mentor_view::MentorView;
use super::page::PageRequest;
use super::request::{self, Item};
use crate::state::State;
use crate::store::agent_list::{self, AgentFilter};
use crate::store::{activity, agents, mentors, shown_agents};
use crate::validation::agent::STATUSES;
use crate::validation::query::Query;
use crate::validation::reference::MentorReference;

/// `GET P/periodic-agents/`
pub(super) async fn list_agents(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let query = request::query(&request);
    let page = PageRequest::read(&query)?;
    let asked = query.clone();
    let found = read_list(&state, move |conn| {
        let filter = read_filter(conn, &asked, organisation)?;
        let page = page.of(agent_list::count(conn, filter.clone())?)?;
        let ordering = asked.ordering(agent_list::ORDERABLE);
        let ids = agent_list::page(conn, filter, &ordering, page.window())?;
        let text_bytes = shown_agents::text_bytes(conn, &ids)?;
        Ok((page, Entries::read(conn, &ids, &text_bytes, views)?))
    });
    let (page, entries) = found.await?;
    entries.answer(&state, &request, &query, page)
}

/// `GET P/periodic-agents/{id}/`
pub(super) async fn get_agent(
    state: web::Data<State>,
    request: HttpRequest,
    path: web::Path<Item>,
) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let id = path.id("PeriodicAgent")?;
    let view = state.db.read(move |conn| view_of(conn, &organisation, id)).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// How many agents have which status, by their newest logs.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Statistics {
    total_tasks: i64,
    succeeded_tasks: i64,
    failed_tasks: i64,
    running_tasks: i64,
    pending_tasks: i64,
}

/// `GET P/periodic-agents/statistics/`: of the agents that a list with the same filters has.
pub(super) async fn get_statistics(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let organisation = request::admit(&state, &request)?.organisation;
    let query = request::query(&request);
    let found = read_list(&state, move |conn| {
        let filter = read_filter(conn, &query, organisation)?;
        Ok(agent_list::statuses(conn, filter)?)
    });
    let mut statistics = Statistics::default();
    for (status, count) in found.await? {
        statistics.total_tasks += count;
        match status.as_str() {
            "success" => statistics.succeeded_tasks += count,
            "error" => statistics.failed_tasks += count,
            "pending" => statistics.pending_tasks += count,
            _ => statistics.running_tasks += count,
        }
    }
    Ok(HttpResponse::Ok().json(statistics))
}

/// What `mentor_id` narrows a list to: a public id or an integer id; anything else matches nothing.
pub(super) fn mentor_filter(
    conn: &mut DbConnection,
    query: &Query,
    organisation: &str,
) -> QueryResult<Option<Option<i64>>> {
    let Some(text) = query.text("mentor_id") else { return Ok(None) };
    let reference = match (text.parse(), Uuid::parse_str(text)) {
        (Ok(id), _) => MentorReference::Id(id),
        (Err(_), Ok(unique_id)) => MentorReference::UniqueId(unique_id),
        (Err(_), Err(_)) => return Ok(Some(None)),
    };
    Ok(Some(mentors::find_id(conn, organisation, reference)?))
}

fn read_filter(conn: &mut DbConnection, query: &Query, organisation: String) -> Result<AgentFilter, ApiError> {
    let mut errors = FieldErrors::new();
    let text = |name: &str| query.text(name).map(str::to_owned);
    let filter = AgentFilter {
        mentor_id: mentor_filter(conn, query, &organisation)?,
        enabled: query.boolean("enabled"),
        parent_mentor_id: query.integer("parent_mentor_id", &mut errors),
        parent_session_id: text("parent_session_id"),
        previous_agent: query.id("previous_agent", &mut errors),
        previous_agent_status: query.choice("previous_agent_status", &STATUSES, &mut errors),
        status: query.choice("status", &STATUSES, &mut errors),
        title: text("title"),
        username: text("username"),
        search: query.search(),
        organisation,
    };
    if let Some(previous) = filter.previous_agent
        && !agents::exists(conn, &filter.organisation, previous)?
    {
        Query::no_such("previous_agent", &mut errors);
    }
    errors.into_result()?;
    Ok(filter)
}

/// One agent as it is shown now.
pub(super) fn view_of(conn: &mut DbConnection, organisation: &str, id: i64) -> Result<AgentView, ApiError> {
    let found = shown_agents::find(conn, organisation, id)?;
    let (row, mentor, activity) = found.ok_or_else(|| ApiError::no_such("PeriodicAgent"))?;
    let mut view = AgentView::of_read(row, Arc::new(mentor.into()), activity.as_ref());
    AgentView::with_previous_outputs(conn, std::slice::from_mut(&mut view))?;
    Ok(view)
}

/// Those of these agents that exist, in this order, with their mentors and activities.
fn views(conn: &mut DbConnection, ids: &[i64]) -> QueryResult<Vec<AgentView>> {
    let mut rows = shown_agents::by_ids(conn, ids)?;
    let mut mentor_ids: Vec<i64> = rows.values().map(|row| row.mentor_id).collect();
    mentor_ids.sort_unstable();
    mentor_ids.dedup();
    let mentors = mentors::by_ids(conn, mentor_ids)?.into_iter();
    let mentors: HashMap<i64, Arc<MentorView>> = mentors.map(|(id, row)| (id, Arc::new(row.into()))).collect();
    let activities = activity::by_agents(conn, ids.to_vec())?;
    let view = |id: &i64| {
        let row = rows.remove(id)?;
        let mentor = Arc::clone(mentors.get(&row.mentor_id)?);
        Some(AgentView::of_read(row, mentor, activities.get(id)))
    };
    let mut views: Vec<AgentView> = ids.iter().filter_map(view).collect();
    AgentView::with_previous_outputs(conn, &mut views)?;
    Ok(views)
}

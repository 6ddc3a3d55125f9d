//! Taking in what is to be told: one delivery each, once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::dsl::count_star;
use diesel::prelude::*;
use model::id::{AgentId, OrganisationKey};
use model::run::{RunRecord, SkippedTick};
use service_kit::database::{DatabaseError, DbConnection, Timestamp};
use uuid::Uuid;

use super::endpoints::{self, Endpoint, Fate, Hold, URL_WAIT};
use super::new_delivery::{NewBody, NewDelivery, insert, insert_bodies};
use super::organisations::{self, Organisation};
use super::states;
use super::{Leased, Lessee, ROWS_MAX, Target, lane};
use crate::lanes::{Lanes, Refusal, Slot, Wanted};
use crate::log_link::LogLinks;
use crate::payload::{self, NotEnded};
use crate::schema::deliveries;
use crate::webhook_id;
use crate::words::Status;

/// What is to be told to an agent's endpoint.
#[derive(Debug)]
pub(crate) enum News {
    /// A run that ended.
    Run(Box<RunRecord>),
    /// A tick, or a span of them, without a run.
    Tick(SkippedTick),
}

/// What came of taking news in.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Leased to this process: to be tried at once.
    pub(crate) leased: Vec<Leased>,
    /// Whether others are due.
    pub(crate) due: bool,
    /// How many deliveries are new.
    pub(crate) new: usize,
    /// How many of them have nobody any more who would receive them.
    pub(crate) discarded: usize,
}

/// Why news was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// The database's doing.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The message's fault.
    #[error(transparent)]
    NotEnded(#[from] NotEnded),
}

impl From<diesel::result::Error> for IntakeError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Who takes in: what all deliveries that he makes have in common.
pub(crate) struct Intake<'a> {
    pub(crate) installation: Uuid,
    pub(crate) lessee: Lessee,
    pub(crate) lanes: &'a Arc<Lanes>,
    pub(crate) links: &'a LogLinks,
}

impl News {
    fn agent_id(&self) -> AgentId {
        match self {
            Self::Run(record) => record.run.agent_id,
            Self::Tick(tick) => tick.agent_id,
        }
    }

    fn organisation(&self) -> &OrganisationKey {
        match self {
            Self::Run(record) => &record.run.organisation,
            Self::Tick(tick) => &tick.organisation,
        }
    }

    /// When it was decided that it is told, and by which version of the agent's document.
    fn decided(&self) -> (Option<i64>, DateTime<Utc>) {
        match self {
            Self::Run(record) => (record.agent_version, record.ended_at.unwrap_or(record.requested_at)),
            Self::Tick(tick) => (tick.agent_version, tick.until),
        }
    }

    fn body(&self, undelivered: i64, intake: &Intake<'_>) -> Result<String, NotEnded> {
        match self {
            Self::Run(record) => payload::of_run(record, undelivered, intake.links),
            Self::Tick(tick) => Ok(payload::of_tick(tick, undelivered, *intake.lessee.now)),
        }
    }

    fn row(&self, intake: &Intake<'_>, body_bytes: usize) -> NewDelivery<'_> {
        let (webhook_id, log_id, event) = match self {
            Self::Run(record) => {
                let id = record.run.id;
                (webhook_id::of_run(intake.installation, id), Some(id.0), payload::RUN_FINISHED)
            }
            Self::Tick(tick) => {
                let id = webhook_id::of_tick(intake.installation, tick.agent_id, tick.fire_time);
                (id, None, payload::TICK_SKIPPED)
            }
        };
        let (organisation, agent_id) = (self.organisation().as_str(), self.agent_id().0);
        let row = NewDelivery::due(webhook_id, organisation, agent_id, event, body_bytes, intake.lessee.now);
        NewDelivery { log_id, awaits_version: self.decided().0, ..row }
    }
}

/// Stores a delivery for each piece of news that has none yet; those that can be sent, and for which there is room, are
/// leased.
///
/// Idempotent: the webhook id is unique, so what comes again changes nothing.
pub(crate) fn take_in(connection: &mut DbConnection, news: &[News], intake: &Intake<'_>) -> Result<Taken, IntakeError> {
    let agents: Vec<i64> = news.iter().map(|one| one.agent_id().0).collect::<HashSet<_>>().into_iter().collect();
    let keys: HashSet<&str> = news.iter().map(|one| one.organisation().as_str()).collect();
    endpoints::lock(connection, Hold::Shared)?;
    let held = Known {
        endpoints: endpoints::of_agents(connection, &agents)?,
        disabled: disabled(connection, &agents)?,
        organisations: organisations::of_keys(connection, &keys.into_iter().collect::<Vec<_>>())?,
        undelivered: count_undelivered(connection, &agents)?,
    };
    let mut taken = Taken::default();
    for chunk in news.chunks(ROWS_MAX) {
        take_in_chunk(connection, chunk, intake, &held, &mut taken)?;
    }
    Ok(taken)
}

/// What is known of the agents that there is news of.
struct Known {
    endpoints: HashMap<i64, Endpoint>,
    disabled: HashSet<i64>,
    organisations: HashMap<String, Organisation>,
    undelivered: HashMap<i64, i64>,
}

fn take_in_chunk(
    connection: &mut DbConnection,
    chunk: &[News],
    intake: &Intake<'_>,
    held: &Known,
    taken: &mut Taken,
) -> Result<(), IntakeError> {
    let (mut rows, mut bodies, mut slots) = (Vec::new(), HashMap::new(), HashMap::new());
    for one in chunk {
        let agent_id = one.agent_id().0;
        let body = one.body(held.undelivered.get(&agent_id).copied().unwrap_or(0), intake)?;
        let mut row = one.row(intake, body.len());
        // What stands here twice is made into one delivery.
        if bodies.insert(*row.webhook_id, body).is_some() {
            continue;
        }
        let (awaited, decided_at) = one.decided();
        let fate = match Endpoint::fate(held.endpoints.get(&agent_id), awaited, decided_at) {
            Fate::Send(_) if held.disabled.contains(&agent_id) => Fate::Hold,
            fate => fate,
        };
        if let Some(taken) = settle(&mut row, fate, intake, held) {
            slots.insert(*row.webhook_id, taken);
        }
        rows.push(row);
    }
    let mut inserted = insert(connection, &rows)?;
    let mut new = Vec::with_capacity(inserted.len());
    for row in &rows {
        let Some(id) = inserted.remove(&*row.webhook_id) else { continue };
        let Some(body) = bodies.remove(&*row.webhook_id) else { continue };
        match slots.remove(&*row.webhook_id) {
            Some((target, slot)) => taken.leased.push(leased(row, id, body.clone(), target, slot)),
            None => taken.due |= row.due_at == Some(intake.lessee.now),
        }
        taken.discarded += usize::from(row.status == Status::Discarded);
        new.push(NewBody { delivery_id: id, body });
    }
    taken.new += new.len();
    Ok(insert_bodies(connection, &new)?)
}

/// Writes into a row what becomes of it; if it is to be tried at once, where, and with which room.
fn settle(row: &mut NewDelivery<'_>, fate: Fate, intake: &Intake<'_>, held: &Known) -> Option<(Target, Slot)> {
    let lessee = &intake.lessee;
    match fate {
        Fate::Send(target) => {
            let organisation = held.organisations.get(row.organisation);
            let wanted = Wanted {
                webhook_id: *row.webhook_id,
                lane: lane(false, row.agent_id, row.organisation),
                organisation: row.organisation,
                organisation_max: organisation.and_then(Organisation::in_flight_max),
                host: target.host(),
                first: true,
                fresh: true,
                bytes: u64::try_from(row.body_bytes).unwrap_or(0),
            };
            match intake.lanes.take(wanted, *lessee.now) {
                Ok(slot) => {
                    row.due_at = Some(lessee.until);
                    row.lease_owner = Some(lessee.owner);
                    return Some((target, slot));
                }
                Err(Refusal::Closed(until)) => row.due_at = Some(until.into()),
                Err(_) => {}
            }
        }
        Fate::AwaitDocument => row.due_at = None,
        Fate::AwaitUrl => row.due_at = Some(Timestamp::from(*lessee.now + URL_WAIT)),
        Fate::Hold => (row.status, row.due_at) = (Status::Held, None),
        Fate::Discard(reason) => {
            row.status = Status::Discarded;
            row.reason = Some(reason);
            row.due_at = None;
            row.settled_at = Some(lessee.now);
        }
    }
    None
}

fn disabled(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<HashSet<i64>> {
    let states = states::of_agents(connection, agents)?;
    Ok(states.into_values().filter(|state| state.disabled_at.is_some()).map(|state| state.agent_id).collect())
}

/// How many deliveries of each agent failed and are pending, are held, or are exhausted.
pub(crate) fn count_undelivered(connection: &mut DbConnection, agents: &[i64]) -> QueryResult<HashMap<i64, i64>> {
    let failed =
        deliveries::status.eq_any([Status::Exhausted, Status::Held]).or(deliveries::delivery_attempts_made.gt(0));
    let counts: Vec<(i64, i64)> = deliveries::table
        .filter(deliveries::agent_id.eq_any(agents))
        .filter(endpoints::undelivered())
        .filter(deliveries::to_alert_url.eq(false))
        .filter(deliveries::event.ne(payload::PING))
        .filter(failed)
        .group_by(deliveries::agent_id)
        .select((deliveries::agent_id, count_star()))
        .load(connection)?;
    Ok(counts.into_iter().collect())
}

fn leased(row: &NewDelivery<'_>, id: i64, body: String, target: Target, slot: Slot) -> Leased {
    Leased {
        id,
        webhook_id: *row.webhook_id,
        agent_id: row.agent_id,
        log_id: row.log_id,
        organisation: row.organisation.to_owned(),
        event: row.event.to_owned(),
        to_alert_url: false,
        created_at: *row.created_at,
        number: 1,
        round_began_at: *row.round_began_at,
        round_failures: 0,
        body,
        target,
        slot,
    }
}

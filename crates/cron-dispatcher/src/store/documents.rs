//! Documents in the newest version that arrived.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Text};
use diesel::upsert::excluded;
use model::document::{Agent, Document, DocumentKind, Mentor, Organisation, Subject};
use model::id::OrganisationKey;
use model::wire::Wire;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::{ROWS_MAX, everything, octet_length, read_wire};
use crate::pieces::pieces;
use crate::schema::documents;

/// So many of one kind can be had in memory at once, whatever they say: half a megabyte each at most.
const SURELY_FIT: usize = 32;
/// Locks that prevent two documents from being taken at once: the documents are shared out among so many.
const LOCKS: i32 = 1_024;

/// Has whoever else takes these documents wait until the end of the transaction, whether they are held yet or not. Else
/// of two that take two versions of a document at once, each of which is newer than the one held, the older might win.
pub(crate) fn lock(conn: &mut DbConnection, documents: &[Document]) -> QueryResult<()> {
    // In the order of the locks, so that two dispatchers never wait for each other.
    const LOCK: &str = "
        SELECT pg_advisory_xact_lock(7262746, number)
          FROM (SELECT DISTINCT abs(hashtext(name) % $2) AS number FROM unnest($1) AS name ORDER BY number) AS locks";
    if let DbConnection::Postgres(c) = conn {
        let names: Vec<String> = documents.iter().map(|one| format!("{} {}", one.kind(), one.key())).collect();
        diesel::sql_query(LOCK).bind::<Array<Text>, _>(names).bind::<Integer, _>(LOCKS).execute(c)?;
    }
    Ok(())
}

/// The versions of documents that are held.
#[derive(Debug, Default)]
pub(crate) struct Versions(HashMap<(DocumentKind, String), i64>);

impl Versions {
    /// Those of these documents, and of what they lean on.
    pub(crate) fn load(conn: &mut DbConnection, of: &[Document]) -> QueryResult<Self> {
        let mut wanted: HashMap<DocumentKind, HashSet<String>> = HashMap::new();
        for document in of {
            wanted.entry(document.kind()).or_default().insert(document.key());
            if let Subject::Agent(agent) = &document.subject {
                wanted.entry(DocumentKind::Mentor).or_default().insert(agent.mentor_id.to_string());
                wanted.entry(DocumentKind::Organisation).or_default().insert(document.organisation.0.clone());
            }
        }
        let mut versions = HashMap::new();
        for (kind, keys) in wanted {
            let held = documents::table.filter(documents::kind.eq(kind.as_str()).and(documents::key.eq_any(keys)));
            let held: Vec<(String, i64)> = held.select((documents::key, documents::version)).load(conn)?;
            versions.extend(held.into_iter().map(|(key, version)| ((kind, key), version)));
        }
        Ok(Self(versions))
    }

    /// That of one of them, if it is held.
    pub(crate) fn of(&self, kind: DocumentKind, key: &str) -> Option<i64> {
        self.0.get(&(kind, key.to_owned())).copied()
    }

    /// This one is held from now on.
    pub(crate) fn set(&mut self, document: &Document) {
        self.0.insert((document.kind(), document.key()), document.version);
    }
}

/// A document as it is held, if any.
pub(crate) fn find(conn: &mut DbConnection, kind: DocumentKind, key: &str) -> QueryResult<Option<Document>> {
    Ok(load(conn, kind, &HashSet::from([key.to_owned()]))?.pop())
}

/// The keys of agents that are there, after this one, in order.
pub(crate) fn agent_keys(conn: &mut DbConnection, after: &str, limit: i64) -> QueryResult<Vec<String>> {
    documents::table
        .filter(documents::kind.eq(DocumentKind::Agent.as_str()).and(documents::deleted.eq(false)))
        .filter(documents::key.gt(after))
        .order(documents::key)
        .limit(limit)
        .select(documents::key)
        .load(conn)
}

/// Stores documents, each at most once, over whatever versions there were; the caller has compared versions under the
/// same transaction.
pub(crate) fn put(conn: &mut DbConnection, newer: &[&Document], now: DateTime<Utc>) -> QueryResult<()> {
    let row = |document: &&Document| {
        (
            documents::kind.eq(document.kind().as_str()),
            documents::key.eq(document.key()),
            documents::organisation.eq(document.organisation.0.clone()),
            documents::version.eq(document.version),
            documents::deleted.eq(document.is_deleted()),
            documents::changed_at.eq(Timestamp::from(now)),
            documents::body.eq(document.encode().to_vec()),
        )
    };
    let overwrite = (
        documents::organisation.eq(excluded(documents::organisation)),
        documents::version.eq(excluded(documents::version)),
        documents::deleted.eq(excluded(documents::deleted)),
        documents::changed_at.eq(excluded(documents::changed_at)),
        documents::body.eq(excluded(documents::body)),
    );
    for piece in newer.chunks(ROWS_MAX) {
        let rows: Vec<_> = piece.iter().map(row).collect();
        per_backend!(conn, c => diesel::insert_into(documents::table)
            .values(rows)
            .on_conflict((documents::kind, documents::key))
            .do_update()
            .set(overwrite)
            .execute(c))?;
    }
    Ok(())
}

fn load(conn: &mut DbConnection, kind: DocumentKind, keys: &HashSet<String>) -> QueryResult<Vec<Document>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let bodies: Vec<Vec<u8>> = documents::table
        .filter(documents::kind.eq(kind.as_str()).and(documents::key.eq_any(keys)))
        .select(documents::body)
        .load(conn)?;
    bodies.iter().map(|bytes| read_wire(bytes)).collect()
}

/// How many documents of a kind, the first of these, have at most [`BYTES_MAX`](crate::pieces::BYTES_MAX) together; at least one.
fn fitting(conn: &mut DbConnection, kind: DocumentKind, ids: &[i64]) -> QueryResult<usize> {
    if ids.len() <= SURELY_FIT {
        return Ok(ids.len());
    }
    let keys: Vec<String> = ids.iter().map(i64::to_string).collect();
    let sizes: Vec<(String, i32)> = documents::table
        .filter(documents::kind.eq(kind.as_str()).and(documents::key.eq_any(keys)))
        .select((documents::key, octet_length(documents::body)))
        .load(conn)?;
    let sizes: HashMap<String, i32> = sizes.into_iter().collect();
    let bytes = |id: &i64| sizes.get(&id.to_string()).map_or(0, |bytes| usize::try_from(*bytes).unwrap_or_default());
    Ok(pieces(ids.iter().map(|id| (id, bytes(id)))).first().map_or(0, Vec::len))
}

/// The agents of a batch with their mentors and organisations: all that a fire has to know.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    agents: HashMap<i64, (OrganisationKey, i64, Agent)>,
    mentors: HashMap<i64, Mentor>,
    organisations: HashMap<OrganisationKey, Organisation>,
    everything_paused: bool,
}

/// An agent in its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgentView<'a> {
    pub(crate) organisation: &'a OrganisationKey,
    pub(crate) agent: &'a Agent,
    /// None: it was deleted.
    pub(crate) mentor: Option<&'a Mentor>,
    /// The version of the agent's document.
    pub(crate) version: i64,
    /// The organisation's zone.
    pub(crate) zone: Tz,
    /// Whether it, its organisation or everything is paused.
    pub(crate) paused: bool,
    /// Whether runs may act as the user who created it.
    pub(crate) creator_allowed: bool,
}

impl Directory {
    /// Loads the living ones among these agents, with what they lean on.
    pub(crate) fn load(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<Self> {
        let keys = agent_ids.iter().map(i64::to_string).collect();
        let agents = load(conn, DocumentKind::Agent, &keys)?;
        Self::around(conn, agents)
    }

    /// The same, for whoever is about to let their ticks wait: where an organisation's pause, or that of everything, holds
    /// some of them, it is kept until the end of the transaction. Whoever ends it comes after that, and finds them waiting.
    ///
    /// Of many, the first whose documents can be had in memory at once: returns how many.
    pub(crate) fn load_keeping_pauses(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<(Self, usize)> {
        let (directory, read) = Self::load_first(conn, agent_ids)?;
        let agent_ids = &agent_ids[..read];
        let paused = directory.organisations.iter().filter(|(_, settings)| settings.pause.paused);
        let paused: Vec<&str> = paused.map(|(organisation, _)| organisation.as_str()).collect();
        // A write transaction is alone on SQLite.
        let DbConnection::Postgres(c) = &mut *conn else { return Ok((directory, read)) };
        if paused.is_empty() && !directory.everything_paused {
            return Ok((directory, read));
        }
        if directory.everything_paused {
            everything::keep(c)?;
        }
        documents::table
            .filter(documents::kind.eq(DocumentKind::Organisation.as_str()).and(documents::key.eq_any(paused)))
            .order(documents::key)
            .select(documents::version)
            .for_share()
            .load::<i64>(c)?;
        Ok((Self::load(conn, agent_ids)?, read))
    }

    /// The first of these agents whose documents can be had in memory at once, and how many they are.
    pub(crate) fn load_first(conn: &mut DbConnection, agent_ids: &[i64]) -> QueryResult<(Self, usize)> {
        let mut first = fitting(conn, DocumentKind::Agent, agent_ids)?;
        let keys = agent_ids[..first].iter().map(i64::to_string).collect();
        let mut agents = load(conn, DocumentKind::Agent, &keys)?;
        let asks = |document: &Document| match &document.subject {
            Subject::Agent(agent) => Some((agent.id.0, agent.mentor_id.0)),
            _ => None,
        };
        let asked: HashMap<i64, i64> = agents.iter().filter_map(asks).collect();
        let (mut seen, mut mentors) = (HashSet::new(), Vec::new());
        mentors.extend(agent_ids[..first].iter().filter_map(|id| asked.get(id)).filter(|id| seen.insert(**id)));
        let readable = fitting(conn, DocumentKind::Mentor, &mentors)?;
        if readable < mentors.len() {
            let readable: HashSet<i64> = mentors[..readable].iter().copied().collect();
            let is_unreadable = |id: &i64| asked.get(id).is_some_and(|mentor| !readable.contains(mentor));
            first = agent_ids.iter().position(is_unreadable).unwrap_or(first);
            let kept: HashSet<&i64> = agent_ids[..first].iter().collect();
            agents.retain(|document| asks(document).is_some_and(|(agent_id, _)| kept.contains(&agent_id)));
        }
        Ok((Self::around(conn, agents)?, first))
    }

    /// These agents, with what they lean on.
    pub(crate) fn around(conn: &mut DbConnection, agents: Vec<Document>) -> QueryResult<Self> {
        let mut directory = Self { everything_paused: everything::is_paused(conn)?, ..Self::default() };
        for document in agents {
            if let Subject::Agent(agent) = document.subject {
                directory.agents.insert(agent.id.0, (document.organisation, document.version, *agent));
            }
        }
        let mentors = directory.agents.values().map(|(.., agent)| agent.mentor_id.to_string()).collect();
        for document in load(conn, DocumentKind::Mentor, &mentors)? {
            if let Subject::Mentor(mentor) = document.subject {
                directory.mentors.insert(mentor.id.0, mentor);
            }
        }
        let organisations = directory.agents.values().map(|(organisation, ..)| organisation.0.clone()).collect();
        for document in load(conn, DocumentKind::Organisation, &organisations)? {
            if let Subject::Organisation(settings) = document.subject {
                directory.organisations.insert(document.organisation, settings);
            }
        }
        Ok(directory)
    }

    /// Reads crontabs of this organisation by another zone than its document says.
    pub(crate) fn set_zone(&mut self, organisation: &OrganisationKey, zone: Tz) {
        if let Some(settings) = self.organisations.get_mut(organisation) {
            settings.timezone = zone;
        }
    }

    /// One of them, unless it is gone.
    pub(crate) fn agent(&self, agent_id: i64) -> Option<AgentView<'_>> {
        let (organisation, version, agent) = self.agents.get(&agent_id)?;
        let settings = self.organisations.get(organisation);
        let organisation_paused = settings.is_some_and(|settings| settings.pause.paused);
        Some(AgentView {
            version: *version,
            organisation,
            agent,
            mentor: self.mentors.get(&agent.mentor_id.0),
            zone: settings.map_or(Tz::UTC, |settings| settings.timezone),
            creator_allowed: settings.is_none_or(|settings| !settings.revoked_users.contains(&agent.username)),
            paused: agent.pause.paused || organisation_paused || self.everything_paused,
        })
    }
}

/// The organisations that say for themselves how many days their skipped ticks are kept.
pub(crate) fn ticks_days(conn: &mut DbConnection) -> QueryResult<Vec<(String, u32)>> {
    let bodies: Vec<Vec<u8>> = documents::table
        .filter(documents::kind.eq(DocumentKind::Organisation.as_str()))
        .select(documents::body)
        .load(conn)?;
    let mut own = Vec::new();
    for body in bodies {
        let document: Document = read_wire(&body)?;
        if let Subject::Organisation(Organisation { ticks_days: Some(days), .. }) = document.subject {
            own.push((document.organisation.0, days.get()));
        }
    }
    Ok(own)
}

/// Forgets up to `limit` tombstones older than `before`. Returns how many.
pub(crate) fn sweep_tombstones(conn: &mut DbConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let old: Vec<(String, String)> = documents::table
        // Bare, as the index is for: SQLite takes it for no value that is given.
        .filter(documents::deleted.and(documents::changed_at.lt(Timestamp::from(before))))
        .select((documents::kind, documents::key))
        .limit(limit)
        .load(conn)?;
    for (kind, key) in &old {
        diesel::delete(documents::table.find((kind, key))).execute(conn)?;
    }
    Ok(old.len())
}

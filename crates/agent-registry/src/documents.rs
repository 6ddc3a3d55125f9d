//! From rows to documents: what the dispatcher and the deliverer are told of organisations, mentors and agents.
//!
//! A document is written in the transaction of the edit that it tells of, so that there is never one without the
//! other; the announcer publishes it after the commit.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use model::document::{
    Agent, Alert, Document, DocumentKind, Mentor, Organisation, Pause, Previous, Provider, Subject, next_version,
};
use model::id::{AgentId, MentorId, OrganisationKey};
use model::run::RunState;
use serde::Deserialize;
use service_kit::database::DbConnection;

use crate::config::Config;
use crate::policy;
use crate::store::agents::AgentRow;
use crate::store::documents::{self, DocumentName};
use crate::store::mentors::{self, MentorRow};
use crate::store::organisations::{self, OrganisationRow};
use crate::store::users;
use crate::validation::mentor::ProviderSettings;

/// The documents that a transaction wrote, for the announcer.
pub(crate) type Written = Vec<DocumentName>;

/// The version that a document has after an edit at `now`.
pub(crate) fn version_after(
    conn: &mut DbConnection,
    kind: DocumentKind,
    key: &str,
    now: DateTime<Utc>,
) -> QueryResult<i64> {
    Ok(next_version(documents::version(conn, kind, key)?, now))
}

/// Writes what a subject says now, if that is new. Whoever calls it keeps others from its row.
pub(crate) fn write(
    conn: &mut DbConnection,
    organisation: &str,
    subject: Subject,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    let mut document = Document { organisation: OrganisationKey(organisation.to_owned()), version: 0, subject };
    let name = DocumentName::of(&document);
    document.version = version_after(conn, name.kind, &name.key, now)?;
    if documents::put(conn, &document)? {
        written.push(name);
    }
    Ok(())
}

/// Writes what is said of agents that nothing was said of yet.
pub(crate) fn write_new_agents(
    conn: &mut DbConnection,
    rows: &[&AgentRow],
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    let of = |row: &&AgentRow| {
        let organisation = OrganisationKey(row.organisation.clone());
        Document { organisation, version: next_version(0, now), subject: of_agent(row) }
    };
    let documents: Vec<Document> = rows.iter().map(of).collect();
    documents::insert(conn, &documents)?;
    written.extend(documents.iter().map(DocumentName::of));
    Ok(())
}

/// Writes what a mentor's document says now, if that is new: it was read while others were not kept from it, and the
/// organisation, or the operator, may have named another default provider since it was written.
///
/// Mostly it is not new, and those who make agents of one mentor do not wait for each other. If it is, mentor and
/// organisation are read again: else an edit in between would be taken back.
pub(crate) fn write_mentor(
    conn: &mut DbConnection,
    read: &MentorRow,
    providers: Providers<'_>,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    let subject = of_mentor(read, providers);
    if documents::says(conn, DocumentKind::Mentor, &read.id.to_string(), &subject)? {
        return Ok(());
    }
    let Some(mentor) = mentors::lock(conn, read.id)? else { return Ok(()) };
    let organisation = organisations::find(conn, &mentor.organisation)?;
    let providers = Providers::of(organisation.as_ref(), providers.config);
    write(conn, &mentor.organisation, of_mentor(&mentor, providers), now, written)
}

/// Makes an organisation with its document, unless it is there. Returns whether it is new.
pub(crate) fn ensure_organisation(
    conn: &mut DbConnection,
    key: &str,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<bool> {
    let is_new = organisations::ensure(conn, key, now)?;
    if is_new {
        write(conn, key, of_organisation(&OrganisationRow::blank(key, now), BTreeSet::new()), now, written)?;
    }
    Ok(is_new)
}

/// Writes what an organisation's document says now, if that is new. Whoever calls it keeps others from the organisation's
/// row.
pub(crate) fn write_organisation(
    conn: &mut DbConnection,
    row: &OrganisationRow,
    now: DateTime<Utc>,
    written: &mut Written,
) -> QueryResult<()> {
    let revoked_users = users::not_allowed(conn, &row.key)?;
    write(conn, &row.key, of_organisation(row, revoked_users), now, written)
}

/// What is said of an organisation.
pub(crate) fn of_organisation(row: &OrganisationRow, revoked_users: BTreeSet<String>) -> Subject {
    let count = |column: Option<i32>| column.and_then(|number| NonZeroU32::new(number.unsigned_abs()));
    Subject::Organisation(Organisation {
        timezone: row.zone(),
        pause: Pause {
            paused: row.paused,
            resumed_with: row.resumed_with.as_deref().and_then(|word| word.parse().ok()),
        },
        default_provider: row.default_provider.clone(),
        runs_in_flight_max: count(row.runs_in_flight_max),
        callbacks_in_flight_max: count(row.callbacks_in_flight_max),
        alert: (!row.alert_url.is_empty()).then(|| Alert {
            url: row.alert_url.clone(),
            sealed_secret: row.sealed_alert_secret.clone().unwrap_or_default(),
        }),
        ticks_days: count(row.ticks_days),
        deliveries_days: count(row.deliveries_days),
        revoked_users,
    })
}

/// The configured providers as they are for one organisation: with its own default, if it has one.
#[derive(Clone, Copy)]
pub(crate) struct Providers<'a> {
    config: &'a Config,
    default: Option<&'a str>,
}

impl<'a> Providers<'a> {
    /// Those for this organisation.
    pub(crate) fn of(organisation: Option<&'a OrganisationRow>, config: &'a Config) -> Self {
        let own = organisation.map(|row| row.default_provider.as_str()).filter(|name| !name.is_empty());
        Self { config, default: own.or(config.default_provider.as_deref()) }
    }
}

/// What is said of a mentor.
pub(crate) fn of_mentor(row: &MentorRow, providers: Providers<'_>) -> Subject {
    if row.deleted_at.is_some() {
        return Subject::MentorDeleted(MentorId(row.id));
    }
    Subject::Mentor(Mentor {
        id: MentorId(row.id),
        unique_id: row.unique_id.to_string(),
        name: row.name.clone(),
        system_prompt: row.system_prompt.clone(),
        provider: provider_of(row, providers),
        runs_in_flight_max: None,
        service_groups: Vec::deserialize(&*row.service_groups).unwrap_or_default(),
    })
}

/// What is said of an agent.
pub(crate) fn of_agent(row: &AgentRow) -> Subject {
    Subject::Agent(Box::new(Agent {
        id: AgentId(row.id),
        mentor_id: MentorId(row.mentor_id),
        title: row.title.clone(),
        prompt: row.prompt.clone(),
        username: row.username.clone(),
        last_editor: row.last_editor.clone(),
        schedule: policy::schedule_of(row),
        endpoint: policy::endpoint_of(row),
        pathway: row.pathway.clone(),
        parent_session_id: row.parent_session_id.clone(),
        parent_mentor_id: row.parent_mentor_id,
        previous: previous_of(row),
        pause: Pause {
            paused: row.paused,
            // Only words of this set are ever stored.
            resumed_with: row.resumed_with.as_deref().and_then(|word| word.parse().ok()),
        },
        runs_in_flight_max: None,
    }))
}

fn previous_of(row: &AgentRow) -> Option<Previous> {
    let agent_id = AgentId(row.previous_agent_id?);
    // Only words of this set are ever stored.
    let status = row.previous_agent_status.parse().unwrap_or(RunState::Success);
    Some(Previous { agent_id, status })
}

/// The provider that a mentor's owner wrote.
pub(crate) fn own_provider(row: &MentorRow) -> Option<ProviderSettings> {
    ProviderSettings::deserialize(&**row.provider.as_ref()?).ok()
}

/// How a mentor is asked: by its own provider, else by the configured one that it names, else by the default.
fn provider_of(row: &MentorRow, providers: Providers<'_>) -> Provider {
    if let Some(own) = own_provider(row) {
        return Provider {
            kind: own.kind,
            name: own.name,
            base_url: own.base_url,
            model: own.model,
            temperature: own.temperature,
            max_output_tokens: own.max_output_tokens,
            sealed_api_key: row.sealed_api_key.clone().unwrap_or_default(),
            headers: own.headers,
        };
    }
    let configured = providers.config.has_provider(&row.llm_provider).then_some(row.llm_provider.as_str());
    Provider {
        name: configured.or(providers.default).unwrap_or(&row.llm_provider).to_owned(),
        model: row.llm_name.clone(),
        temperature: row.llm_temperature,
        ..Provider::default()
    }
}

/// Whether there is a way to ask a mentor; else what to set so that there is one.
pub(crate) fn check_can_be_asked(row: &MentorRow, Providers { config, default }: Providers<'_>) -> Result<(), String> {
    let name = match own_provider(row) {
        Some(own) if !own.kind.is_empty() => return Ok(()),
        Some(own) if config.has_provider(&own.name) => return Ok(()),
        Some(own) => own.name,
        None if config.has_provider(&row.llm_provider) || default.is_some() => return Ok(()),
        None => row.llm_provider.clone(),
    };
    let choices = "give the mentor a `provider`, or set a default one in `providers.default`";
    Err(if name.is_empty() {
        format!("Nothing says how this mentor is asked: {choices}.")
    } else {
        format!("This mentor is asked by \"{name}\", which is not configured: set `providers.{name}`, {choices}.")
    })
}

//! Roles as tokens last told them: runs act as the user who created their agent, and only while that user has the role.
//!
//! The newest token counts, by when it was issued; of two of the same second the one that says less. What was seen last
//! is kept in memory for a minute, so that a request costs nothing: something is written when the role changes, and else
//! at most once a minute of tokens' time. What is stored is looked at once a minute, since another replica may have
//! written it, or erased the organisation. API keys are no tokens, and a token says nothing of organisations that it does not name.
//! Of an organisation that does not exist yet, or is being erased, nothing is noted.
//!
//! The role, the organisation's document and the entry in the audit log are one transaction.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use service_kit::auth::{Caller, Role};
use service_kit::database::{DatabaseError, DbConnection, Timestamp};
use service_kit::error::chain;

use crate::audit::{self, Author};
use crate::documents::{self, Written};
use crate::state::State;
use crate::store::users::{self, UserRow};
use crate::store::{agents, organisations};

/// A newer token with the same role is not written down before it is so much newer than the one that is.
const NEWER_BY: TimeDelta = TimeDelta::seconds(60);
/// How long memory is relied upon.
const LOOK_EVERY: TimeDelta = TimeDelta::seconds(60);
/// More users than come at once; beyond it everybody is looked up again.
const USERS_MAX: usize = 10_000;

/// An organisation, and the name of a user there.
type User = (String, String);

/// What a token says of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    role: Role,
    at: DateTime<Utc>,
}

impl Said {
    /// Whether this counts, beside what an earlier request said.
    fn overrides(self, other: Self) -> bool {
        self.at > other.at || (self.at == other.at && self.role < other.role)
    }
}

/// What is known of a user.
struct Seen {
    newest: Said,
    /// When the token was issued that was written down.
    stored_at: DateTime<Utc>,
    looked_at: DateTime<Utc>,
}

/// What users' tokens said.
#[derive(Default)]
pub(crate) struct SeenRoles(Mutex<HashMap<User, Seen>>);

impl SeenRoles {
    /// Whether `said` has to be compared with what is stored; else it is old, or as good as known.
    fn is_news(&self, user: &User, said: Said, now: DateTime<Utc>) -> bool {
        let mut users = self.lock();
        let Some(seen) = users.get_mut(user).filter(|seen| now - seen.looked_at < LOOK_EVERY) else { return true };
        if !said.overrides(seen.newest) {
            return false;
        }
        if said.role != seen.newest.role || said.at - seen.stored_at >= NEWER_BY {
            return true;
        }
        seen.newest = said;
        false
    }

    fn remember(&self, user: User, stored: Said, now: DateTime<Utc>) {
        let mut users = self.lock();
        if users.len() >= USERS_MAX {
            users.clear();
        }
        // What was not worth storing counts, too.
        let newer = users.get(&user).map(|before| before.newest).filter(|newest| newest.overrides(stored));
        users.insert(user, Seen { newest: newer.unwrap_or(stored), stored_at: stored.at, looked_at: now });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<User, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what a token says of its user. What cannot be stored now is noted at the next request.
pub(super) async fn observe(state: &State, caller: &Caller, issued_at: Option<DateTime<Utc>>) {
    let (Some(organisation), Some(issued_at)) = (&caller.organisation, issued_at) else { return };
    let user = (organisation.clone(), caller.username.clone());
    let now = state.clock.now();
    let said = Said { role: caller.role, at: issued_at.min(now) };
    if !state.seen_roles.is_news(&user, said, now) {
        return;
    }
    match store_if_news(state, user.clone(), said, now).await {
        Ok(Some(newest)) => state.seen_roles.remember(user, newest, now),
        Ok(None) => {}
        Err(error) => tracing::warn!(error = chain(&error), "the role in a token was not noted"),
    }
}

/// Stores what was said, if it counts and has to be known. Returns the newest that is known of the user now; none:
/// nothing has to be known so far.
async fn store_if_news(
    state: &State,
    user: User,
    said: Said,
    now: DateTime<Utc>,
) -> Result<Option<Said>, DatabaseError> {
    let (organisation, username) = user.clone();
    let known = move |conn: &mut DbConnection| {
        let settings = organisations::find(conn, &organisation)?;
        if settings.is_none_or(|row| row.erasing_since.is_some()) {
            return Ok((None, false));
        }
        let row = users::find(conn, &organisation, &username)?;
        // Whoever has no role and made nothing is nobody's creator.
        let matters = row.is_some() || said.role != Role::None || agents::any_by(conn, &organisation, &username)?;
        Ok::<_, DatabaseError>((row.and_then(|row| stored(&row)), matters))
    };
    match state.db.read(known).await? {
        (_, false) => return Ok(None),
        (Some(stored), _) if !is_worth_storing(said, stored) => return Ok(Some(stored)),
        _ => {}
    }
    let (newest, written) = state.db.write(move |conn| Ok::<_, DatabaseError>(store(conn, &user, said, now)?)).await?;
    state.outbox.announce(written);
    Ok(newest)
}

fn stored(row: &UserRow) -> Option<Said> {
    Some(Said { role: row.role.as_deref()?.parse().ok()?, at: *row.token_issued_at? })
}

fn is_worth_storing(said: Said, stored: Said) -> bool {
    said.overrides(stored) && (said.role != stored.role || said.at - stored.at >= NEWER_BY)
}

fn store(
    conn: &mut DbConnection,
    (organisation, username): &User,
    said: Said,
    now: DateTime<Utc>,
) -> QueryResult<(Option<Said>, Written)> {
    let mut written = Written::new();
    let found = organisations::find_for_update(conn, organisation)?;
    let Some(settings) = found.filter(|row| row.erasing_since.is_none()) else { return Ok((None, written)) };
    let before = users::find(conn, organisation, username)?.unwrap_or_else(|| UserRow::unknown(organisation, username));
    if let Some(stored) = stored(&before).filter(|stored| !said.overrides(*stored)) {
        return Ok((Some(stored), written));
    }
    let (role, token_issued_at) = (Some(said.role.as_str().to_owned()), Some(Timestamp::from(said.at)));
    let after = UserRow { role, token_issued_at, ..before.clone() };
    users::put(conn, &after)?;
    if after.is_allowed() != before.is_allowed() {
        documents::write_organisation(conn, &settings, now, &mut written)?;
        let author = Author { organisation, username, acting_as: username, credential: "token" };
        audit::record_by(conn, author, "user.role_changed", username, &["role"], now)?;
        tracing::info!(organisation, user.name = username, role = %said.role, "the role in a user's tokens changed");
    }
    Ok((Some(said), written))
}

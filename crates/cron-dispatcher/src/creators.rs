//! Creators: a run acts as the user who created its agent, and only while that user may.
//!
//! Ticks of an agent whose creator may not are skipped when they fire. A run that was made before and has not begun ends
//! as `creator_not_allowed`: at once if it was requested, else when it would enter the window. One that has begun goes
//! on: it began while its creator might.
//!
//! Both happen in the transaction that changes what is known, under the lock of the window: a crash leaves all of it or
//! nothing, and no run enters in between.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use model::id::RunId;
use model::run::{RunReason, RunRequest};
use model::wire::Wire;
use service_kit::database::DbConnection;

use crate::announce::Announcement;
use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::judge;
use crate::store::queue::{self, Request};
use crate::store::{revoked_users, window};

/// What enters the window, which runs ended instead, and what is to be announced of these.
type Parted = (Vec<Request>, Vec<RunId>, Vec<Announcement>);

/// Notes who may not any more in an organisation, and ends what was requested for them and has not begun. Returns the
/// runs that runners are to let go of, and what is to be announced of them.
pub(crate) fn revoke(
    conn: &mut DbConnection,
    organisation: &str,
    usernames: &BTreeSet<String>,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Vec<RunId>, Vec<Announcement>), DispatchError> {
    window::lock(conn)?;
    revoked_users::put(conn, organisation, usernames)?;
    let requested = window::requested_of(conn, organisation)?;
    let requests = queue::requests(conn, &requested)?;
    end_barred(conn, requests, config, now).map(|(_, barred, ended)| (barred, ended))
}

/// Parts what enters the window from what may not, and ends that.
pub(crate) fn end_barred(
    conn: &mut DbConnection,
    requests: Vec<Request>,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Parted, DispatchError> {
    if requests.is_empty() || !revoked_users::any(conn)? {
        return Ok((requests, Vec::new(), Vec::new()));
    }
    let decoded = requests.iter().map(|(_, body)| RunRequest::decode(body)).collect::<Result<Vec<_>, _>>()?;
    let organisations: BTreeSet<&str> = decoded.iter().map(|request| request.run.organisation.as_str()).collect();
    let revoked = revoked_users::of(conn, &organisations)?;
    let mut is_barred = decoded
        .iter()
        .map(|request| revoked.contains(&(request.run.organisation.0.clone(), request.username.clone())))
        .collect::<Vec<_>>()
        .into_iter();
    let (barred, allowed): (Vec<Request>, Vec<Request>) =
        requests.into_iter().partition(|_| is_barred.next().unwrap_or_default());
    let barred: Vec<i64> = barred.into_iter().map(|(id, _)| id).collect();
    let (barred, ended) = judge::end_now(conn, &barred, RunReason::CreatorNotAllowed, config, now)?;
    Ok((allowed, barred, ended))
}

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

use crate::config::DispatcherConfig;
use crate::error::DispatchError;
use crate::judge;
use crate::outcome::Ended;
use crate::store::{queue, revoked_users, window};

/// Which runs may enter the window, and which ended instead: for the runners to stop, and to be announced.
type Parted = (Vec<i64>, Vec<RunId>, Vec<Ended>);

/// Notes who may not any more in an organisation, and ends what was requested for them and has not begun. Returns the
/// runs that runners are to let go of, and those to be announced.
pub(crate) fn revoke(
    conn: &mut DbConnection,
    organisation: &str,
    usernames: &BTreeSet<String>,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<(Vec<RunId>, Vec<Ended>), DispatchError> {
    window::lock(conn)?;
    revoked_users::put(conn, organisation, usernames)?;
    let requested = window::requested_of(conn, organisation)?;
    end_barred(conn, requested, config, now).map(|(_, barred, ended)| (barred, ended))
}

/// Parts what enters the window from what may not, and ends that.
pub(crate) fn end_barred(
    conn: &mut DbConnection,
    ids: Vec<i64>,
    config: &DispatcherConfig,
    now: DateTime<Utc>,
) -> Result<Parted, DispatchError> {
    if ids.is_empty() || !revoked_users::any(conn)? {
        return Ok((ids, Vec::new(), Vec::new()));
    }
    let (mut allowed, mut barred) = (Vec::new(), Vec::new());
    for piece in queue::in_pieces(conn, &ids)? {
        let mut creators = Vec::with_capacity(piece.len());
        for (id, body) in queue::requests(conn, &piece)? {
            let RunRequest { run, username, .. } = RunRequest::decode(&body)?;
            creators.push((id, (run.organisation.0, username)));
        }
        let organisations: BTreeSet<&str> = creators.iter().map(|(_, (key, _))| key.as_str()).collect();
        let revoked = revoked_users::of(conn, &organisations)?;
        for (id, creator) in &creators {
            if revoked.contains(creator) { barred.push(*id) } else { allowed.push(*id) }
        }
    }
    let (barred, ended) = judge::end_now(conn, &barred, RunReason::CreatorNotAllowed, config, now)?;
    Ok((allowed, barred, ended))
}

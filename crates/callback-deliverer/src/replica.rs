//! The heartbeat of this process in a database that it shares: what a dead process had leased is free again.
//!
//! Each process writes a beat every [`BEAT`], by the database's own clock. Whoever finds a beat older than
//! [`DEAD_AFTER`] removes that replica and gives back its leases, in one transaction, unless its own beats were late as
//! well: what stopped it may have stopped everybody. A process that was frozen, or cut off from the database, finds
//! itself removed and goes on under a new id; before that, [`Replica::is_alive`] says by the monotonic clock that it may
//! neither claim nor send, and what it records under its old id changes nothing.
//!
//! A SQLite file belongs to one process: its leases are given back when it opens, and nothing beats.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use service_kit::database::{Backend, DatabaseError, Db, Uid};
use service_kit::error::chain;
use uuid::Uuid;

use crate::core::Core;
use crate::store::replicas::{self, Beat};

/// How often the heart beats.
const BEAT: Duration = Duration::from_millis(500);
/// How old the last beat of a dead replica is.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(3);
/// How old this replica's last beat may be for it to send: by then nobody has taken it for dead yet.
const ALIVE_WITHIN: Duration = Duration::from_millis(2_500);

/// This process among those that share its database.
pub(crate) struct Replica {
    shared: bool,
    state: Mutex<Pulse>,
}

#[derive(Clone, Copy)]
struct Pulse {
    id: Uid,
    /// When the last beat that was written began.
    beat_at: Instant,
    /// When one could not be written, or was late.
    missed_at: Option<Instant>,
}

impl Pulse {
    fn is_late(&self) -> bool {
        self.beat_at.elapsed() >= ALIVE_WITHIN
    }

    /// Whether it may take others for dead. What made it late, or not beat at all, may have done so to everybody: the
    /// others get time to beat again.
    fn may_judge(&self) -> bool {
        !self.is_late() && self.missed_at.is_none_or(|missed_at| missed_at.elapsed() > DEAD_AFTER)
    }
}

impl Replica {
    /// A process that begins now, with its first beat written.
    pub(crate) async fn begin(db: &Db) -> Result<Self, DatabaseError> {
        let pulse = Pulse { id: fresh_id(), beat_at: Instant::now(), missed_at: None };
        let replica = Self { shared: db.backend() == Backend::Postgres, state: Mutex::new(pulse) };
        if replica.shared {
            replica.beat(db).await?;
        }
        Ok(replica)
    }

    /// The id that leases are taken under now.
    pub(crate) fn id(&self) -> Uid {
        self.pulse().id
    }

    /// Whether nobody can have taken the replica of this id for dead.
    pub(crate) fn is_alive(&self, id: Uid) -> bool {
        let pulse = self.pulse();
        pulse.id == id && (!self.shared || !pulse.is_late())
    }

    /// Writes a beat and, unless it is late or one was just before, gives back what the dead had leased. Returns what it
    /// found, and whether this replica could not send until then.
    async fn beat(&self, db: &Db) -> Result<(Beat, bool), DatabaseError> {
        let (began, pulse, fresh) = (Instant::now(), self.pulse(), fresh_id());
        let dead_after = move || pulse.may_judge().then_some(DEAD_AFTER);
        let beat = db
            .write(move |connection| Ok::<_, DatabaseError>(replicas::beat(connection, pulse.id, fresh, dead_after)?));
        let beat = beat.await?;
        let mut pulse = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let late = pulse.is_late();
        if late {
            pulse.missed_at = Some(Instant::now());
        }
        pulse.beat_at = began;
        if !beat.known {
            pulse.id = fresh;
        }
        Ok((beat, late))
    }

    fn miss(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).missed_at = Some(Instant::now());
    }

    fn pulse(&self) -> Pulse {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh_id() -> Uid {
    Uuid::new_v4().into()
}

/// Beats for ever, where there is somebody to beat for.
pub(crate) async fn run(core: &Core) {
    if !core.replica.shared {
        return std::future::pending().await;
    }
    loop {
        // Not by the product's clock: whether a process is alive is a matter of real time.
        tokio::time::sleep(BEAT).await;
        match core.replica.beat(&core.db).await {
            Ok((beat, late)) => hear(core, &beat, late),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the heartbeat could not be written");
                core.replica.miss();
            }
        }
    }
}

fn hear(core: &Core, beat: &Beat, late: bool) {
    core.lanes.share_among(beat.replicas);
    if !beat.known {
        tracing::warn!("this replica was taken for dead: what it had leased was given to others");
    }
    if beat.released > 0 {
        tracing::info!(deliveries = beat.released, "deliveries that a dead replica had leased are free again");
    }
    // Nothing was claimed while no beat was written.
    if beat.released > 0 || late {
        core.due.notify_one();
    }
}

/// Says farewell: nobody has to wait for a beat that will not come.
pub(crate) async fn end(core: &Core) {
    let id = core.replica.id();
    // Whoever cannot say it is found dead soon enough.
    let _ = core.db.write(move |connection| Ok::<_, DatabaseError>(replicas::remove(connection, id)?)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_beats_late_takes_nobody_for_dead_before_all_had_time_to_beat_again() {
        let ago = |duration: Duration| Instant::now().checked_sub(duration).unwrap();
        let pulse = |beat_at, missed_at: Option<Duration>| Pulse {
            id: fresh_id(),
            beat_at: ago(beat_at),
            missed_at: missed_at.map(ago),
        };
        assert!(pulse(BEAT, None).may_judge());
        assert!(!pulse(ALIVE_WITHIN, None).may_judge());
        assert!(!pulse(BEAT, Some(BEAT)).may_judge());
        assert!(pulse(BEAT, Some(DEAD_AFTER)).may_judge());
    }
}

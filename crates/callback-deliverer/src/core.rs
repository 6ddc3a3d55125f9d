//! What the parts of this microservice share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::Bus;
use chrono::TimeDelta;
use service_kit::clock::Clock;
use service_kit::database::{Db, Uid};
use service_kit::traces::Traces;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::lanes::Lanes;
use crate::log_link::LogLinks;
use crate::replica::Replica;
use crate::secrets::Secrets;
use crate::store::{Leased, Lessee};
use crate::transport::Transport;

/// The name that goes with everything this microservice publishes.
pub(crate) const NAME: &str = "callback-deliverer";

/// How much longer than a delivery attempt a lease is: to begin it, and to commit what came of it.
const LEASE_SLACK: Duration = Duration::from_secs(10);

/// What the parts of this microservice share.
pub(crate) struct Core {
    pub(crate) db: Db,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    /// Where spans go.
    pub(crate) traces: Traces,
    /// Names the installation in webhook ids.
    pub(crate) installation: Uuid,
    /// This process among those that share its database.
    pub(crate) replica: Replica,
    /// Room for delivery attempts, held from the lease until what came of it is committed: so there are never more
    /// leases, bodies in memory and open requests than there is room for, and nothing new is sent while what was sent
    /// cannot be recorded.
    pub(crate) lanes: Arc<Lanes>,
    /// Told when a delivery becomes due.
    pub(crate) due: Notify,
    /// Told when there may be something to drain or to replay.
    pub(crate) enabled: Notify,
    /// Where whole logs are.
    pub(crate) links: Arc<LogLinks>,
    pub(crate) secrets: Secrets,
    pub(crate) transport: Transport,
    /// The longest a delivery attempt takes.
    pub(crate) deadline: Duration,
    /// How long settled deliveries are kept.
    pub(crate) deliveries_kept: TimeDelta,
}

/// A delivery that this process has leased and may try.
#[derive(Debug)]
pub(crate) struct InHand {
    pub(crate) delivery: Leased,
    pub(crate) lease: Lease,
}

/// Whose a lease is, and how old.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// The replica's id that it was taken under.
    pub(crate) owner: Uid,
    /// When it began, by the clock that nobody sets.
    pub(crate) began_at: Instant,
}

impl Core {
    /// A lease that begins now.
    pub(crate) fn lessee(&self) -> Lessee {
        let now = self.clock.now();
        let length = TimeDelta::from_std(self.lease()).unwrap_or(TimeDelta::MAX);
        Lessee { owner: self.replica.id(), now: now.into(), until: (now + length).into() }
    }

    /// Whether there is time for a whole delivery attempt before somebody else may make it. There is none after this
    /// process was stopped, or starved, since it took the lease.
    pub(crate) fn may_begin(&self, lease: Lease) -> bool {
        lease.began_at.elapsed() + self.deadline < self.lease() && self.may_send(lease)
    }

    /// Whether nobody can have taken this process for dead, and its leases away.
    pub(crate) fn may_send(&self, lease: Lease) -> bool {
        self.replica.is_alive(lease.owner)
    }

    /// Whether a lease has not run out. While a delivery attempt is made, one only does if this process was stopped, or
    /// starved.
    pub(crate) fn lasts(&self, lease: Lease) -> bool {
        lease.began_at.elapsed() < self.lease()
    }

    fn lease(&self) -> Duration {
        self.deadline + LEASE_SLACK
    }
}

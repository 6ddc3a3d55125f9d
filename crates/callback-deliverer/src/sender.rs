//! The sender: makes delivery attempts and records what came of them.
//!
//! Three loops in one role. `try_fresh` tries what was just taken in, leased already, without asking the database;
//! `claim_due` claims what is due there; `record_outcomes` commits what is finished, everything that waits in one
//! transaction. They are one future: dropped, it takes its delivery attempts with it.
//!
//! On a crash, wherever it is:
//!
//! - after the lease and before the POST, or after the POST and before the commit: nothing was recorded, so the
//!   delivery is pending still. Its lease is given back when the database is next opened (SQLite), or when another
//!   replica, or this one started again, misses its heartbeat (PostgreSQL, [`crate::replica`]), and the same delivery
//!   attempt is made once more, with the same webhook id and body.
//! - after the commit: all is recorded.
//!
//! A process that was frozen, or cut off from its database, sends nothing late (see `Core::may_begin`), what it records
//! late changes nothing (see `store::record`), and that nobody answered it meanwhile is not the receiver's fault. What it
//! cannot record for so long that the lease runs out, it keeps in hand and does not send again (see [`crate::lanes`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::admin::Condition;
use service_kit::database::{DatabaseError, Timestamp};
use service_kit::error::chain;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::core::{Core, InHand, Lease};
use crate::delivery_attempt::{self, Finished};
use crate::replica;
use crate::store::claim;
use crate::store::record::{self, Entry};
use crate::words::Status;

/// The longest the sender sleeps while nobody wakes it: other replicas may make deliveries due.
const NAP_MAX: TimeDelta = TimeDelta::seconds(1);

/// Most outcomes recorded in one transaction.
const BATCH_MAX: usize = 256;

/// How long to wait for a database that is away.
const OUTAGE_NAP: Duration = Duration::from_secs(1);

/// Runs until `shutdown`; what is in flight then is finished and recorded.
pub(crate) async fn run(
    core: Arc<Core>,
    fresh: mpsc::UnboundedReceiver<InHand>,
    condition: Condition,
    shutdown: CancellationToken,
) {
    let (finished, outcomes) = mpsc::channel(BATCH_MAX);
    let sending = async {
        tokio::join!(
            try_fresh(Arc::clone(&core), fresh, finished.clone()),
            claim_due(Arc::clone(&core), finished, condition, shutdown),
            record_outcomes(Arc::clone(&core), outcomes),
        )
    };
    // The heart beats until the last outcome is recorded.
    tokio::select! {
        _ = sending => {}
        () = replica::run(&core) => {}
    }
    replica::end(&core).await;
}

/// Tries what was just taken in, until whoever takes in has stopped.
async fn try_fresh(core: Arc<Core>, mut fresh: mpsc::UnboundedReceiver<InHand>, finished: mpsc::Sender<Finished>) {
    let mut attempts = JoinSet::new();
    loop {
        tokio::select! {
            next = fresh.recv() => {
                let Some(in_hand) = next else { break };
                attempts.spawn(delivery_attempt::make(Arc::clone(&core), in_hand, finished.clone()));
            }
            Some(ended) = attempts.join_next() => report_panic(ended),
        }
    }
    finish(attempts).await;
}

/// Claims and tries what is due, until `shutdown`. A claim that was begun is never dropped halfway.
async fn claim_due(
    core: Arc<Core>,
    finished: mpsc::Sender<Finished>,
    condition: Condition,
    shutdown: CancellationToken,
) {
    let mut attempts = JoinSet::new();
    while !shutdown.is_cancelled() {
        while let Some(ended) = attempts.try_join_next() {
            report_panic(ended);
        }
        let now = core.clock.now();
        core.secrets.forget_old(now);
        let nap = match claim_round(&core, now).await {
            Ok(Round::Claimed(batch)) => {
                condition.met();
                for in_hand in batch {
                    attempts.spawn(delivery_attempt::make(Arc::clone(&core), in_hand, finished.clone()));
                }
                continue;
            }
            Ok(Round::NothingBefore(then)) => {
                condition.met();
                then.min(now + NAP_MAX)
            }
            Ok(Round::NoRoom) => {
                condition.met();
                now + NAP_MAX
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot claim deliveries, trying again");
                condition.unmet("cannot claim deliveries: its database is away");
                now + NAP_MAX
            }
        };
        tokio::select! {
            () = core.due.notified() => {}
            () = core.lanes.freed() => {}
            () = core.clock.sleep_until(nap) => {}
            () = shutdown.cancelled() => {}
        }
    }
    finish(attempts).await;
}

/// What there was to claim.
enum Round {
    Claimed(Vec<InHand>),
    NothingBefore(DateTime<Utc>),
    /// What is due has to wait for room, for another replica that is claiming it, or for a beat of this one's heart.
    NoRoom,
}

/// Looks whether anything is due; if so, claims as much as there is room for.
async fn claim_round(core: &Core, now: DateTime<Utc>) -> Result<Round, DatabaseError> {
    let next = core.db.read(|connection| Ok::<_, DatabaseError>(claim::next_due(connection)?)).await?;
    if next.is_none_or(|next| *next > now) {
        core.lanes.nothing_waits();
        return Ok(Round::NothingBefore(next.map_or(now + NAP_MAX, |next| *next)));
    }
    // All that it took now it would have to give back.
    if !core.replica.is_alive(core.replica.id()) {
        return Ok(Round::NoRoom);
    }
    let (began_at, lessee, lanes) = (Instant::now(), core.lessee(), Arc::clone(&core.lanes));
    let claimed =
        core.db.write(move |connection| Ok::<_, DatabaseError>(claim::claim(connection, &lessee, &lanes)?)).await?;
    delivery_attempt::count_settled(Status::Discarded, claimed.discarded);
    if claimed.leased.is_empty() {
        return Ok(Round::NoRoom);
    }
    let lease = Lease { owner: lessee.owner, began_at };
    let in_hand = claimed.leased.into_iter().map(|delivery| InHand { delivery, lease });
    Ok(Round::Claimed(in_hand.collect()))
}

/// Records what is finished, all that waits in one transaction, until nothing more comes.
async fn record_outcomes(core: Arc<Core>, mut outcomes: mpsc::Receiver<Finished>) {
    let mut finished = Vec::with_capacity(BATCH_MAX);
    while outcomes.recv_many(&mut finished, BATCH_MAX).await > 0 {
        let (entries, slots): (Vec<_>, Vec<_>) = finished.drain(..).map(|one| (one.entry, one.slot)).unzip();
        if record_batch(&core, entries.as_slice().into()).await.is_err() {
            // One bad entry takes no neighbour with it.
            for entry in entries {
                let (id, recorded) = (entry.delivery_attempt.delivery_id, record_batch(&core, [entry].into()).await);
                if let Err(error) = recorded {
                    tracing::error!(delivery.id = id, error = %chain(&error), "an outcome could not be recorded");
                }
            }
        }
        drop(slots);
    }
}

/// Waits for a database that is away. Any other error means that nothing was recorded: the leases will run out, and
/// the deliveries are sent again.
async fn record_batch(core: &Core, entries: Arc<[Entry]>) -> Result<(), DatabaseError> {
    loop {
        match record_once(core, Arc::clone(&entries)).await {
            Err(error) if error.is_unavailable() => {
                tracing::warn!(error = %chain(&error), "cannot record outcomes, trying again");
                // Not by the product's clock: when a database is back is a matter of real time.
                tokio::time::sleep(OUTAGE_NAP).await;
            }
            done => return done,
        }
    }
}

async fn record_once(core: &Core, entries: Arc<[Entry]>) -> Result<(), DatabaseError> {
    let (now, installation) = (Timestamp::from(core.clock.now()), core.installation);
    let recorded = core
        .db
        .write({
            let entries = Arc::clone(&entries);
            move |connection| Ok::<_, DatabaseError>(record::record(connection, now, installation, &entries)?)
        })
        .await?;
    delivery_attempt::count(entries.iter().filter(|entry| recorded.ids.contains(&entry.delivery_attempt.delivery_id)));
    delivery_attempt::tell(&recorded.told);
    if recorded.due {
        core.due.notify_one();
    }
    Ok(())
}

async fn finish(mut attempts: JoinSet<()>) {
    while let Some(ended) = attempts.join_next().await {
        report_panic(ended);
    }
}

/// A delivery attempt that panicked recorded nothing: its lease runs out and it is made again.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a delivery attempt panicked and will be made again");
    }
}

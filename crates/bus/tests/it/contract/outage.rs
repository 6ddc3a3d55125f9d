//! The loop around a handler while something that it needs is away, and at shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bus::{ConsumeOptions, Depth, HandleError, Handler, Message};
use tokio::sync::Semaphore;

use super::handler::{AT_ONCE, NOT_HERE, Running, becomes_true, options};
use super::{Installation, QUEUE, depth_becomes, runs_requested};

/// Unavailable for so many tries, then as the function says.
fn away_for(
    tries: usize,
    then: impl Fn() -> Result<(), HandleError> + Send + Sync,
) -> impl Fn(&[Message]) -> Result<(), HandleError> + Send + Sync {
    let tried = AtomicUsize::new(0);
    move |_| {
        if tried.fetch_add(1, Ordering::SeqCst) < tries {
            Err(HandleError::Unavailable("the database is away".into()))
        } else {
            then()
        }
    }
}

pub async fn a_batch_is_kept_while_something_is_unavailable(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let running = Running::start(&bus, options(NOT_HERE), away_for(5, || Ok(())));
    depth_becomes(&*bus, QUEUE, Depth::default()).await;

    let batches = running.batches();
    assert!(batches[..6].iter().all(|batch| *batch == batches[0]), "{batches:?}");
    assert_eq!(batches[5..].concat(), (0..10).collect::<Vec<_>>());
    becomes_true(|| async { *running.ready.lock().unwrap() == [true, false, true] }).await;
    running.stop().await;
}

pub async fn an_outage_is_not_counted(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(1)).await.unwrap();
    let options = ConsumeOptions { failures_max: 2, ..options(AT_ONCE) };
    let fails = || Err(HandleError::Failed("not good".into()));
    let running = Running::start(&bus, options, away_for(5, fails));
    becomes_true(|| async { !bus.dead_letters(QUEUE, 10).await.unwrap().is_empty() }).await;
    assert_eq!(bus.dead_letters(QUEUE, 10).await.unwrap()[0].failures, 2);
    assert_eq!(running.handed_over().len(), 7);
    running.stop().await;
}

pub async fn one_that_is_cut_off_keeps_at_most_one_message_from_the_others(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let options = ConsumeOptions { outage_kept: Duration::from_millis(50), ..options(NOT_HERE) };
    let is_back = Arc::new(AtomicBool::new(false));
    let cut_off = Running::start(&bus, options, {
        let is_back = Arc::clone(&is_back);
        move |_| match is_back.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(HandleError::Unavailable("the database is away".into())),
        }
    });
    becomes_true(|| async { *cut_off.ready.lock().unwrap() == [true, false] }).await;

    let other = Running::start(&bus, options, |_| Ok(()));
    becomes_true(|| async { other.handed_over().len() >= 9 }).await;
    other.stop().await;

    // After one that gets through, all of it comes again.
    is_back.store(true, Ordering::SeqCst);
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
    becomes_true(|| async { cut_off.ready.lock().unwrap().last() == Some(&true) }).await;
    // Whoever takes one at a time never has two together, however often there are ten.
    let alone = cut_off.batches().len();
    becomes_true(|| async {
        bus.publish(runs_requested(10)).await.unwrap();
        depth_becomes(&*bus, QUEUE, Depth::default()).await;
        cut_off.batches()[alone..].iter().any(|batch| batch.len() > 1)
    })
    .await;
    assert_eq!(bus.dead_letters(QUEUE, 10).await.unwrap(), []);
    cut_off.stop().await;
}

/// Says when it has a batch, and finishes when it may.
pub struct Gated {
    pub entered: Arc<Semaphore>,
    pub may_finish: Arc<Semaphore>,
}

#[async_trait]
impl Handler for Gated {
    async fn handle(&self, _batch: &[Message]) -> Result<(), HandleError> {
        self.entered.add_permits(1);
        self.may_finish.acquire().await.unwrap().forget();
        Ok(())
    }
}

pub async fn shutdown_finishes_the_batch_in_hand_and_takes_nothing_new(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let (entered, may_finish) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let options = ConsumeOptions { prefetch: 4, batch_max: 1, ..options(NOT_HERE) };
    let handler = Gated { entered: Arc::clone(&entered), may_finish: Arc::clone(&may_finish) };
    let running = Running::start_handler(&bus, options, handler);

    super::soon(entered.acquire()).await.unwrap().forget();
    running.cancel();
    may_finish.add_permits(10);
    running.ended().await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 9, ..Depth::default() }).await;
}

pub async fn shutdown_during_an_outage_gives_the_batch_back(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let mut options = options(NOT_HERE);
    options.outage_delays.first = Duration::from_secs(60);
    options.outage_delays.max = Duration::from_secs(60);
    let running = Running::start(&bus, options, away_for(usize::MAX, || Ok(())));
    becomes_true(|| async { *running.ready.lock().unwrap() == [true, false] }).await;
    running.stop().await;
    depth_becomes(&*bus, QUEUE, Depth { ready: 10, ..Depth::default() }).await;
    assert_eq!(bus.dead_letters(QUEUE, 10).await.unwrap(), []);
}

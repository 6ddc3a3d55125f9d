//! The loop around a handler: what fails is retried or given up, and nobody else suffers from it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, ConsumeOptions, Depth, HandleError, Handler, Message, RetryDelays, run_consumer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Installation, QUEUE, depth_becomes, number, numbers, runs_requested, soon};

/// Notes each batch, then does as the function says.
pub struct Scripted<F> {
    batches: Arc<Mutex<Vec<Vec<usize>>>>,
    script: F,
}

#[async_trait]
impl<F: Fn(&[Message]) -> Result<(), HandleError> + Send + Sync> Handler for Scripted<F> {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        self.batches.lock().unwrap().push(numbers(batch));
        (self.script)(batch)
    }
}

/// A loop that runs in the background.
pub struct Running {
    pub batches: Arc<Mutex<Vec<Vec<usize>>>>,
    pub ready: Arc<Mutex<Vec<bool>>>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub fn start(
        bus: &Arc<dyn Bus>,
        options: ConsumeOptions,
        script: impl Fn(&[Message]) -> Result<(), HandleError> + Send + Sync + 'static,
    ) -> Self {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let handler = Scripted { batches: Arc::clone(&batches), script };
        Self { batches, ..Self::start_handler(bus, options, handler) }
    }

    pub fn start_handler(bus: &Arc<dyn Bus>, options: ConsumeOptions, handler: impl Handler + 'static) -> Self {
        let ready = Arc::new(Mutex::new(Vec::new()));
        let shutdown = CancellationToken::new();
        let note = {
            let ready = Arc::clone(&ready);
            move |value| ready.lock().unwrap().push(value)
        };
        let task = tokio::spawn(run_consumer(Arc::clone(bus), QUEUE, options, handler, note, shutdown.clone()));
        Self { batches: Arc::default(), ready, shutdown, task }
    }

    pub fn batches(&self) -> Vec<Vec<usize>> {
        self.batches.lock().unwrap().clone()
    }

    /// Every number that was handed over, as often as it was.
    pub fn handed_over(&self) -> Vec<usize> {
        self.batches().concat()
    }

    pub fn cancel(&self) {
        self.shutdown.cancel();
    }

    /// Ends the loop, which must be glad to.
    pub async fn stop(self) {
        self.cancel();
        self.ended().await.unwrap();
    }

    pub async fn ended(self) -> anyhow::Result<()> {
        soon(self.task).await.unwrap()
    }
}

/// Waits until a condition that nobody announces is true.
pub async fn becomes_true<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    soon(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Options under which a failed message comes back at once, or not within this test.
pub fn options(retry_after: Duration) -> ConsumeOptions {
    let delays = |delay| RetryDelays { first: delay, max: delay };
    ConsumeOptions {
        retry_delays: delays(retry_after),
        outage_delays: delays(Duration::from_millis(5)),
        ..ConsumeOptions::default()
    }
}

pub const AT_ONCE: Duration = Duration::from_millis(1);
pub const NOT_HERE: Duration = Duration::from_secs(60);

fn contains(batch: &[Message], n: usize) -> bool {
    batch.iter().any(|message| number(message) == n)
}

pub async fn handled_messages_are_acknowledged(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(250)).await.unwrap();
    let running = Running::start(&bus, options(NOT_HERE), |_| Ok(()));
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
    assert_eq!(running.handed_over(), (0..250).collect::<Vec<_>>());
    assert!(running.batches().iter().all(|batch| batch.len() <= 100));
    assert_eq!(*running.ready.lock().unwrap(), [true]);
    running.stop().await;
}

pub async fn what_comes_soon_after_a_batch_is_gathered(installation: impl Installation) {
    let bus = installation.open().await;
    let gathering = ConsumeOptions { gather: Duration::from_secs(2), ..options(NOT_HERE) };
    let running = Running::start(&bus, gathering, |_| Ok(()));
    bus.publish(runs_requested(1)).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
    becomes_true(|| async { !running.batches().is_empty() }).await;
    for _ in 0..5 {
        bus.publish(runs_requested(1)).await.unwrap();
    }
    becomes_true(|| async { running.handed_over().len() == 6 }).await;
    assert_eq!(running.batches().iter().map(Vec::len).collect::<Vec<_>>(), [1, 5]);
    running.stop().await;
}

pub async fn a_handler_that_panics_takes_no_neighbour_with_it_and_never_spins(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let running = Running::start(&bus, options(NOT_HERE), |batch| {
        assert!(!contains(batch, 4), "this panic is part of the test");
        Ok(())
    });
    depth_becomes(&*bus, QUEUE, Depth { delayed: 1, ..Depth::default() }).await;
    let handed_over = running.handed_over();
    assert_eq!(handed_over.iter().copied().collect::<BTreeSet<_>>(), (0..10).collect());
    assert!(handed_over.iter().filter(|n| **n == 4).count() <= 2, "{handed_over:?}");

    bus.publish(runs_requested(1)).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { delayed: 1, ..Depth::default() }).await;
    becomes_true(|| async { running.handed_over().len() == handed_over.len() + 1 }).await;
    running.stop().await;
}

pub async fn a_rejected_message_is_a_dead_letter_at_once(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(10)).await.unwrap();
    let running = Running::start(&bus, options(NOT_HERE), |batch| {
        if contains(batch, 4) { Err(HandleError::Rejected("not a run".into())) } else { Ok(()) }
    });
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
    running.stop().await;

    let dead = bus.dead_letters(QUEUE, 10).await.unwrap();
    assert_eq!(numbers(dead.iter().map(|dead| &dead.message)), [4]);
    assert_eq!((dead[0].reason.as_str(), dead[0].failures), ("not a run", 1));
}

pub async fn a_failed_batch_is_retried_one_by_one(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(50)).await.unwrap();
    let running = Running::start(&bus, options(NOT_HERE), |batch| {
        if batch.len() > 1 { Err(HandleError::Failed("too many for me".into())) } else { Ok(()) }
    });
    depth_becomes(&*bus, QUEUE, Depth::default()).await;

    let mut batches = running.batches().into_iter();
    let mut alone = Vec::new();
    while let Some(batch) = batches.next() {
        if batch.len() > 1 {
            let retried: Vec<_> = batches.by_ref().take(batch.len()).collect();
            assert_eq!(retried, batch.iter().map(|n| vec![*n]).collect::<Vec<_>>());
        }
        alone.extend(batch);
    }
    assert_eq!(alone, (0..50).collect::<Vec<_>>());
    assert_eq!(bus.dead_letters(QUEUE, 10).await.unwrap(), []);
    running.stop().await;
}

pub async fn twenty_failures_end_in_a_dead_letter(installation: impl Installation) {
    let bus = installation.open().await;
    bus.publish(runs_requested(1)).await.unwrap();
    let running =
        Running::start(&bus, options(AT_ONCE), |_| Err(HandleError::Failed("the same as the last time".into())));
    becomes_true(|| async { !bus.dead_letters(QUEUE, 10).await.unwrap().is_empty() }).await;
    assert_eq!(running.handed_over(), [0; 20]);
    running.stop().await;

    let dead = bus.dead_letters(QUEUE, 10).await.unwrap();
    assert_eq!((dead[0].reason.as_str(), dead[0].failures), ("the same as the last time", 20));
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
}

pub async fn the_loop_ends_when_the_bus_is_closed(installation: impl Installation) {
    let bus = installation.open().await;
    let running = Running::start(&bus, options(AT_ONCE), |_| Ok(()));
    becomes_true(|| async { !running.ready.lock().unwrap().is_empty() }).await;
    soon(bus.close()).await;
    running.ended().await.unwrap();

    let too_late = Running::start(&bus, options(AT_ONCE), |_| Ok(()));
    let error = too_late.ended().await.unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot consume `agent-runner.runs`: the bus is closed");
}

//! Keeping a process whole: its roles run together, and stop together.
//!
//! A role that ends early or panics takes the others with it, and the process exits with an error, so that whoever
//! started it starts it again. A process that lives on with a part missing would look healthy and do half its work.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::error::chain;

/// How long a process that has ended otherwise waits for what cannot be stopped: a call of a database that does not
/// answer. Without a limit it would hang, and hear no signal any more.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(1);

/// How the shell reports a process ended by Ctrl-C.
const EXIT_INTERRUPTED: i32 = 130;

/// A part of a process that runs until shutdown.
pub struct Role {
    name: String,
    run: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
}

/// Why a process ended otherwise than by its own will.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A role failed.
    #[error("{role} failed")]
    Failed {
        /// Its name.
        role: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A role ended although nobody asked it to.
    #[error("{0} stopped on its own")]
    StoppedEarly(String),
    /// A role panicked.
    #[error("{0} panicked")]
    Panicked(String),
    /// Roles were still at work when the drain limit passed.
    #[error("{roles} did not stop within {limit:?}")]
    NotDrained {
        /// Their names.
        roles: String,
        /// The limit.
        limit: Duration,
    },
}

impl Role {
    /// Names a future that runs until shutdown.
    pub fn new(name: impl Into<String>, run: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Self {
        Self { name: name.into(), run: Box::pin(run) }
    }
}

/// Runs every role until `shutdown`, and cancels `shutdown` itself when one stops early; then waits up to `drain` for
/// the others to end.
///
/// # Errors
///
/// The first role that failed, panicked or stopped on its own, else those that did not stop in time.
pub async fn supervise(roles: Vec<Role>, shutdown: CancellationToken, drain: Duration) -> Result<(), SuperviseError> {
    let mut running = Running::start(roles);
    let mut first_failure = None;
    if let Some(Some((role, outcome))) = shutdown.run_until_cancelled(running.next()).await {
        let asked = shutdown.is_cancelled();
        first_failure = outcome.err().or_else(|| (!asked).then_some(SuperviseError::StoppedEarly(role)));
        shutdown.cancel();
    }
    let drained = tokio::time::timeout(drain, running.drain(&mut first_failure)).await;
    if drained.is_err() {
        let roles = running.names.values().map(String::as_str).collect::<Vec<_>>().join(", ");
        first_failure.get_or_insert(SuperviseError::NotDrained { roles, limit: drain });
    }
    first_failure.map_or(Ok(()), Err)
}

/// Cancels `shutdown` on SIGTERM or Ctrl-C; a second signal ends the process at once.
///
/// # Errors
///
/// The system refuses to tell of signals.
pub fn cancel_on_signal(shutdown: CancellationToken) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping: a second signal stops at once");
        shutdown.cancel();
        signals.next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}

/// The roles that have not ended, and what they are called.
struct Running {
    tasks: JoinSet<anyhow::Result<()>>,
    names: std::collections::HashMap<tokio::task::Id, String>,
}

impl Running {
    fn start(roles: Vec<Role>) -> Self {
        let mut running = Self { tasks: JoinSet::new(), names: std::collections::HashMap::new() };
        for Role { name, run } in roles {
            let task = running.tasks.spawn(run);
            running.names.insert(task.id(), name);
        }
        running
    }

    /// The next role that ends, and how; `None` when none is left.
    async fn next(&mut self) -> Option<(String, Result<(), SuperviseError>)> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let role = self.names.remove(&id).unwrap_or_default();
        let outcome = match ended {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(error))) => Err(SuperviseError::Failed { role: role.clone(), source: error.into() }),
            Err(_) => Err(SuperviseError::Panicked(role.clone())),
        };
        if let Err(error) = &outcome {
            tracing::error!(error = %chain(error), "a role ended, the process stops");
        }
        Some((role, outcome))
    }

    async fn drain(&mut self, first_failure: &mut Option<SuperviseError>) {
        while let Some((_, outcome)) = self.next().await {
            if let Err(error) = outcome {
                first_failure.get_or_insert(error);
            }
        }
    }
}

/// The signals that ask a process to stop.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // An error would mean that this system has no Ctrl-C: then there is nothing to wait for, ever.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(60);

    fn until_shutdown(name: &str, shutdown: &CancellationToken) -> Role {
        let shutdown = shutdown.clone();
        Role::new(name, async move {
            shutdown.cancelled().await;
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_shutdown_that_was_asked_for_is_a_success() {
        let shutdown = CancellationToken::new();
        let roles = vec![until_shutdown("a", &shutdown), until_shutdown("b", &shutdown)];
        shutdown.cancel();
        assert!(supervise(roles, shutdown, DRAIN).await.is_ok());
    }

    #[tokio::test]
    async fn a_role_that_fails_stops_the_others_and_is_named() {
        let shutdown = CancellationToken::new();
        let failing = Role::new("dispatcher", async { anyhow::bail!("no bus") });
        let error =
            supervise(vec![until_shutdown("a", &shutdown), failing], shutdown.clone(), DRAIN).await.unwrap_err();
        assert_eq!(chain(&error), "dispatcher failed: no bus");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_role_that_returns_early_or_panics_is_a_failure() {
        let shutdown = CancellationToken::new();
        let early = supervise(vec![Role::new("runner", async { Ok(()) })], shutdown, DRAIN).await.unwrap_err();
        assert_eq!(early.to_string(), "runner stopped on its own");
        let panicking = Role::new("runner", async { panic!("by intent") });
        let panicked = supervise(vec![panicking], CancellationToken::new(), DRAIN).await.unwrap_err();
        assert_eq!(panicked.to_string(), "runner panicked");
    }

    #[tokio::test]
    async fn a_role_that_does_not_stop_in_time_is_named() {
        let shutdown = CancellationToken::new();
        let roles = vec![until_shutdown("a", &shutdown), Role::new("stuck", std::future::pending())];
        shutdown.cancel();
        let error = supervise(roles, shutdown, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.to_string(), "stuck did not stop within 20ms");
    }
}

//! A connection that heals itself for ever: there is one, or one is being made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::names::Names;
use super::session::{OpenError, Session};
use crate::error::BusError;
use crate::handler::RetryDelays;

/// How long to wait between tries to connect.
const DELAYS: RetryDelays = RetryDelays { first: Duration::from_millis(100), max: Duration::from_secs(2) };

/// What there is at present.
#[derive(Clone)]
enum State {
    Up(Arc<Session>),
    Down(Arc<str>),
    Closed,
}

/// One purpose's connection to the broker. Publishing and consuming have one each: while an alarm of the broker blocks
/// those who publish, acknowledgements still get through.
pub(super) struct Link {
    state: watch::Receiver<State>,
    closing: CancellationToken,
    ended: CancellationToken,
}

/// What is needed to connect, again and again.
pub(super) struct Dialer {
    pub(super) address: Address,
    pub(super) names: Names,
    /// What the broker shows to its operators.
    pub(super) name: String,
}

impl Link {
    /// Connects once, then keeps connected. A broker that cannot be reached may come; one that refuses is an error.
    pub(super) async fn open(dialer: Dialer) -> Result<Self, BusError> {
        let first = match dialer.dial().await {
            Ok(session) => State::Up(session),
            Err(error) => match refusal(&error) {
                Some(reason) => return Err(BusError::Refused { broker: dialer.address.to_string(), reason }),
                None => dialer.down(&error),
            },
        };
        let (sender, state) = watch::channel(first);
        let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(dialer.keep_up(sender, closing.clone(), ended.clone().drop_guard()));
        Ok(Self { state, closing, ended })
    }

    /// The connection, as soon as there is one. Fails at the deadline, and when the link is closed.
    pub(super) async fn session(&self, deadline: Option<Instant>) -> Result<Arc<Session>, BusError> {
        let Some(deadline) = deadline else { return self.waiting().await };
        match tokio::time::timeout_at(deadline.into(), self.waiting()).await {
            Ok(found) => found,
            Err(_) => Err(match &*self.state.borrow() {
                State::Down(reason) => BusError::Unavailable(reason.to_string().into()),
                State::Up(_) => BusError::Unavailable("there was no time left".into()),
                State::Closed => BusError::Closed,
            }),
        }
    }

    /// [`Link::session`] without a deadline, and without keeping the link.
    pub(super) fn waiting(&self) -> impl Future<Output = Result<Arc<Session>, BusError>> + Send + 'static {
        let mut state = self.state.clone();
        async move {
            let found = state.wait_for(|state| !matches!(state, State::Down(_))).await;
            match found.as_deref() {
                Ok(State::Up(session)) => Ok(Arc::clone(session)),
                _ => Err(BusError::Closed),
            }
        }
    }

    /// Whether messages get through at present, from now on.
    pub(super) fn follow(&self) -> watch::Receiver<bool> {
        let mut state = self.state.clone();
        let (sender, up) = watch::channel(is_up(&state.borrow()));
        tokio::spawn(async move {
            loop {
                let mut session = match &*state.borrow_and_update() {
                    State::Up(session) => Some(session.blocked.clone()),
                    State::Down(_) | State::Closed => None,
                };
                // Seen, so that the next change is waited for, and not this one found again and again.
                let now = session.as_mut().is_some_and(|blocked| !*blocked.borrow_and_update());
                sender.send_if_modified(|up| std::mem::replace(up, now) != now);
                let blocked = async {
                    match &mut session {
                        Some(blocked) => blocked.changed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = state.changed() => if changed.is_err() { return },
                    Ok(()) = blocked => {}
                    () = sender.closed() => return,
                }
            }
        });
        up
    }

    /// Ends the connection, and waits for that.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Dialer {
    async fn dial(&self) -> Result<Arc<Session>, OpenError> {
        let started = Instant::now();
        let session = Session::open(&self.address, &self.names, &self.name).await?;
        let duration_ms = started.elapsed().as_millis();
        tracing::info!(broker = %self.address, connection = self.name, duration_ms, "connected to the broker");
        Ok(session)
    }

    fn down(&self, error: &OpenError) -> State {
        tracing::warn!(broker = %self.address, connection = self.name, %error, "cannot connect to the broker");
        State::Down(format!("cannot connect to the broker {}: {error}", self.address).into())
    }

    /// Replaces a connection that ended, for ever.
    async fn keep_up(self, state: watch::Sender<State>, closing: CancellationToken, _ended: impl Send) {
        let mut tries = 0;
        loop {
            let now = state.borrow().clone();
            match now {
                State::Up(session) => {
                    tries = 0;
                    if closing.run_until_cancelled(session.ended()).await.is_none() {
                        state.send_replace(State::Closed);
                        session.close().await;
                        return;
                    }
                    tracing::warn!(broker = %self.address, connection = self.name, "lost the connection to the broker");
                    metrics::counter!("carillon_bus_connections_lost_total").increment(1);
                    state.send_replace(State::Down(format!("lost the connection to {}", self.address).into()));
                    // Nobody is to find it half alive: what it had in flight must fail now.
                    session.close().await;
                }
                State::Down(_) => {
                    tries += 1;
                    let delay = if tries == 1 { Duration::ZERO } else { DELAYS.after(tries - 1) };
                    let dial = async {
                        tokio::time::sleep(delay).await;
                        self.dial().await
                    };
                    let Some(dialed) = closing.run_until_cancelled(dial).await else {
                        state.send_replace(State::Closed);
                        return;
                    };
                    state.send_replace(dialed.map_or_else(|error| self.down(&error), State::Up));
                }
                State::Closed => return,
            }
        }
    }
}

fn is_up(state: &State) -> bool {
    matches!(state, State::Up(session) if !*session.blocked.borrow())
}

/// What an operator must change before it can work; `None` if waiting may help.
fn refusal(error: &OpenError) -> Option<String> {
    let OpenError::Failed(error) = error else { return None };
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let advice = match error.kind() {
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => "check the virtual host, and who may use it",
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => "check user, password and permissions",
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            "something there has its name and another shape: remove it, or use a virtual host of its own"
        }
        _ => return None,
    };
    Some(format!("{} ({advice})", error.get_message()))
}

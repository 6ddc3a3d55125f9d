//! The receiver of callbacks: verifies the signature of each, notes when it came, and answers after as many
//! milliseconds as its path says (`/0`, `/50`, `/15000`).

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, anyhow, ensure};
use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// What every callback is signed with.
pub(crate) const SECRET: &str = "bench-callback-secret";
/// The signature's header.
pub(crate) const SIGNATURE: &str = "X-Hub-Signature-256";
/// The hosts that it has: each is an address of the loopback network.
const HOSTS: u8 = 8;

/// Listens until the runtime ends.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    key: hmac::Key,
    arrived: Mutex<Arrived>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Arrived {
    /// By log id, the first time that it came.
    first: HashMap<i64, Arrival>,
    repeated: usize,
    /// Not signed with the secret, or without a log id.
    wrong: usize,
}

/// What came since the last time that somebody asked.
#[derive(Debug)]
pub(crate) struct Received {
    /// By log id, the first time that it came.
    pub(crate) first: HashMap<i64, Arrival>,
    /// How many came again.
    pub(crate) repeated: usize,
}

/// A callback that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// The agent and the nominal time that it speaks of.
    pub(crate) tick: Option<(i64, DateTime<Utc>)>,
}

impl Sink {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let arrived = Mutex::new(Arrived::default());
        let key = signing_key();
        let state = Arc::new(State { key, arrived, came: Notify::new() });
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let data = web::Data::from(Arc::clone(&state));
        let app = move || {
            let limit = web::PayloadConfig::new(1 << 26);
            App::new().app_data(data.clone()).app_data(limit).default_service(web::to(receive))
        };
        let mut server = HttpServer::new(app).workers(1).disable_signals().backlog(4096).listen(first)?;
        for host in 2..=HOSTS {
            server = server.bind((Ipv4Addr::new(127, 0, 0, host), port))?;
        }
        tokio::spawn(server.run());
        Ok(Self { port, state })
    }

    /// Where one of its hosts answers after `delay`.
    pub(crate) fn url(&self, host: usize, delay: Duration) -> String {
        format!("http://127.0.0.{}:{}/{}", host % usize::from(HOSTS) + 1, self.port, delay.as_millis())
    }

    /// Waits until so many different callbacks came, and takes them.
    pub(crate) async fn take(&self, count: usize, patience: Duration) -> anyhow::Result<Received> {
        self.wait_for(count, patience).await?;
        let Arrived { first, repeated, wrong } = std::mem::take(&mut *self.state.lock());
        ensure!(wrong == 0, "{wrong} callbacks were not signed as they should be");
        Ok(Received { first, repeated })
    }

    /// Waits until so many different callbacks came; how many did.
    pub(crate) async fn wait_for(&self, count: usize, patience: Duration) -> anyhow::Result<usize> {
        let enough = async {
            loop {
                let came = self.state.came.notified();
                let there = self.state.lock().first.len();
                if there >= count {
                    return there;
                }
                came.await;
            }
        };
        let waited = tokio::time::timeout(patience, enough).await;
        waited.map_err(|_| {
            let came = self.state.lock().first.len();
            anyhow!("{came} of {count} callbacks came within {patience:?}")
        })
    }

    /// How many of these came and were not taken.
    pub(crate) fn came(&self, ids: &[i64]) -> usize {
        let arrived = self.state.lock();
        ids.iter().filter(|id| arrived.first.contains_key(id)).count()
    }
}

impl Received {
    /// When the last of them came.
    pub(crate) fn last(&self) -> anyhow::Result<Instant> {
        self.first.values().map(|arrival| arrival.at).max().context("nothing came")
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, body: &[u8], signature: Option<&str>) {
        let signature = signature.and_then(|text| hex::decode(text.strip_prefix("sha256=")?).ok());
        let verified = signature.is_some_and(|tag| hmac::verify(&self.key, body, &tag).is_ok());
        let arrival = Arrival { at: Instant::now(), tick: tick(body) };
        let mut arrived = self.lock();
        match number(body, b"\"log_id\":").filter(|_| verified) {
            None => arrived.wrong += 1,
            Some(id) if arrived.first.contains_key(&id) => arrived.repeated += 1,
            Some(id) => {
                arrived.first.insert(id, arrival);
            }
        }
        drop(arrived);
        self.came.notify_waiters();
    }
}

/// The key of [`SECRET`].
pub(crate) fn signing_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes())
}

/// The number of this name, without reading the whole as JSON, which would cost more than all else here. What is quoted
/// in an output or a log has backslashes, and cannot be taken for it.
fn number(body: &[u8], name: &[u8]) -> Option<i64> {
    let digits = after(body, name)?.iter().take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
}

fn tick(body: &[u8]) -> Option<(i64, DateTime<Utc>)> {
    let agent = number(body, b"\"periodic_agent\":")?;
    let time = after(body, b"\"nominal_time\":\"")?.split(|byte| *byte == b'"').next()?;
    Some((agent, std::str::from_utf8(time).ok()?.parse().ok()?))
}

fn after<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let begin = body.windows(name.len()).rposition(|window| window == name)?;
    body.get(begin + name.len()..)
}

async fn receive(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    state.note(&body, request.headers().get(SIGNATURE).and_then(|value| value.to_str().ok()));
    let delay = request.path().trim_start_matches('/').parse().map_or(Duration::ZERO, Duration::from_millis);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    HttpResponse::NoContent().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_callback_speaks_of_is_found_in_it() {
        let body =
            br#"{"log":"\"log_id\":7 was said","log_id":123,"periodic_agent":4,"nominal_time":"2026-03-01T12:00:00Z"}"#;
        assert_eq!(number(body, b"\"log_id\":"), Some(123));
        assert_eq!(tick(body), Some((4, "2026-03-01T12:00:00Z".parse().unwrap())));
        assert_eq!((number(b"{}", b"\"log_id\":"), tick(b"{}")), (None, None));
    }
}

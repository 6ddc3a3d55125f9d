//! Requests to whoever answers for a mentor: where they may go, what they carry, and how their answers are read.
//!
//! A URL that a mentor's owner chose is called through the guard on outgoing requests, whose exceptions are
//! `callbacks.allow_networks`: mentors and callbacks are called from the same place on behalf of the same tenants. A
//! URL that the operator chose, in `providers`, may be anywhere. No redirect is followed and no proxy is asked, so that
//! credentials go to the origin that was chosen and to no other.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use reqwest::{Client, Method, Response, redirect};
use service_kit::clock::Clock;
use service_kit::egress::{Guard, GuardedClient, pinging};
use url::Url;

use super::complaint::{self, Secrets};
use super::failed::{Failed, retry_after};
use super::{Question, UrlOwner};
use crate::slots::Room;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("Carillon/", env!("CARGO_PKG_VERSION"));

/// The guarded client's own limit on a whole request: only a backstop, longer than any run may take.
const BACKSTOP: Duration = Duration::from_secs(3_600);

/// The longest that an answer may pause once it has begun. Models that think before they speak do so for minutes.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// The most bytes of a failure's body that are read, and the longest pause in it: it only explains.
const COMPLAINT_BYTES_MAX: usize = 64 * 1024;
const COMPLAINT_IDLE_MAX: Duration = Duration::from_secs(5);

/// Header values shorter than this are words rather than credentials: hiding them would garble every complaint.
const SECRET_HEADER_BYTES_MIN: usize = 8;

/// What a mentor's own headers may not say: it is about the connection, which is not theirs.
const NOT_THEIRS: [HeaderName; 11] = [
    ACCEPT,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Sends requests.
pub(crate) struct Transport {
    pub(super) clock: Clock,
    guarded: GuardedClient,
    trusted: Client,
}

/// A request that is ready.
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    owner: UrlOwner,
    secrets: Secrets,
    room: Room,
}

impl Transport {
    /// # Errors
    ///
    /// The TLS library cannot start.
    pub(crate) fn new(clock: Clock, guard: &Guard) -> Result<Self, reqwest::Error> {
        let trusted = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(USER_AGENT);
        let trusted = pinging(trusted).build()?;
        Ok(Self { clock, guarded: guard.client(BACKSTOP)?, trusted })
    }

    /// Sends a request and returns its answer, once that begins with success.
    pub(super) async fn send<'a>(&'a self, request: &'a Request) -> Result<Body<'a>, Failed> {
        let builder = match request.owner {
            UrlOwner::Operator => self.trusted.post(request.url.clone()),
            UrlOwner::Tenant => {
                self.guarded.request(Method::POST, &request.url).map_err(|refusal| Failed::of_refusal(&refusal))?
            }
        };
        let sent = builder.headers(request.headers.clone()).body(request.body.clone()).send().await;
        let response = sent.map_err(Failed::of_error)?;
        let status = response.status();
        let again_after = retry_after(response.headers(), self.clock.now());
        let mut body = Body { response, clock: &self.clock, room: &request.room, idle_max: IDLE_MAX, ends_at: None };
        if status.is_success() {
            return Ok(body);
        }
        body.idle_max = COMPLAINT_IDLE_MAX;
        let said = body.beginning(COMPLAINT_BYTES_MAX).await;
        let failed = Failed::of_status(status, again_after, &request.secrets.shorten(&complaint::of_body(&said)));
        // Comes as 429, but no waiting brings money.
        Err(if complaint::is_about_quota(&said) { failed.made_permanent() } else { failed })
    }
}

impl Request {
    /// A POST to `url` with the headers of the mentor; without a body so far.
    pub(super) fn new(url: Url, question: &Question) -> Result<Self, Failed> {
        let mut secrets = Secrets::default();
        let mut headers = HeaderMap::new();
        for (name, value) in &question.settings.headers {
            let (Ok(name), Ok(value_given)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                return Err(Failed::permanent(format!("`{name}` in `provider.headers` cannot stand in a header")));
            };
            if NOT_THEIRS.contains(&name) {
                question.log.line(format_args!("`{name}` of `provider.headers` is not sent: it is set by Carillon"));
                continue;
            }
            if value.len() >= SECRET_HEADER_BYTES_MIN {
                secrets.add(value);
            }
            headers.insert(name, value_given);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(Ok(value)) = question.trace.traceparent().map(HeaderValue::try_from) {
            headers.insert(TRACEPARENT, value);
        }
        Ok(Self {
            url,
            headers,
            body: Vec::new(),
            owner: question.settings.url_owner,
            secrets,
            room: question.room.clone(),
        })
    }

    /// Adds a header that nobody is to see, in the form `{prefix}{secret}`.
    pub(super) fn with_secret(mut self, name: HeaderName, prefix: &str, secret: &str) -> Result<Self, Failed> {
        let value = HeaderValue::try_from(format!("{prefix}{secret}"));
        let Ok(mut value) = value else {
            return Err(Failed::permanent("the API key holds a character that cannot stand in a header"));
        };
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self.secrets.add(secret);
        Ok(self)
    }

    /// Adds the usual header of a token.
    pub(super) fn with_bearer(self, secret: &str) -> Result<Self, Failed> {
        self.with_secret(AUTHORIZATION, "Bearer ", secret)
    }

    /// A server's words, short and without the secrets of this request.
    pub(super) fn shorten(&self, said: &str) -> String {
        self.secrets.shorten(said)
    }
}

/// The URL that a mentor is asked at.
pub(super) fn url_of(base_url: &str) -> Result<Url, Failed> {
    if base_url.is_empty() {
        return Err(Failed::permanent("the mentor's provider has no `base_url`"));
    }
    Url::parse(base_url).map_err(|error| Failed::permanent(format!("`provider.base_url` cannot be read: {error}")))
}

/// A URL as the log shows it: a user, a password or a query may be credentials.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail only where there is no host, and then there is no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// The body of an answer, read piece by piece.
pub(super) struct Body<'a> {
    response: Response,
    clock: &'a Clock,
    room: &'a Room,
    idle_max: Duration,
    /// When it counts as broken off, whatever comes; none: when nothing comes any more.
    ends_at: Option<DateTime<Utc>>,
}

impl Body<'_> {
    /// Gives the rest of the answer so much time, from the first time on that this is said.
    pub(super) fn end_within(&mut self, limit: Duration) {
        self.ends_at.get_or_insert_with(|| self.clock.now() + limit);
    }

    /// Gives it as much as it takes again.
    pub(super) fn end_at_will(&mut self) {
        self.ends_at = None;
    }

    /// The type of the answer without its parameters, in lower case; empty: it says none.
    pub(super) fn content_type(&self) -> String {
        let value = self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether the answer says that it is JSON.
    pub(super) fn is_json(&self) -> bool {
        let content_type = self.content_type();
        content_type == "application/json" || content_type.ends_with("+json")
    }

    /// The next bytes as they come; none: that was all.
    pub(super) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failed> {
        let (clock, ends_at) = (self.clock, self.ends_at);
        let ended = async {
            match ends_at {
                Some(ends_at) => clock.sleep_until(ends_at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            chunk = self.response.chunk() => chunk.map_err(|error| {
                Failed::transient(format!("the answer broke off: {}", service_kit::error::chain(&error.without_url())))
            }),
            () = self.clock.sleep(self.idle_max) => {
                let seconds = self.idle_max.as_secs();
                Err(Failed::transient(format!("the answer broke off: nothing more came for {seconds} s")))
            }
            () = ended => Err(Failed::transient("the answer broke off: it does not end")),
        }
    }

    /// Returns when there is room for so many bytes of the answer.
    pub(super) async fn hold(&self, bytes: usize) {
        self.room.hold(bytes).await;
    }

    /// Reads to the end, but no more than `bytes_max`; true: there was more.
    pub(super) async fn read(&mut self, bytes_max: usize) -> Result<(Vec<u8>, bool), Failed> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if keep(&mut bytes, chunk.as_ref(), bytes_max) {
                return Ok((bytes, true));
            }
            self.hold(bytes.len()).await;
        }
        Ok((bytes, false))
    }

    /// What can be had of the first `bytes_max` bytes.
    async fn beginning(mut self, bytes_max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            if keep(&mut bytes, chunk.as_ref(), bytes_max) {
                break;
            }
        }
        bytes
    }
}

/// Keeps what fits; true: something did not.
fn keep(bytes: &mut Vec<u8>, chunk: &[u8], bytes_max: usize) -> bool {
    let room = bytes_max - bytes.len();
    bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    chunk.len() > room
}

//! The guard on requests that tenants make us send: callbacks, mentors and services at URLs of their choice.
//!
//! Without it, a tenant could have Carillon fetch what only Carillon's own network reaches: a cloud's metadata, a
//! database, another tenant's receiver. A name is resolved once, every address is looked at, and the connection goes
//! to those very addresses, so that a name cannot answer one thing to the guard and another to the connection.

#[cfg(test)]
mod hostile;
mod networks;
#[cfg(test)]
mod silence;

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, redirect};
use tokio::time::timeout;
use url::{Host, Url};

pub use networks::special_purpose;

/// For a connection, looking up its name included; and for looking up a name by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// When a connection that somebody waits on counts as silent, and how long its PING (RFC 9113, section 6.7) may be
/// unanswered. Who is merely slow answers PINGs, and who cannot even do that has half a minute.
const PINGS: Pings = Pings { after: Duration::from_secs(10), patience: Duration::from_secs(30) };
const USER_AGENT: &str = concat!("Carillon/", env!("CARGO_PKG_VERSION"));

/// Suffixes of names that mean something inside a network only (RFC 6761, RFC 6762, ICANN's `.internal`, RFC 8375).
const INTERNAL_SUFFIXES: [&str; 4] = ["localhost", "local", "internal", "home.arpa"];

/// Decides where requests may go. Clones share the decision.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    resolver: Resolver,
}

/// Who says which addresses a name has.
#[derive(Clone)]
enum Resolver {
    Host,
    /// What a test says, one answer after the other; the last stays.
    #[cfg(test)]
    Played(Arc<std::sync::Mutex<Vec<Vec<IpAddr>>>>),
    /// Nobody, ever.
    #[cfg(test)]
    Silent,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Self::Host => Ok(tokio::net::lookup_host((host, 0)).await?.collect()),
            #[cfg(test)]
            Self::Played(answers) => {
                let mut answers = answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                Ok(answer.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
            }
            #[cfg(test)]
            Self::Silent => std::future::pending().await,
        }
    }
}

/// A client that sends nothing past its [`Guard`]. Clones share connections.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    guard: Guard,
    client: Client,
}

/// How a connection that carries many requests at once (HTTP/2) is found to be dead. TCP does not tell: a proxy that is
/// frozen has its kernel acknowledge every byte, and without PINGs each new request would go over that connection too.
#[derive(Debug, Clone, Copy)]
struct Pings {
    after: Duration,
    patience: Duration,
}

impl Pings {
    fn of(self, client: ClientBuilder) -> ClientBuilder {
        client.http2_keep_alive_interval(self.after).http2_keep_alive_timeout(self.patience)
    }
}

/// A client without a guard, for what the operator named, that gives up connections which fell silent as guarded ones do.
pub fn pinging(client: ClientBuilder) -> ClientBuilder {
    PINGS.of(client)
}

/// Why a request may not go where it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Neither `http` nor `https`.
    #[error("the scheme `{0}` cannot be called: use http or https")]
    Scheme(String),
    /// A URL without a host.
    #[error("the URL names no host")]
    NoHost,
    /// A name that leads into a network, while no such network may be called.
    #[error("`{0}` is a name of an internal network: allow its addresses in `callbacks.allow_networks`")]
    InternalName(String),
    /// An address that is not public, and not allowed either.
    #[error("{host} leads to {address} ({network}), which may not be called: see `callbacks.allow_networks`")]
    NotPublic {
        /// The host as the URL names it.
        host: String,
        /// Its first address at fault.
        address: IpAddr,
        /// What such addresses are for.
        network: &'static str,
    },
    /// Addresses of both kinds.
    #[error("`{host}` leads to public addresses as well as into `callbacks.allow_networks`: give it one kind")]
    Mixed {
        /// The name.
        host: String,
    },
    /// The name has no address, or nobody says in time which.
    #[error("`{host}` cannot be resolved: {reason}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver says, if anything.
        reason: String,
    },
}

impl EgressError {
    /// The refusal inside an error of the client, if that is why it failed.
    #[must_use]
    pub fn of(error: &reqwest::Error) -> Option<&Self> {
        std::iter::successors(error.source(), |&error| error.source()).find_map(|error| error.downcast_ref())
    }
}

impl Guard {
    /// Lets requests go to public addresses and to `allowed` ones.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed: allowed.into(), resolver: Resolver::Host }
    }

    /// Whether a URL may be called, as far as the URL alone can tell: names are judged by their addresses later, at
    /// every connection.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::Scheme(url.scheme().to_owned()));
        }
        // The parser has turned `0x7f.1`, `2130706433` and full-width digits into the addresses that they are.
        match url.host().ok_or(EgressError::NoHost)? {
            Host::Ipv4(address) => self.check_addresses(&address.to_string(), &[address.into()]),
            Host::Ipv6(address) => self.check_addresses(&address.to_string(), &[address.into()]),
            Host::Domain(name) => self.check_name(name),
        }
    }

    /// A client whose whole requests may take `timeout`. It follows no redirects and asks the environment for no
    /// proxy: both would lead past the guard.
    ///
    /// # Errors
    ///
    /// The TLS library cannot start.
    pub fn client(&self, timeout: Duration) -> Result<GuardedClient, reqwest::Error> {
        let client = self.builder(timeout, PINGS).build()?;
        Ok(GuardedClient { guard: self.clone(), client })
    }

    /// As [`client`](Self::client), but no connection outlives its request: for whoever has little to ask of many.
    ///
    /// # Errors
    ///
    /// The TLS library cannot start.
    pub fn client_without_pool(&self, timeout: Duration) -> Result<GuardedClient, reqwest::Error> {
        let client = self.builder(timeout, PINGS).pool_max_idle_per_host(0).build()?;
        Ok(GuardedClient { guard: self.clone(), client })
    }

    fn builder(&self, timeout: Duration, pings: Pings) -> ClientBuilder {
        let client = Client::builder()
            .dns_resolver(Arc::new(self.clone()))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .user_agent(USER_AGENT);
        pings.of(client)
    }

    /// With a network allowed, an internal name may lead there: its addresses will tell.
    fn check_name(&self, name: &str) -> Result<(), EgressError> {
        let bare = name.trim_end_matches('.');
        let ends_with = |suffix: &str| bare == suffix || bare.ends_with(&format!(".{suffix}"));
        let internal = !bare.contains('.') || INTERNAL_SUFFIXES.into_iter().any(ends_with);
        if internal && self.allowed.is_empty() {
            return Err(EgressError::InternalName(name.to_owned()));
        }
        Ok(())
    }

    /// All addresses must be public, or all allowed: a name with some of each is a trick, or a mistake.
    fn check_addresses(&self, host: &str, addresses: &[IpAddr]) -> Result<(), EgressError> {
        let is_allowed = |address: &IpAddr| self.allowed.iter().any(|network| network.contains(address));
        let is_public = |address: &IpAddr| special_purpose(*address).is_none();
        if addresses.iter().all(is_public) || addresses.iter().all(is_allowed) {
            return Ok(());
        }
        let refused = addresses.iter().filter(|address| !is_allowed(address));
        match refused.copied().find_map(|address| Some((address, special_purpose(address)?))) {
            Some((address, network)) => Err(EgressError::NotPublic { host: host.to_owned(), address, network }),
            None => Err(EgressError::Mixed { host: host.to_owned() }),
        }
    }

    async fn resolve_name(self, host: String) -> Result<Vec<SocketAddr>, EgressError> {
        let unresolved = |reason: String| EgressError::Unresolved { host: host.clone(), reason };
        // Here, so that it holds for every caller: a name is also looked up outside of any request's own time-out.
        let looked_up = timeout(CONNECT_TIMEOUT, self.resolver.addresses(&host)).await;
        let too_late = |_| unresolved(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
        let addresses = looked_up.map_err(too_late)?.map_err(|error| unresolved(error.to_string()))?;
        if addresses.is_empty() {
            return Err(unresolved("it has no address".to_owned()));
        }
        self.check_addresses(&host, &addresses.iter().map(SocketAddr::ip).collect::<Vec<_>>())?;
        Ok(addresses)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let resolved = self.clone().resolve_name(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = resolved.await.map_err(Box::<dyn StdError + Send + Sync>::from)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl GuardedClient {
    /// Begins a request.
    ///
    /// The only way to begin one: the client itself asks its resolver about names only, never about an address that
    /// stands in the URL.
    ///
    /// # Errors
    ///
    /// The URL may not be called. What only its addresses tell comes when the request is sent, see
    /// [`EgressError::of`].
    pub fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, EgressError> {
        self.guard.check_url(url)?;
        Ok(self.client.request(method, url.clone()))
    }

    /// As [`request`](Self::request), but a name is resolved, and its addresses looked at, now: also where the request
    /// would go over a connection that is open already. That takes five seconds at most.
    ///
    /// # Errors
    ///
    /// The URL may not be called, or its name leads where nothing may be called, or nowhere.
    pub async fn vetted_request(&self, method: Method, url: &Url) -> Result<RequestBuilder, EgressError> {
        let request = self.request(method, url)?;
        if let Some(Host::Domain(name)) = url.host() {
            self.guard.clone().resolve_name(name.to_owned()).await?;
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard::new(allowed.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn check(guard: &Guard, url: &str) -> Result<(), EgressError> {
        guard.check_url(&url.parse().unwrap())
    }

    #[test]
    fn a_public_url_may_be_called() {
        for url in [
            "https://hooks.example.com/x?y",
            "http://example.com:8080/",
            "https://example.com./",
            "https://1.1.1.1/",
            "https://[2606:4700:4700::1111]/",
            "https://user:password@example.com/",
            "https://localhost.example.com/",
            "https://local.example.com/",
        ] {
            assert_eq!(check(&guard(&[]), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://１２７.０.０.１/",
            "http://0/",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.8:8080/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:8.8.8.8]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://168.63.129.16/",
        ] {
            let error = check(&guard(&[]), url).unwrap_err();
            assert!(matches!(error, EgressError::NotPublic { .. }), "{url}: {error}");
            assert!(error.to_string().contains("callbacks.allow_networks"));
        }
    }

    #[test]
    fn a_name_of_an_internal_network_is_refused_unless_some_network_is_allowed() {
        for url in [
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://printer.local/",
            "http://metadata.google.internal/",
            "http://router.home.arpa./",
            "http://receiver:8000/",
        ] {
            let error = check(&guard(&[]), url).unwrap_err();
            assert!(matches!(error, EgressError::InternalName(_)), "{url}: {error}");
            assert_eq!(check(&guard(&["10.0.0.0/8"]), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn no_other_scheme_may_be_called() {
        for url in ["ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "data:,x"] {
            assert!(matches!(check(&guard(&["10.0.0.0/8"]), url), Err(EgressError::Scheme(_))), "{url}");
        }
    }

    #[test]
    fn an_allowed_network_may_be_called_and_no_other() {
        let guard = guard(&["10.1.0.0/16", "::1/128"]);
        assert_eq!(check(&guard, "http://10.1.2.3/"), Ok(()));
        assert_eq!(check(&guard, "http://[::1]/"), Ok(()));
        assert_eq!(check(&guard, "http://8.8.8.8/"), Ok(()));
        assert!(check(&guard, "http://10.2.0.1/").is_err());
        assert!(check(&guard, "http://[::ffff:10.1.2.3]/").is_err());
    }

    #[test]
    fn a_name_with_a_public_and_another_address_is_refused() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let guard = guard(&["10.0.0.0/8"]);
        let check = |texts: &[&str]| guard.check_addresses("x", &addresses(texts));
        assert!(matches!(check(&["1.1.1.1", "10.0.0.1"]), Err(EgressError::Mixed { .. })));
        assert!(check(&["10.0.0.1", "192.168.0.1"]).unwrap_err().to_string().contains("192.168.0.1"));
        assert!(check(&["1.1.1.1", "127.0.0.1"]).is_err());
        assert_eq!(check(&["10.0.0.1", "10.0.0.2"]), Ok(()));
        assert_eq!(check(&["1.1.1.1", "2606:4700:4700::1111"]), Ok(()));
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses_when_the_connection_is_made() {
        // `localhost` passes by its name, as some network is allowed, but leads to another.
        let client = guard(&["10.0.0.0/8"]).client(Duration::from_secs(60)).unwrap();
        let request = client.request(Method::GET, &"http://localhost:9/".parse().unwrap()).unwrap();
        let error = request.send().await.unwrap_err();
        assert!(matches!(EgressError::of(&error), Some(EgressError::NotPublic { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_allowed_is_connected_to() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
        let client = guard(&["127.0.0.0/8", "::1/128"]).client(Duration::from_secs(60)).unwrap();
        let request = tokio::spawn(client.request(Method::GET, &url).unwrap().send());
        assert!(listener.accept().await.is_ok());
        request.abort();
    }
}

//! Where the broker is. The password never leaves this file but in the handshake.

use std::fmt;

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::error::BusError;

/// Seconds between heartbeats unless the URL says otherwise: a broker that is silent for twice as long is gone.
const HEARTBEAT_SECONDS: u16 = 5;

/// A broker, a virtual host, and the credentials for it.
#[derive(Clone)]
pub(super) struct Address(AMQPUri);

impl Address {
    /// Reads an `amqp://` or `amqps://` URL.
    pub(super) fn parse(url: &str) -> Result<Self, BusError> {
        // The library takes less for a URL, and what it says of what it does not understand could repeat a password.
        let whole = url.starts_with("amqp://") || url.starts_with("amqps://");
        let mut uri: AMQPUri = url.parse().ok().filter(|_| whole).ok_or(BusError::Url)?;
        // The rest of a password with an unescaped slash.
        if uri.vhost.contains('@') {
            return Err(BusError::Url);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self(uri))
    }

    /// For the handshake.
    pub(super) fn uri(&self) -> AMQPUri {
        self.0.clone()
    }
}

/// Without the credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.0.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.0.authority;
        let vhost = self.0.vhost.replace('/', "%2f");
        write!(f, "{scheme}://{}:{}/{vhost}", authority.host, authority.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_everything_but_its_credentials() {
        let address = Address::parse("amqps://carillon:s3cret@broker.example:5671/prod%2fone?heartbeat=30").unwrap();
        assert_eq!(address.to_string(), "amqps://broker.example:5671/prod%2fone");
        assert_eq!(format!("{address:?}"), "Address(amqps://broker.example:5671/prod%2fone)");
        assert_eq!(address.uri().query.heartbeat, Some(30));
        assert_eq!(Address::parse("amqp://localhost").unwrap().to_string(), "amqp://localhost:5672/%2f");
    }

    #[test]
    fn what_is_no_url_of_a_broker_is_refused_without_repeating_it() {
        for url in
            ["", "amqp:/carillon:s3cret@broker", "http://carillon:s3cret@broker/", "amqp://u:s3cret@broker:port/"]
        {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, BusError::Url), "{url}");
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
    }
}

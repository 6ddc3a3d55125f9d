//! The address of a database or a broker, which may hold a password.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

const MASK: &str = "****";

/// A URL that shows everything but its password: an operator wants to see which server is meant.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ConnectionUrl(String);

impl ConnectionUrl {
    /// Takes the URL as it is.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for connecting.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether none was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The URL with its password masked; wholly masked if it is not understood.
    #[must_use]
    pub fn redacted(&self) -> String {
        if self.0.is_empty() || self.0.starts_with("sqlite:") {
            return self.0.clone();
        }
        let Ok(mut url) = Url::parse(&self.0) else { return MASK.to_owned() };
        if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
            return MASK.to_owned();
        }
        if url.query_pairs().any(|(key, _)| is_secret_parameter(&key)) {
            let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            url.query_pairs_mut().clear().extend_pairs(
                pairs.iter().map(|(key, value)| (key, if is_secret_parameter(key) { MASK } else { value })),
            );
        }
        url.into()
    }

    /// `text` without this URL's password, for messages of libraries that may repeat it.
    pub(crate) fn redact(&self, text: &str) -> String {
        match Url::parse(&self.0).ok().and_then(|url| url.password().map(str::to_owned)) {
            Some(password) if !password.is_empty() => text.replace(&password, MASK),
            _ => text.to_owned(),
        }
    }
}

fn is_secret_parameter(key: &str) -> bool {
    key.to_ascii_lowercase().contains("password")
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for ConnectionUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_masked_wherever_it_stands() {
        for (url, shown) in [
            ("postgres://carillon:s3cret@db:5432/registry", "postgres://carillon:****@db:5432/registry"),
            ("amqps://u:s3cret@mq/%2f", "amqps://u:****@mq/%2f"),
            ("postgres://db/x?user=u&password=s3cret", "postgres://db/x?user=u&password=****"),
            ("postgres://u:s3:cret@ho st/x", "****"),
            ("sqlite:data/registry.db", "sqlite:data/registry.db"),
            ("postgres:///x?host=/run/pg", "postgres:///x?host=/run/pg"),
            ("", ""),
        ] {
            let url = ConnectionUrl::new(url);
            assert_eq!(format!("{url} {url:?}"), format!("{shown} {shown}"));
        }
    }

    #[test]
    fn a_message_that_repeats_the_password_loses_it() {
        let url = ConnectionUrl::new("postgres://u:s3cret@db/x");
        assert_eq!(url.redact("bad option s3cret"), "bad option ****");
    }
}

//! What asking another microservice over internal HTTP takes, whichever it is.

use std::time::Duration;

use reqwest::Client;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);
/// When a client may ask again after one was away.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A client for one of them: its URL leads there, and nowhere else.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

//! Why one request brought no answer, in words for the agent's owner, and whether asking again may help.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use service_kit::egress::EgressError;
use service_kit::error::chain;

use super::AskError;

/// Why one request brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// A sentence without secrets.
    pub(super) text: String,
    /// Whether asking again may help; if so, not before so long.
    pub(super) again_after: Option<Duration>,
    /// The status of the answer, if that is why.
    pub(super) status: Option<StatusCode>,
}

impl Failed {
    /// Asking again may help.
    pub(super) fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), again_after: Some(Duration::ZERO), status: None }
    }

    /// Asking again would bring the same.
    pub(super) fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), again_after: None, status: None }
    }

    /// The same, but asking again would not help.
    pub(super) fn made_permanent(self) -> Self {
        Self { again_after: None, ..self }
    }

    /// The server answered, but not with success; `complaint` is what it says itself.
    pub(super) fn of_status(status: StatusCode, again_after: Option<Duration>, complaint: &str) -> Self {
        let colon = if complaint.is_empty() { "" } else { ": " };
        let redirect = if status.is_redirection() { ", a redirect, which is not followed" } else { "" };
        Self {
            text: format!("the provider answered {status}{redirect}{colon}{complaint}"),
            again_after: is_transient(status).then(|| again_after.unwrap_or_default()),
            status: Some(status),
        }
    }

    /// There was no answer.
    pub(super) fn of_error(error: reqwest::Error) -> Self {
        if let Some(refusal) = EgressError::of(&error) {
            return Self::of_refusal(refusal);
        }
        let error = error.without_url();
        if error.is_builder() {
            return Self::permanent(format!("the request cannot be made: {}", chain(&error)));
        }
        let what = if error.is_connect() { "no connection to the provider" } else { "the connection broke" };
        Self::transient(format!("{what}: {}", chain(&error)))
    }

    /// The request may not go there.
    pub(super) fn of_refusal(refusal: &EgressError) -> Self {
        match refusal {
            EgressError::Unresolved { .. } => Self::transient(refusal.to_string()),
            _ => Self::permanent(format!("the mentor's `provider.base_url` may not be called: {refusal}")),
        }
    }
}

impl From<Failed> for AskError {
    fn from(failed: Failed) -> Self {
        Self(failed.text)
    }
}

/// Whether a server that answers this may answer otherwise later.
pub(super) fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// What `Retry-After` says, in seconds or as a date; none: nothing that can be read.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for (status, transient) in [
            (408, true),
            (429, true),
            (500, true),
            (503, true),
            (599, true),
            (301, false),
            (400, false),
            (401, false),
            (404, false),
        ] {
            let failed = Failed::of_status(StatusCode::from_u16(status).unwrap(), None, "");
            assert_eq!(failed.again_after.is_some(), transient, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|delay| delay.as_secs())
        };
        assert_eq!(read("30"), Some(30));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("Sat, 21 Nov 2026 10:02:00 GMT"), Some(120));
        assert_eq!(read("Sat, 21 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-5"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}

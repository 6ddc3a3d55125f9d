//! What came of a delivery attempt: its class, and what is kept of the answer.

use std::error::Error;
use std::time::Duration;

use service_kit::egress::EgressError;

use crate::words::OutcomeClass;

/// The most bytes of an answer that are read.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of an answer that are kept.
pub const EXCERPT_BYTES_MAX: usize = 20 * 1024;

/// The most bytes of an error's text that are kept.
const ERROR_BYTES_MAX: usize = 1024;

/// What came of a delivery attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it counts as.
    pub class: OutcomeClass,
    /// The status of the answer, if there was one.
    pub http_status: Option<u16>,
    /// What went wrong, without secrets.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub response_excerpt: Option<String>,
    /// How long the receiver asks to be left alone: `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// A failure without an answer.
    #[must_use]
    pub fn failure(class: OutcomeClass, error: &str) -> Self {
        let error = Some(text(error, ERROR_BYTES_MAX));
        Self { class, http_status: None, error, response_excerpt: None, retry_after: None }
    }

    /// An answer: its status decides, whatever became of its body, since by then the receiver has the callback.
    #[must_use]
    pub fn answer(status: u16, body: &[u8], error: Option<&str>, retry_after: Option<Duration>) -> Self {
        Self {
            class: of_status(status),
            http_status: Some(status),
            error: error.map(|error| text(error, ERROR_BYTES_MAX)),
            response_excerpt: (!body.is_empty()).then(|| excerpt(body)),
            retry_after,
        }
    }

    /// Whether the receiver has it.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.class == OutcomeClass::Delivered
    }

    /// Whether the receiver is away or overwhelmed, so that others had better not go there now.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        use OutcomeClass::{BadAnswer, ConnectFailed, DnsFailed, HttpStatus, Timeout, TlsFailed};
        match self.class {
            Timeout | ConnectFailed | TlsFailed | DnsFailed | BadAnswer => true,
            HttpStatus => matches!(self.http_status, Some(429 | 502 | 503 | 504)),
            _ => false,
        }
    }
}

/// What an answer with this status counts as.
#[must_use]
pub fn of_status(status: u16) -> OutcomeClass {
    match status {
        200..=299 => OutcomeClass::Delivered,
        300..=399 => OutcomeClass::Redirect,
        410 => OutcomeClass::Gone,
        _ => OutcomeClass::HttpStatus,
    }
}

/// What a request that got no answer counts as.
#[must_use]
pub fn of_error(error: &reqwest::Error) -> OutcomeClass {
    if let Some(refusal) = EgressError::of(error) {
        return of_refusal(refusal);
    }
    if error.is_timeout() {
        OutcomeClass::Timeout
    } else if error.is_builder() {
        OutcomeClass::BadUrl
    } else if causes(error).any(is_tls) {
        OutcomeClass::TlsFailed
    } else if error.is_connect() {
        OutcomeClass::ConnectFailed
    } else {
        OutcomeClass::BadAnswer
    }
}

/// What a request counts as that the guard on outgoing requests did not let go.
#[must_use]
pub fn of_refusal(refusal: &EgressError) -> OutcomeClass {
    match refusal {
        EgressError::Scheme(_) | EgressError::NoHost => OutcomeClass::BadUrl,
        EgressError::InternalName(_) | EgressError::NotPublic { .. } | EgressError::Mixed { .. } => {
            OutcomeClass::RefusedAddress
        }
        EgressError::Unresolved { .. } => OutcomeClass::DnsFailed,
    }
}

/// The beginning of an answer's body as text that any database stores.
#[must_use]
pub fn excerpt(body: &[u8]) -> String {
    let body = &body[..body.len().min(EXCERPT_BYTES_MAX)];
    text(&String::from_utf8_lossy(body), EXCERPT_BYTES_MAX)
}

/// PostgreSQL stores every character but U+0000.
fn text(text: &str, bytes_max: usize) -> String {
    let text = text.replace('\0', "\u{fffd}");
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether this is the TLS library's own error, or an I/O error around one, which `source` does not show.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_tls(inner))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_2xx_is_success_and_3xx_is_a_redirect() {
        let classes = [100, 199, 200, 204, 299, 300, 308, 399, 400, 410, 500, 599].map(of_status);
        use OutcomeClass::{Delivered as D, Gone as G, HttpStatus as H, Redirect as R};
        assert_eq!(classes, [H, H, D, D, D, R, R, R, H, G, H, H]);
    }

    #[test]
    fn a_body_that_broke_off_does_not_undo_a_2xx() {
        let outcome = Outcome::answer(200, b"ha", Some("the answer broke off"), None);
        assert!(outcome.is_success());
        assert_eq!(outcome.error.as_deref(), Some("the answer broke off"));
        assert_eq!(outcome.response_excerpt.as_deref(), Some("ha"));
    }

    #[test]
    fn a_refusal_is_classified_by_what_was_refused() {
        let unresolved = EgressError::Unresolved { host: "a".into(), reason: "b".into() };
        assert_eq!(of_refusal(&unresolved), OutcomeClass::DnsFailed);
        assert_eq!(of_refusal(&EgressError::Scheme("ftp".into())), OutcomeClass::BadUrl);
        assert_eq!(of_refusal(&EgressError::InternalName("localhost".into())), OutcomeClass::RefusedAddress);
    }

    proptest! {
        #[test]
        fn an_excerpt_of_any_bytes_is_short_text_without_nul(body in proptest::collection::vec(any::<u8>(), 0..30_000)) {
            let excerpt = excerpt(&body);
            prop_assert!(excerpt.len() <= EXCERPT_BYTES_MAX && !excerpt.contains('\0'));
        }
    }
}

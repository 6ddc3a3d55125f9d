//! Links to whole logs, for callbacks that carry only the beginning of one.
//!
//! A link is signed and does not expire: it is valid as long as the log is kept. The registry serves it on its public
//! listener.

use model::id::RunId;
use service_kit::secrets::KeyRing;
use service_kit::signed_link;
use url::Url;

/// Makes links.
pub struct LogLinks(Option<(Url, KeyRing)>);

impl LogLinks {
    /// Links of an API that clients reach at `public_url`; without that, none can be made.
    #[must_use]
    pub fn new(public_url: Option<Url>, keys: KeyRing) -> Self {
        Self(public_url.map(|url| (url, keys)))
    }

    /// Makes none.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Where the whole log of a run is.
    #[must_use]
    pub fn of_log(&self, organisation: &str, run: RunId) -> Option<String> {
        let (base, keys) = self.0.as_ref()?;
        let mut url = base.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend([
            "api",
            "callbacks",
            "orgs",
            organisation,
            "logs",
            &run.to_string(),
            "",
        ]);
        url.query_pairs_mut().append_pair("signature", &signed_link::sign(keys, organisation, run.0));
        Some(url.into())
    }
}

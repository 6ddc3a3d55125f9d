//! Opening callback secrets, and not being ready while a key for one is missing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use service_kit::admin::Condition;
use service_kit::secrets::{KeyRing, OpenError, Secret};

use crate::lanes::Lane;
use crate::store::Target;

/// Whose secret it is, and which, as it was sealed for.
fn sealed_for(lane: &Lane) -> (String, &'static str) {
    match lane {
        Lane::Endpoint(agent_id) => (format!("agent:{agent_id}"), "callback_secret"),
        Lane::Alerts(organisation) => (format!("organisation:{organisation}"), "alert_secret"),
    }
}

/// The secrets of one delivery attempt.
#[derive(Debug)]
pub(crate) struct Opened {
    /// None: nothing is signed.
    pub(crate) current: Option<Secret<Vec<u8>>>,
    /// After a rotation, while its grace lasts.
    pub(crate) previous: Option<Secret<Vec<u8>>>,
}

impl Opened {
    /// The one secret of what can carry only one: the old one until the grace ends.
    pub(crate) fn sole(&self) -> Option<&[u8]> {
        self.previous.as_ref().or(self.current.as_ref()).map(|secret| secret.expose().as_slice())
    }

    /// All that are valid, the present one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        [&self.current, &self.previous].into_iter().flatten().map(|secret| secret.expose().as_slice())
    }
}

/// The key ring, and whose secrets were sealed with a key that it does not hold.
pub(crate) struct Secrets {
    keys: KeyRing,
    condition: Condition,
    locked: Mutex<BTreeSet<String>>,
}

impl Secrets {
    /// The keys that open them.
    pub(crate) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    pub(crate) fn new(keys: KeyRing, condition: Condition) -> Self {
        condition.met();
        Self { keys, condition, locked: Mutex::default() }
    }

    /// Opens the secrets of a delivery's target that are valid now.
    ///
    /// # Errors
    ///
    /// [`OpenError::UnknownKey`] is nobody's fault: this microservice is not ready until the key is there, or the
    /// target has another secret.
    pub(crate) fn open(&self, lane: &Lane, target: &Target, now: DateTime<Utc>) -> Result<Opened, OpenError> {
        let (owner, field) = sealed_for(lane);
        let open = |sealed: &[u8]| {
            if sealed.is_empty() { Ok(None) } else { self.keys.open(sealed, &owner, field).map(Some) }
        };
        let previous = target.previous_secret.as_ref().filter(|(_, until)| **until > now);
        let opened = open(&target.sealed_secret).and_then(|current| {
            let previous = previous.map_or(Ok(None), |(sealed, _)| open(sealed))?;
            Ok(Opened { current, previous })
        });
        match opened {
            Err(OpenError::UnknownKey(key)) => {
                self.locked().insert(owner);
                self.condition.unmet(format!("a callback secret is sealed with key `{key}`: add it to `secrets.keys`"));
                Err(OpenError::UnknownKey(key))
            }
            opened => {
                self.forget([lane]);
                opened
            }
        }
    }

    /// The secrets of these are others now, or there are none.
    pub(crate) fn forget<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>) {
        let mut locked = self.locked();
        if locked.is_empty() {
            return;
        }
        for lane in lanes {
            locked.remove(&sealed_for(lane).0);
        }
        if locked.is_empty() {
            self.condition.met();
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

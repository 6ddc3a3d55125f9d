//! Opening callback secrets, and not being ready while a key for one is missing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use service_kit::admin::Condition;
use service_kit::secrets::{KeyRing, OpenError, Secret};

use crate::lanes::Lane;
use crate::store::Target;

/// How long until a delivery is looked at again whose secret needs a key that is missing.
pub(crate) const KEY_WAIT: TimeDelta = TimeDelta::seconds(10);
/// How long a key counts as missing after a delivery needed it last: several times [`KEY_WAIT`].
const MISSING_FOR: TimeDelta = TimeDelta::seconds(60);

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

/// The key ring, and whose secrets were sealed with a key that it does not hold, each with when it was last needed.
pub(crate) struct Secrets {
    keys: KeyRing,
    condition: Condition,
    locked: Mutex<BTreeMap<String, DateTime<Utc>>>,
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
                self.locked().insert(owner, now);
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

    /// Forgets whose secrets no delivery has needed for long: that they are others now may have come to another replica.
    pub(crate) fn forget_old(&self, now: DateTime<Utc>) {
        let mut locked = self.locked();
        if locked.is_empty() {
            return;
        }
        locked.retain(|_, needed_at| now - *needed_at < MISSING_FOR);
        if locked.is_empty() {
            self.condition.met();
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, DateTime<Utc>>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::admin::Readiness;
    use service_kit::config::SecretsConfig;

    use super::*;

    fn keys(keys: &str) -> KeyRing {
        KeyRing::parse(&SecretsConfig { keys: keys.to_owned().into() }).unwrap()
    }

    #[test]
    fn a_key_that_no_delivery_has_needed_for_long_is_not_missing() {
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        let other = keys("k2:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        let target = Target {
            url: "https://a.example/".into(),
            sealed_secret: other.seal(b"s", "agent:7", "callback_secret").unwrap(),
            previous_secret: None,
            encrypt: false,
            signature_only_hub: false,
        };
        let readiness = Readiness::new();
        let own = keys("k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let secrets = Secrets::new(own, readiness.condition("keys"));
        for needed_at in [noon, noon + KEY_WAIT] {
            secrets.open(&Lane::Endpoint(7), &target, needed_at).unwrap_err();
        }
        secrets.forget_old(noon + MISSING_FOR);
        assert!(!readiness.is_ready());
        secrets.forget_old(noon + KEY_WAIT + MISSING_FOR);
        assert!(readiness.is_ready());
    }
}

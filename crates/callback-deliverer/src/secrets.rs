//! Opening callback secrets, and not being ready while a key for one is missing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use service_kit::admin::Condition;
use service_kit::secrets::{KeyRing, OpenError, Secret};

/// What a callback secret is sealed for, beside its agent.
pub(crate) const FIELD: &str = "callback_secret";

/// Whose callback secret it is, as it was sealed for.
#[must_use]
pub(crate) fn owner(agent_id: i64) -> String {
    format!("agent:{agent_id}")
}

/// The key ring, and the agents whose secret was sealed with a key that it does not hold.
pub(crate) struct Secrets {
    keys: KeyRing,
    condition: Condition,
    locked: Mutex<BTreeSet<i64>>,
}

impl Secrets {
    pub(crate) fn new(keys: KeyRing, condition: Condition) -> Self {
        condition.met();
        Self { keys, condition, locked: Mutex::default() }
    }

    /// Opens an agent's callback secret; none if it has none.
    ///
    /// # Errors
    ///
    /// [`OpenError::UnknownKey`] is nobody's fault: this microservice is not ready until the key is there, or the
    /// agent has another secret.
    pub(crate) fn open(&self, agent_id: i64, sealed: &[u8]) -> Result<Option<Secret<Vec<u8>>>, OpenError> {
        if sealed.is_empty() {
            self.forget([agent_id]);
            return Ok(None);
        }
        match self.keys.open(sealed, &owner(agent_id), FIELD) {
            Err(OpenError::UnknownKey(key)) => {
                self.locked().insert(agent_id);
                self.condition.unmet(format!("a callback secret is sealed with key `{key}`: add it to `secrets.keys`"));
                Err(OpenError::UnknownKey(key))
            }
            opened => {
                self.forget([agent_id]);
                opened.map(Some)
            }
        }
    }

    /// These agents' secrets are others now, or there are none.
    pub(crate) fn forget(&self, agents: impl IntoIterator<Item = i64>) {
        let mut locked = self.locked();
        if locked.is_empty() {
            return;
        }
        for agent_id in agents {
            locked.remove(&agent_id);
        }
        if locked.is_empty() {
            self.condition.met();
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

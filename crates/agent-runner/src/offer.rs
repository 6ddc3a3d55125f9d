//! Which services a run is offered: those of the groups that its mentor names, as the service registry says.

use std::sync::Arc;

use uuid::Uuid;

use crate::ask::{Asker, Prepared};
use crate::services::lookup::{Key, SERVICE_REGISTRY};
use crate::services::{Caller, Services, Tally};

impl Asker {
    /// What the model may call. Without the service registry, nothing: a log line, and no failed run.
    pub(crate) async fn offer(&self, kind: &str, prepared: &Prepared, tally: &Arc<Tally>) -> Services {
        let Prepared { provider, question, session, groups } = prepared;
        if groups.is_empty() {
            return Services::default();
        }
        if !provider.calls_services() {
            question.log.line(format_args!("no services are offered: a mentor of kind `{kind}` cannot call them"));
            return Services::default();
        }
        let key = Key {
            organisation: session.organisation.clone(),
            username: session.username.clone(),
            groups: groups.iter().filter_map(|group| Uuid::parse_str(group).ok()).collect(),
        };
        let found = match self.sessions.mint(session, SERVICE_REGISTRY, self.clock.now()) {
            Ok(token) => self.lookup.callable(key, &token).await,
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) => {
                let caller = Caller::new(Arc::clone(&self.calls), session.clone(), question.trace.clone());
                let services = Services::offer(&found, caller, Arc::clone(tally), question.log.clone());
                question.log.line(services.described());
                services
            }
            Err(reason) => {
                question.log.line(format_args!("no services are offered: the service registry is away ({reason})"));
                Services::default()
            }
        }
    }
}

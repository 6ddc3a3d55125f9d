//! What every part of the registry works with.

use std::sync::Arc;

use bus::Bus;
use service_kit::auth::TokenVerifier;
use service_kit::clock::Clock;
use service_kit::database::Db;
use service_kit::egress::Guard;
use service_kit::secrets::KeyRing;
use tokio::sync::Notify;

use crate::access::keys::RecentKeys;
use crate::access::limits::RequestLimits;
use crate::access::roles::SeenRoles;
use crate::broom::Broom;
use crate::config::Config;
use crate::creations::Creations;
use crate::deliverer::Deliverer;
use crate::dispatcher::Dispatcher;
use crate::outbox::Outbox;

/// The name in tokens, events and metrics.
pub(crate) const NAME: &str = "agent-registry";

/// What every part of the registry works with.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) jwks: serde_json::Value,
    pub(crate) db: Db,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Clock,
    pub(crate) keys: KeyRing,
    pub(crate) tokens: TokenVerifier,
    pub(crate) recent_keys: RecentKeys,
    pub(crate) request_limits: RequestLimits,
    pub(crate) seen_roles: SeenRoles,
    pub(crate) egress: Guard,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) deliverer: Deliverer,
    pub(crate) outbox: Outbox,
    pub(crate) creations: Creations,
    pub(crate) broom: Broom,
    /// Runs were recorded, or agents came or went.
    pub(crate) counted: Notify,
}

/// Whom a sealed callback secret belongs to, as the deliverer opens it.
pub(crate) fn callback_secret_owner(agent_id: i64) -> (String, &'static str) {
    (format!("agent:{agent_id}"), "callback_secret")
}

/// Whom a sealed API key belongs to, as the runner opens it.
pub(crate) fn api_key_owner(mentor_id: i64) -> (String, &'static str) {
    (format!("mentor:{mentor_id}"), "api_key")
}

/// Whom the sealed secret of an organisation's warnings belongs to, as the deliverer opens it.
pub(crate) fn alert_secret_owner(organisation: &str) -> (String, &'static str) {
    (format!("organisation:{organisation}"), "alert_secret")
}

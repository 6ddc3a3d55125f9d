//! What the registry asks of the dispatcher over internal HTTP.

use chrono::{DateTime, Utc};

use crate::document::Document;
use crate::id::AgentId;
use crate::run::Tick;

/// `POST /internal/runs`: trigger now.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerRequest {
    /// The agent's documents as the registry has them, so that a client's own edit is always known.
    pub documents: Vec<Document>,
    /// Which agent.
    pub agent_id: AgentId,
    /// Instead of the agent's own prompt.
    pub prompt: Option<String>,
    /// The moment that the run is about; none: now.
    pub nominal_time: Option<DateTime<Utc>>,
    /// Asked again with the same key within a day, it is answered with the same run; empty: each asking is a run.
    pub idempotency_key: String,
}

/// `GET /internal/agents/{id}/ticks`: one page, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickPage {
    /// Rows in all.
    pub count: i64,
    /// The rows of this page.
    pub ticks: Vec<Tick>,
}

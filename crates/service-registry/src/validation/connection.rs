//! What a request says about a connection.

use serde_json::Value;
use uuid::Uuid;

use super::fields::{Faults, Fields};
use crate::refusal::Refusal;

/// A service and a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ConnectionInput {
    pub(crate) service: Uuid,
    pub(crate) group: Uuid,
}

impl ConnectionInput {
    /// Reads `POST /services/service-sg/`.
    pub(crate) fn read(body: &Value) -> Result<Self, Refusal> {
        let faults = Faults::default();
        let input = Fields::of_body(body, &faults).map(|fields| Self {
            service: fields.uuid("service").unwrap_or_default(),
            group: fields.uuid("serviceGroup").unwrap_or_default(),
        });
        faults.into_result()?;
        Ok(input.unwrap_or_default())
    }
}

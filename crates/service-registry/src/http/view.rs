//! Services and groups as clients see them: the keys of the original, in its order.

use serde::Serialize;
use serde_json::Number;
use service_kit::database::Timestamp;
use service_kit::error::ApiError;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::refusal::Refusal;
use crate::store::groups::GroupRow;
use crate::store::numbers::Numbers;
use crate::store::services::{ServiceRow, SummaryRow};
use crate::validation::service::Field;

/// A whole service.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Service)]
pub(super) struct ServiceView {
    uuid: Uuid,
    agent: String,
    name: String,
    description: String,
    category: Option<String>,
    location: Option<String>,
    #[serde(rename = "protocolDigest")]
    protocol_digest: String,
    #[serde(rename = "modelDigest")]
    model_digest: String,
    #[serde(rename = "modelName")]
    model_name: String,
    fields: Vec<Field>,
    #[serde(rename = "taskType")]
    task_type: String,
    created_at: String,
    updated_at: String,
    /// Successful calls by runs since it was registered.
    num_conversions: i64,
    /// Successful calls by runs over the runs that it was offered to, in the last day: from 0 to 1, and 0 where it was
    /// offered to none. A run that is tried again counts again; the day begins at the full hour.
    #[schema(value_type = f64)]
    conversion_rate: Number,
    /// The share of probes and of calls that succeeded in the last day, from 0 to 1, and 0 where there was none. The
    /// endpoint is probed about every minute; while it fails less often, and then a probe counts as one for each minute.
    #[schema(value_type = f64)]
    uptime: Number,
    /// Ours; what follows the original's keys hurts none of its clients.
    endpoint: Option<String>,
}

/// Nothing is a whole number, as in the original's samples.
fn rate(share: f64) -> Number {
    Number::from_f64(share).filter(|_| share > 0.0).unwrap_or_else(|| 0.into())
}

impl TryFrom<(ServiceRow, Numbers)> for ServiceView {
    type Error = Refusal;

    fn try_from((row, numbers): (ServiceRow, Numbers)) -> Result<Self, Refusal> {
        // From the database, keys come in no particular order.
        let fields = serde_json::from_value(row.fields.into()).map_err(|error| ApiError::internal(&error))?;
        Ok(Self {
            uuid: row.id.into(),
            agent: row.agent,
            name: row.name,
            description: row.description,
            category: row.category,
            location: row.location,
            protocol_digest: row.protocol_digest,
            model_digest: row.model_digest,
            model_name: row.model_name,
            fields,
            task_type: row.task_type,
            created_at: render(row.created_at),
            updated_at: render(row.updated_at),
            num_conversions: numbers.conversions,
            conversion_rate: rate(numbers.conversion_rate()),
            uptime: rate(numbers.uptime()),
            endpoint: row.endpoint,
        })
    }
}

/// A service in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceSummary)]
pub(super) struct SummaryView {
    uuid: Uuid,
    agent: String,
    name: String,
    description: String,
    created_at: String,
    updated_at: String,
}

impl From<SummaryRow> for SummaryView {
    fn from(row: SummaryRow) -> Self {
        Self {
            uuid: row.id.into(),
            agent: row.agent,
            name: row.name,
            description: row.description,
            created_at: render(row.created_at),
            updated_at: render(row.updated_at),
        }
    }
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceGroup)]
pub(super) struct GroupView {
    uuid: Uuid,
    name: String,
    #[serde(rename = "isPrivate")]
    is_private: bool,
}

impl From<GroupRow> for GroupView {
    fn from(row: GroupRow) -> Self {
        Self { uuid: row.id.into(), name: row.name, is_private: row.is_private }
    }
}

/// The moment in UTC, to the second, without a zone.
fn render(time: Timestamp) -> String {
    time.format("%Y-%m-%dT%H:%M:%S").to_string()
}

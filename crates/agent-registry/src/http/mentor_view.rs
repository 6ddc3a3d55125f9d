//! A mentor as the API shows it.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::documents::own_provider;
use crate::store::mentors::MentorRow;
use crate::validation::mentor::ProviderSettings;
use crate::validation::time::render;

/// A mentor; what clients of the original need to find is there, if only empty.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Mentor)]
pub(super) struct MentorView {
    id: i64,
    unique_id: Uuid,
    name: String,
    slug: String,
    display_name: String,
    description: String,
    platform: String,
    #[schema(value_type = Option<Object>)]
    flow: Option<Value>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    allow_anonymous: bool,
    #[schema(value_type = Vec<i64>)]
    categories: [Value; 0],
    #[schema(value_type = Vec<i64>)]
    types: [Value; 0],
    #[schema(value_type = Vec<i64>)]
    subjects: [Value; 0],
    #[schema(value_type = Vec<i64>)]
    mcp_servers: [Value; 0],
    system_prompt: String,
    llm_provider: String,
    llm_name: String,
    llm_temperature: Option<f64>,
    provider: Option<ProviderView>,
    #[schema(value_type = Vec<Uuid>)]
    service_groups: Value,
    created_by: String,
    created_at: String,
    updated_at: String,
}

/// How a mentor is asked, without the API key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
struct ProviderView {
    #[serde(flatten)]
    settings: ProviderSettings,
    api_key_set: bool,
}

impl From<MentorRow> for MentorView {
    fn from(row: MentorRow) -> Self {
        let provider =
            own_provider(&row).map(|settings| ProviderView { settings, api_key_set: row.sealed_api_key.is_some() });
        Self {
            id: row.id,
            unique_id: row.unique_id.into(),
            name: row.name,
            slug: row.slug,
            display_name: row.display_name,
            description: row.description,
            platform: row.organisation,
            flow: None,
            metadata: row.metadata.map(Value::from),
            allow_anonymous: false,
            categories: [],
            types: [],
            subjects: [],
            mcp_servers: [],
            system_prompt: row.system_prompt,
            llm_provider: row.llm_provider,
            llm_name: row.llm_name,
            llm_temperature: row.llm_temperature,
            provider,
            service_groups: row.service_groups.into(),
            created_by: row.created_by,
            created_at: render(row.created_at.into()),
            updated_at: render(row.updated_at.into()),
        }
    }
}

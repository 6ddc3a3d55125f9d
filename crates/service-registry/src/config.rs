//! What the registry is configured with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_kit::config::comma_list;
use uuid::Uuid;

/// `[services]`: what everyone may see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Public groups that every organisation sees, by id. Any other public group is seen by its own organisation only.
    #[serde(with = "comma_list")]
    #[schemars(with = "Vec<String>")]
    pub published_groups: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_groups_can_stand_in_one_variable() {
        let id = "5e7a6a0b-1c11-4a53-8f2c-111111111111";
        let config: Config = serde_json::from_value(serde_json::json!({ "published_groups": id })).unwrap();
        assert_eq!(config.published_groups, [id.parse::<Uuid>().unwrap()]);
    }

    #[test]
    fn what_is_no_id_and_what_is_no_setting_are_named() {
        let refused = |json: &str| serde_json::from_str::<Config>(json).unwrap_err().to_string();
        assert!(refused(r#"{"published_groups": "fetch-verified"}"#).contains("fetch-verified"));
        assert!(refused(r#"{"publish": []}"#).contains("publish"));
    }
}

//! What a request says about a group.

use serde_json::Value;

use super::fields::{Faults, Fields, Length};
use crate::refusal::Refusal;

/// The fields of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupInput {
    pub(crate) name: String,
    pub(crate) is_private: bool,
}

impl GroupInput {
    /// Reads the body of a create or an update.
    pub(crate) fn read(body: &Value) -> Result<Self, Refusal> {
        let faults = Faults::default();
        let input = Fields::of_body(body, &faults).map(|fields| Self {
            name: fields.text("name", Length::filled(255)).unwrap_or_default().to_owned(),
            is_private: fields.boolean("isPrivate").unwrap_or_default(),
        });
        faults.into_result()?;
        Ok(input.unwrap_or_default())
    }
}

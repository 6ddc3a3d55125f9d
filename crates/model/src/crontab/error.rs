//! What is wrong with a crontab, field by field.

use std::fmt;

use super::CrontabField;

/// One thing that is wrong with a crontab.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CrontabError {
    /// The bad field; none when each field is good but their combination can never fire.
    pub field: Option<CrontabField>,
    /// What is wrong, quoting the offending part: a sentence for the owner of the crontab.
    pub reason: String,
}

impl fmt::Display for CrontabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Everything that is wrong with a crontab, in the order of its fields; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CrontabErrors(pub Vec<CrontabError>);

impl fmt::Display for CrontabErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

//! Reads requests the way the original API does: its messages, its leniencies, all faults of a request at once.
//!
//! Nothing here knows the database; what needs it is looked up by whoever applies what was read.

pub(crate) mod agent;
pub(crate) mod api_key;
pub(crate) mod duration;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod mentor;
pub(crate) mod number;
pub(crate) mod organisation;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod reference;
pub(crate) mod time;
pub(crate) mod url;

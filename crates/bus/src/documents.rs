//! The documents of a message, as their receivers read them.

use model::document::Document;
use model::wire::{ReadDocuments, UnreadableDocument, WireError, read_documents};

use crate::Message;

/// The documents of a `document.changed` that can be read, and that `understood` does not refuse with a reason.
///
/// The others are logged and counted, and take no neighbour with them. Nobody says that they are held, so each is
/// announced again, alone and at growing intervals, until a version that understands it holds it.
///
/// # Errors
///
/// It is no such message.
pub fn documents_of(
    message: &Message,
    understood: impl Fn(&Document) -> Result<(), String>,
) -> Result<Vec<Document>, WireError> {
    let ReadDocuments { mut documents, unreadable } = read_documents(message.kind, &message.body)?;
    for UnreadableDocument { kind, key, version, error } in unreadable {
        tell(kind.as_str(), &key, version, &error.to_string());
    }
    documents.retain(|document| match understood(document) {
        Ok(()) => true,
        Err(reason) => {
            tell(document.kind().as_str(), &document.key(), document.version, &reason);
            false
        }
    });
    Ok(documents)
}

fn tell(kind: &'static str, key: &str, version: i64, reason: &str) {
    metrics::counter!("carillon_documents_unreadable_total", "kind" => kind).increment(1);
    tracing::warn!(
        document.kind = kind,
        document.key = key,
        document.version = version,
        reason,
        "a document cannot be read by this version, and is not held"
    );
}

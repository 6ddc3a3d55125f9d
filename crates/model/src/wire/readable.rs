//! `document.changed` document by document: what cannot be read takes no neighbour with it.

use super::generated as wire;
use super::generated::document::Subject;
use super::{Wire, WireError};
use crate::codec::decode_message;
use crate::document::{Document, DocumentKind};
use crate::event::{DocumentChanged, Event, EventKind};

/// The documents of one message.
#[derive(Debug, Default)]
pub struct ReadDocuments {
    /// Those that this version understands.
    pub documents: Vec<Document>,
    /// Those that it does not, as one with a time zone that only newer data has.
    pub unreadable: Vec<UnreadableDocument>,
}

/// A document that this version does not understand.
#[derive(Debug)]
pub struct UnreadableDocument {
    /// Its kind.
    pub kind: DocumentKind,
    /// Its key among those of its kind.
    pub key: String,
    /// Its version.
    pub version: i64,
    /// Why not.
    pub error: WireError,
}

/// Reads the documents of a message, each by itself. One of a kind that this version does not know is passed over.
///
/// # Errors
///
/// The message is of another kind, or its bytes are no such message.
pub fn read_documents(kind: EventKind, body: &[u8]) -> Result<ReadDocuments, WireError> {
    if kind != DocumentChanged::KIND {
        return Err(WireError::Unexpected(kind.as_str()));
    }
    let message: wire::DocumentChanged = decode_message(body)?;
    let mut read = ReadDocuments::default();
    for document in message.documents {
        let Some((kind, key)) = name_of(&document) else { continue };
        let version = document.version;
        match Document::from_message(document) {
            Ok(document) => read.documents.push(document),
            Err(error) => read.unreadable.push(UnreadableDocument { kind, key, version, error }),
        }
    }
    Ok(read)
}

fn name_of(document: &wire::Document) -> Option<(DocumentKind, String)> {
    Some(match document.subject.as_ref()? {
        Subject::OrganisationSettings(_) => (DocumentKind::Organisation, document.organisation.clone()),
        Subject::Mentor(mentor) => (DocumentKind::Mentor, mentor.id.to_string()),
        Subject::Agent(agent) => (DocumentKind::Agent, agent.id.to_string()),
    })
}

//! API keys: made, hashed, looked up.
//!
//! A key is 256 random bits, written as 64 hexadecimal digits, shown once. Its SHA-256 is stored: a password needs a
//! slow and salted hash because it can be guessed, and 256 random bits cannot. It is found by that hash; who measures
//! how long the search takes learns about hashes, which tell nothing about keys, so no comparison needs constant time.

use aws_lc_rs::digest::{SHA256, digest};
use service_kit::auth::AuthError;
use service_kit::error::ApiError;
use service_kit::secrets::Secret;

use super::recent::Recent;
use crate::state::State;
use crate::store::api_keys::{self, ApiKeyRow};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Keys that were used a moment ago, by hash.
pub(crate) type RecentKeys = Recent<Vec<u8>, ApiKeyRow>;

/// A new key, and what is stored of it.
pub(crate) fn make() -> Result<(Secret<String>, Vec<u8>), ApiError> {
    let mut bytes = [0_u8; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| ApiError::internal(&error))?;
    Ok((Secret::new(hex::encode(bytes)), hash(&bytes)))
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// The key that a request shows, if it exists and has not expired.
pub(super) async fn look_up(state: &State, key: &Secret<String>) -> Result<ApiKeyRow, ApiError> {
    let mut bytes = [0_u8; KEY_BYTES];
    let invalid = |reason: &str| ApiError::from(AuthError::Invalid(reason.to_owned()));
    hex::decode_to_slice(key.expose(), &mut bytes).map_err(|_| invalid("neither a token nor an API key"))?;
    let hash = hash(&bytes);
    let now = state.clock.now();
    let row = match state.recent_keys.get(&hash, now) {
        Ok(row) => row,
        Err(asked) => {
            let wanted = hash.clone();
            let found = state.db.read(move |conn| Ok::<_, ApiError>(api_keys::find(conn, &wanted)?)).await?;
            let row = found.ok_or_else(|| invalid("no such API key"))?;
            state.recent_keys.put(asked, hash, row.clone(), now);
            row
        }
    };
    match row.expires_at {
        Some(at) if *at <= now => Err(invalid("the API key has expired")),
        _ => Ok(row),
    }
}

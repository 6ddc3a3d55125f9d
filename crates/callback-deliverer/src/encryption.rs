//! Encrypted payloads: JWE in its compact form (RFC 7516), `dir` with `A256GCM`.
//!
//! The key is made of the callback secret by HKDF-SHA256 (RFC 5869), without salt and with the info [`KEY_INFO`]. Which
//! secret that was is told by `kid`: sixteen hexadecimal digits of the same HKDF with the info [`KEY_ID_INFO`].

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// HKDF's info of the key.
pub const KEY_INFO: &[u8] = b"carillon callback encryption";
/// HKDF's info of the key's name.
pub const KEY_ID_INFO: &[u8] = b"carillon callback key id";
/// The content type of an encrypted body.
pub const CONTENT_TYPE: &str = "application/jose";

const KEY_ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// The cryptography library refused: out of randomness or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload cannot be encrypted")]
pub struct EncryptError;

/// Encrypts a body with the key made of a secret, with a fresh initialisation vector each time.
///
/// # Errors
///
/// Only if the cryptography library fails.
pub fn encrypt(secret: &[u8], body: &[u8]) -> Result<String, EncryptError> {
    let header = format!(r#"{{"alg":"dir","enc":"A256GCM","kid":"{}","cty":"application/json"}}"#, key_id(secret)?);
    let header = URL_SAFE_NO_PAD.encode(header);
    let key = RandomizedNonceKey::new(&AES_256_GCM, &derive::<32>(secret, KEY_INFO)?).map_err(|_| EncryptError)?;
    let mut text = body.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(header.as_bytes()), &mut text).map_err(|_| EncryptError)?;
    let (text, tag) = text.split_at(text.len() - TAG_BYTES);
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    // With `dir` the second part, the encrypted key, is empty.
    Ok(format!("{header}..{}.{}.{}", part(nonce.as_ref()), part(text), part(tag)))
}

/// The name of the key that a secret makes; it tells nothing of the secret.
///
/// # Errors
///
/// Only if the cryptography library fails.
pub fn key_id(secret: &[u8]) -> Result<String, EncryptError> {
    Ok(hex::encode(derive::<KEY_ID_BYTES>(secret, KEY_ID_INFO)?))
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(secret: &[u8], info: &[u8]) -> Result<[u8; N], EncryptError> {
    let mut derived = [0; N];
    let extracted = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let info = [info];
    let expanded = extracted.expand(&info, Length(N)).map_err(|_| EncryptError)?;
    expanded.fill(&mut derived).map_err(|_| EncryptError)?;
    Ok(derived)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::Nonce;

    use super::*;

    /// As a receiver does it; others' libraries do it in `make test-receivers`.
    fn decrypt(secret: &[u8], jwe: &str) -> Option<Vec<u8>> {
        let parts: Vec<&str> = jwe.split('.').collect();
        let [header, "", iv, text, tag] = parts[..] else { return None };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let key = RandomizedNonceKey::new(&AES_256_GCM, &derive::<32>(secret, KEY_INFO).unwrap()).unwrap();
        let nonce = Nonce::try_assume_unique_for_key(&bytes(iv)).unwrap();
        let mut sealed = [bytes(text), bytes(tag)].concat();
        key.open_in_place(nonce, Aad::from(header.as_bytes()), &mut sealed).ok().map(|plain| plain.to_vec())
    }

    #[test]
    fn what_is_encrypted_opens_with_the_same_secret_alone_and_looks_different_each_time() {
        let (once, again) = (encrypt(b"s3cret", b"{\"a\":1}").unwrap(), encrypt(b"s3cret", b"{\"a\":1}").unwrap());
        assert_ne!(once, again);
        assert_eq!(decrypt(b"s3cret", &once).unwrap(), b"{\"a\":1}");
        assert_eq!(decrypt(b"another", &once), None);
    }

    #[test]
    fn the_header_names_the_key_and_not_the_secret() {
        let jwe = encrypt(b"s3cret", b"{}").unwrap();
        let header = URL_SAFE_NO_PAD.decode(jwe.split('.').next().unwrap()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["alg"], &header["enc"]), (&"dir".into(), &"A256GCM".into()));
        assert_eq!(header["kid"], key_id(b"s3cret").unwrap());
        assert_ne!(key_id(b"s3cret").unwrap(), key_id(b"s3cret2").unwrap());
    }
}

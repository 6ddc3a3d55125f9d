//! Sealing secrets at rest: AES-256-GCM, with the key's name in the envelope.
//!
//! An envelope is one version byte, one byte with the length of the key's id, the id, twelve bytes of nonce, then the
//! ciphertext with its tag. What the secret belongs to is authenticated with it, so that a sealed value copied to
//! another row opens there no more.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::Secret;
use crate::config::{ConfigError, SecretsConfig};

/// The layout described above.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
/// Keeps derived keys apart from whatever else is derived from such keys elsewhere.
const DERIVED_SALT: &[u8] = b"carillon key ring";
const SETTING: &str = "secrets.keys";

/// Tools print keys with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys in force: the first seals, all open. Clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<[NamedKey]>);

struct NamedKey {
    id: String,
    key: RandomizedNonceKey,
    /// What other keys are derived from.
    root: Prk,
}

/// Why a sealed value did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed with a key that this ring does not hold: an outage, not a fault of the value.
    #[error("sealed with key `{0}`, which is not among `secrets.keys`: add it")]
    UnknownKey(String),
    /// Changed since it was sealed, sealed for something else, or no sealed value at all.
    #[error("the sealed value is damaged, or belongs to something else")]
    Damaged,
}

/// The cryptography library refused to seal: out of randomness or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot seal a secret")]
pub struct SealError;

impl KeyRing {
    /// Reads `id:key,id:key`.
    ///
    /// # Errors
    ///
    /// No key at all, an id twice, or a key that is not 32 bytes in base64. The error shows ids only.
    pub fn parse(config: &SecretsConfig) -> Result<Self, ConfigError> {
        let mut keys: Vec<NamedKey> = Vec::new();
        for item in config.keys.expose().split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let key = NamedKey::parse(item)?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(ConfigError::setting(SETTING, format_args!("names the key `{}` twice", key.id)));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(ConfigError::setting(SETTING, "must be set: for example `k1:$(openssl rand -base64 32)`"));
        }
        Ok(Self(keys.into()))
    }

    /// Seals `plain` with the first key, for `field` of `owner` only.
    ///
    /// # Errors
    ///
    /// Only if the cryptography library fails.
    pub fn seal(&self, plain: &[u8], owner: &str, field: &str) -> Result<Vec<u8>, SealError> {
        let NamedKey { id, key, .. } = self.0.first().ok_or(SealError)?;
        let mut text = plain.to_vec();
        let context = Aad::from(context(owner, field));
        let nonce = key.seal_in_place_append_tag(context, &mut text).map_err(|_| SealError)?;

        let id_length = u8::try_from(id.len()).map_err(|_| SealError)?;
        let mut envelope = Vec::with_capacity(2 + id.len() + NONCE_LEN + text.len());
        envelope.extend([VERSION, id_length]);
        envelope.extend(id.as_bytes());
        envelope.extend(nonce.as_ref());
        envelope.extend(text);
        Ok(envelope)
    }

    /// Opens what was sealed for `field` of `owner`, with whichever key sealed it.
    ///
    /// # Errors
    ///
    /// [`OpenError::UnknownKey`] if that key is not here, [`OpenError::Damaged`] for everything else.
    pub fn open(&self, sealed: &[u8], owner: &str, field: &str) -> Result<Secret<Vec<u8>>, OpenError> {
        let (id, rest) = split_envelope(sealed).ok_or(OpenError::Damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Damaged)?;
        let key = self.0.iter().find(|key| key.id == id).ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;

        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
        let mut text = text.to_vec();
        let plain = key.key.open_in_place(nonce, Aad::from(context(owner, field)), &mut text);
        let length = plain.map_err(|_| OpenError::Damaged)?.len();
        text.truncate(length);
        Ok(Secret::new(text))
    }

    /// As [`open`](Self::open), for a secret that is text.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open); what is no text is damaged.
    pub fn open_text(&self, sealed: &[u8], owner: &str, field: &str) -> Result<Secret<String>, OpenError> {
        let plain = self.open(sealed, owner, field)?.into_inner();
        String::from_utf8(plain).map(Secret::new).map_err(|_| OpenError::Damaged)
    }

    /// For each key, the one that seals first, another key derived from it for `purpose` alone.
    pub fn derive(&self, purpose: &str) -> impl Iterator<Item = [u8; KEY_BYTES]> {
        self.0.iter().filter_map(|key| {
            let info = [purpose.as_bytes()];
            let mut derived = [0; KEY_BYTES];
            key.root.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(&mut derived)).ok()?;
            Some(derived)
        })
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn sealing_key(&self) -> &str {
        self.0.first().map_or("", |key| &key.id)
    }

    /// The ids of all keys, the one that seals first.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// The id of the key that a value was sealed with; `None` if it is no sealed value.
    #[must_use]
    pub fn key_of(sealed: &[u8]) -> Option<&str> {
        split_envelope(sealed).map(|(id, _)| id)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.key_ids()).finish()
    }
}

impl NamedKey {
    fn parse(item: &str) -> Result<Self, ConfigError> {
        let (id, key) = item
            .split_once(':')
            .ok_or_else(|| ConfigError::setting(SETTING, "must be `id:key`, one of its items has no colon"))?;
        if id.is_empty()
            || id.len() > 64
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            let problem = "must give each key an id of 1 to 64 letters, digits, `-`, `_` or `.`";
            return Err(ConfigError::setting(SETTING, problem));
        }
        let wrong =
            || ConfigError::setting(SETTING, format_args!("must hold {KEY_BYTES} bytes in base64 for key `{id}`"));
        let bytes = BASE64.decode(key).map_err(|_| wrong())?;
        if bytes.len() != KEY_BYTES {
            return Err(wrong());
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong())?;
        let root = Salt::new(HKDF_SHA256, DERIVED_SALT).extract(&bytes);
        Ok(Self { id: id.to_owned(), key, root })
    }
}

/// What is authenticated with a secret. The length in front keeps `("a", "bc")` and `("ab", "c")` apart.
fn context(owner: &str, field: &str) -> Vec<u8> {
    let mut context = (owner.len() as u64).to_be_bytes().to_vec();
    context.extend(owner.as_bytes());
    context.extend(field.as_bytes());
    context
}

/// The key's id and what follows it.
fn split_envelope(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let [VERSION, id_length, rest @ ..] = sealed else { return None };
    let (id, rest) = rest.split_at_checked(usize::from(*id_length))?;
    Some((std::str::from_utf8(id).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const K1: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const K2: &str = "k2:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

    fn ring(keys: &str) -> KeyRing {
        parse(keys).unwrap()
    }

    fn parse(keys: &str) -> Result<KeyRing, ConfigError> {
        KeyRing::parse(&SecretsConfig { keys: keys.to_owned().into() })
    }

    #[test]
    fn a_rotated_ring_opens_what_the_old_key_sealed_and_seals_with_the_new() {
        let old = ring(K1).seal(b"secret", "agent:7", "callback_secret").unwrap();
        let rotated = ring(&format!("{K2},{K1}"));
        assert_eq!(rotated.open(&old, "agent:7", "callback_secret").unwrap().expose(), b"secret");
        let new = rotated.seal(b"secret", "agent:7", "callback_secret").unwrap();
        assert_eq!((KeyRing::key_of(&old), KeyRing::key_of(&new)), (Some("k1"), Some("k2")));
        assert_eq!(rotated.sealing_key(), "k2");
    }

    #[test]
    fn an_unknown_key_is_told_apart_from_damage() {
        let sealed = ring(K2).seal(b"secret", "o", "f").unwrap();
        assert_eq!(ring(K1).open(&sealed, "o", "f").unwrap_err(), OpenError::UnknownKey("k2".to_owned()));
        assert_eq!(ring(K2).open(b"never sealed", "o", "f").unwrap_err(), OpenError::Damaged);
        assert_eq!(ring(K2).open(b"", "o", "f").unwrap_err(), OpenError::Damaged);
    }

    #[test]
    fn a_sealed_value_opens_for_its_own_owner_and_field_only() {
        let ring = ring(K1);
        let sealed = ring.seal(b"secret", "ab", "c").unwrap();
        for (owner, field) in [("a", "bc"), ("abc", ""), ("ab", "d"), ("", "abc")] {
            assert_eq!(ring.open(&sealed, owner, field).unwrap_err(), OpenError::Damaged);
        }
    }

    #[test]
    fn a_key_that_cannot_work_is_refused_without_being_shown() {
        for (keys, problem) in [
            ("", "must be set"),
            ("k1", "must be `id:key`"),
            ("k1:c2hvcnQ=", "32 bytes in base64 for key `k1`"),
            ("k 1:AAAA", "must give each key an id"),
            (&format!("{K1},{K1}"), "names the key `k1` twice"),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("c2hvcnQ"), "{error}");
        }
        assert_eq!(format!("{:?}", ring(&format!("{K1},{K2}"))), r#"["k1", "k2"]"#);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_a_changed_byte_does_not(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            owner in ".*", field in ".*", position in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let ring = ring(K1);
            let mut sealed = ring.seal(&plain, &owner, &field).unwrap();
            let opened = ring.open(&sealed, &owner, &field).unwrap().into_inner();
            prop_assert_eq!(&opened, &plain);
            let position = position.index(sealed.len());
            sealed[position] ^= flip;
            prop_assert!(ring.open(&sealed, &owner, &field).is_err());
        }
    }
}

//! Signed links to logs: whoever has one may read that log, and no other.
//!
//! The signature is an HMAC over organisation and log with a key that is derived from the key ring: the first key
//! signs, all verify, so that links outlive a rotation as long as the old key is kept.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign as hmac_sign, verify as hmac_verify};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secrets::KeyRing;

/// What the key of links is derived for.
const PURPOSE: &str = "carillon log links";

/// The signature of a link to this log of this organisation.
#[must_use]
pub fn sign(keys: &KeyRing, organisation: &str, log_id: i64) -> String {
    let key = keys.derive(PURPOSE).next().unwrap_or_default();
    URL_SAFE_NO_PAD.encode(hmac_sign(&Key::new(HMAC_SHA256, &key), &message(organisation, log_id)))
}

/// Whether a link to this log of this organisation was signed here; the comparison takes constant time.
#[must_use]
pub fn verify(keys: &KeyRing, organisation: &str, log_id: i64, signature: &str) -> bool {
    let Ok(tag) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let message = message(organisation, log_id);
    keys.derive(PURPOSE).any(|key| hmac_verify(&Key::new(HMAC_SHA256, &key), &message, &tag).is_ok())
}

/// The number comes first, so that no organisation's name can run into it.
fn message(organisation: &str, log_id: i64) -> Vec<u8> {
    format!("{log_id}:{organisation}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretsConfig;

    const K1: &str = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const K2: &str = "k2:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

    fn ring(keys: &str) -> KeyRing {
        KeyRing::parse(&SecretsConfig { keys: keys.to_owned().into() }).unwrap()
    }

    #[test]
    fn a_link_is_good_for_one_log_of_one_organisation() {
        let keys = ring(K1);
        let signature = sign(&keys, "acme", 41);
        assert!(verify(&keys, "acme", 41, &signature));
        assert!(!verify(&keys, "acme", 42, &signature));
        assert!(!verify(&keys, "acne", 41, &signature));
        assert!(!verify(&keys, "acme", 41, ""));
        assert!(!verify(&keys, "acme", 41, "no base64!"));
    }

    #[test]
    fn a_link_outlives_a_rotation_as_long_as_its_key_is_kept() {
        let signature = sign(&ring(K1), "acme", 41);
        assert!(verify(&ring(&format!("{K2},{K1}")), "acme", 41, &signature));
        assert!(!verify(&ring(K2), "acme", 41, &signature));
    }
}

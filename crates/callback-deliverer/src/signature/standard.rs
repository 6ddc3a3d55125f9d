//! Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// The header that names a callback, the same at every delivery attempt.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the moment of the delivery attempt, in unix seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, parted by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// What a secret begins with whose rest is the key in base64.
const SECRET_PREFIX: &str = "whsec_";
/// Secrets come with and without padding.
const SECRET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const VERSION_PREFIX: &str = "v1,";

/// One signature, as it stands in the header: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.
#[must_use]
pub fn sign(secret: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    let tag = authenticate(secret, id, &timestamp.to_string(), body);
    format!("{VERSION_PREFIX}{}", STANDARD.encode(tag))
}

/// Whether one of the header's signatures is of this id, timestamp and body by this secret. How old the timestamp may
/// be is for the receiver to decide.
#[must_use]
pub fn verify(secret: &[u8], id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key(secret));
    let message = message(id, timestamp, body);
    let signatures = header.split_ascii_whitespace().filter_map(|one| one.strip_prefix(VERSION_PREFIX));
    let mut tags = signatures.filter_map(|text| STANDARD.decode(text).ok());
    tags.any(|tag| hmac::verify(&key, &message, &tag).is_ok())
}

/// The key that a secret stands for: its own bytes, or, after `whsec_`, what the rest is the base64 of.
///
/// Where that rest is no base64, the secret is taken as it is: callbacks must go out signed with what there is.
fn key(secret: &[u8]) -> Vec<u8> {
    let encoded = secret.strip_prefix(SECRET_PREFIX.as_bytes());
    encoded.and_then(|encoded| SECRET_BASE64.decode(encoded).ok()).unwrap_or_else(|| secret.to_vec())
}

fn authenticate(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key(secret)), &message(id, timestamp, body))
}

fn message(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vector that the libraries of Standard Webhooks are tested with.
    const SECRET: &[u8] = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_vector_of_the_standard_is_signed_as_it_says() {
        assert_eq!(sign(SECRET, ID, TIMESTAMP, BODY), SIGNATURE);
        assert!(verify(SECRET, ID, "1614265330", BODY, SIGNATURE));
    }

    #[test]
    fn one_of_several_signatures_is_enough_and_unknown_versions_are_passed_over() {
        let header = format!("v1a,abc v1,AAAA v2,xyz {SIGNATURE}");
        assert!(verify(SECRET, ID, "1614265330", BODY, &header));
        for header in ["", "v1,", "v1", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
            assert!(!verify(SECRET, ID, "1614265330", BODY, header), "{header}");
        }
    }

    #[test]
    fn only_a_secret_in_base64_is_decoded() {
        assert_eq!(key(b"whsec_AAEC"), [0, 1, 2]);
        assert_eq!((key(b"whsec_AAE="), key(b"whsec_AAE")), (vec![0, 1], vec![0, 1]));
        assert_eq!(key(b"AAEC"), b"AAEC");
        assert_eq!(key(b"whsec_no base64"), b"whsec_no base64");
    }

    proptest! {
        #[test]
        fn id_timestamp_and_body_are_all_signed(
            secret in proptest::collection::vec(any::<u8>(), 1..60), id in "[a-z0-9-]{1,40}", at: u32,
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let header = sign(&secret, &id, at.into(), &body);
            let (at, other_id, other_at) = (at.to_string(), format!("{id}x"), format!("{at}0"));
            prop_assert!(verify(&secret, &id, &at, &body, &header));
            prop_assert!(!verify(&secret, &other_id, &at, &body, &header));
            prop_assert!(!verify(&secret, &id, &other_at, &body, &header));
            prop_assert!(!verify(&secret, &id, &at, &[&body[..], b"x"].concat(), &header));
        }
    }
}

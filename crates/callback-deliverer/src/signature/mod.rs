//! The proofs that a callback comes from who knows the callback secret.
//!
//! Two dialects on one request: `X-Hub-Signature-256` over the body, as the original API has it, and Standard Webhooks
//! ([`standard`]), whose signature covers id and time too. While the grace of a rotated secret lasts, Standard Webhooks
//! carries both signatures; the one value that `X-Hub-Signature-256` has is of the old secret.

pub mod standard;

use aws_lc_rs::hmac;

/// The header that carries the signature.
pub const HEADER: &str = "x-hub-signature-256";

const PREFIX: &str = "sha256=";

/// The header's value for a body: `sha256=` and the HMAC-SHA256 of exactly these bytes in lowercase hex.
#[must_use]
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
    format!("{PREFIX}{}", hex::encode(tag))
}

/// Whether a header's value is the signature of this body by this secret; the comparison takes constant time.
#[must_use]
pub fn verify_signature(secret: &[u8], body: &[u8], header: &str) -> bool {
    let Some(signature) = header.trim().strip_prefix(PREFIX).and_then(|digits| hex::decode(digits).ok()) else {
        return false;
    };
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), body, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vector of the callback's contract.
    const SECRET: &str = "s3crét";
    const BODY: &[u8] = br#"{"timestamp":"2026-11-21T10:00:00Z"}"#;
    const SIGNATURE: &str = "sha256=0dff37efe6107634dfc855ef6435c0bdc358c3c68a43ed45107fb89cf826f3ee";

    #[test]
    fn the_contracts_vector_is_signed_as_it_says() {
        assert_eq!(sign(SECRET.as_bytes(), BODY), SIGNATURE);
        assert!(verify_signature(SECRET.as_bytes(), BODY, SIGNATURE));
    }

    #[test]
    fn what_is_no_signature_of_this_body_is_refused() {
        let bare = SIGNATURE.strip_prefix(PREFIX).unwrap();
        for header in
            ["", "sha256=", "sha256=zz", bare, &SIGNATURE[..70], "sha1=0dff37efe6107634dfc855ef6435c0bdc358c3c6"]
        {
            assert!(!verify_signature(SECRET.as_bytes(), BODY, header), "{header}");
        }
        assert!(!verify_signature(b"another", BODY, SIGNATURE));
        assert!(!verify_signature(SECRET.as_bytes(), b"{}", SIGNATURE));
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_a_changed_byte_does_not(
            secret in proptest::collection::vec(any::<u8>(), 1..100),
            mut body in proptest::collection::vec(any::<u8>(), 1..200),
            at in any::<proptest::sample::Index>(),
        ) {
            let header = sign(&secret, &body);
            prop_assert!(verify_signature(&secret, &body, &header));
            let at = at.index(body.len());
            body[at] ^= 1;
            prop_assert!(!verify_signature(&secret, &body, &header));
        }
    }
}

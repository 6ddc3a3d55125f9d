//! The forms of what identifies an agent, a protocol or a model.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};

/// The human-readable part of an agent's address.
const AGENT: Hrp = Hrp::parse_unchecked("agent");
/// What an address holds: a compressed public key.
const KEY_BYTES: usize = 33;
/// `agent`, `1`, the key, the checksum.
const ADDRESS_CHARS: usize = 65;

/// Whether `text` is the address of an agent, checksum and all.
pub(super) fn is_address(text: &str) -> bool {
    // Bech32 itself allows capitals throughout; no address has them.
    let plain = text.len() == ADDRESS_CHARS && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let holds_a_key =
        |address: CheckedHrpstring<'_>| address.hrp() == AGENT && address.byte_iter().count() == KEY_BYTES;
    plain && CheckedHrpstring::new::<Bech32>(text).is_ok_and(holds_a_key)
}

/// A digest with its prefix, which may be missing: `proto:` or `model:` and 64 hexadecimal digits.
pub(super) fn digest(text: &str, prefix: &str) -> Option<String> {
    let digits = text.strip_prefix(prefix).unwrap_or(text);
    let good = digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    good.then(|| format!("{prefix}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both of the API's own documentation.
    const SAMPLES: [&str; 2] = [
        "agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy",
        "agent1q0vmxjv06dwdlppuvspmfyff4ys2t4mdndpa09gulpsuq90n22xqy8k89l8",
    ];

    #[test]
    fn the_addresses_of_the_documentation_are_good() {
        assert!(SAMPLES.into_iter().all(is_address));
    }

    #[test]
    fn any_single_wrong_character_is_noticed() {
        let [good, _] = SAMPLES;
        for at in 0..good.len() {
            for other in "qp1b7".chars().filter(|other| !good[at..].starts_with(*other)) {
                let mut bad: Vec<char> = good.chars().collect();
                bad[at] = other;
                assert!(!is_address(&bad.into_iter().collect::<String>()), "{other} at {at}");
            }
        }
    }

    #[test]
    fn everything_else_is_no_address() {
        let [good, _] = SAMPLES;
        // The same key under other rules: the other checksum, another name, a byte more.
        let key: Vec<u8> = CheckedHrpstring::new::<Bech32>(good).unwrap().byte_iter().collect();
        let encode = |hrp: &str, bytes: &[u8]| {
            let mut text = String::new();
            bech32::encode_to_fmt::<Bech32, _>(&mut text, Hrp::parse(hrp).unwrap(), bytes).unwrap();
            text
        };
        assert_eq!(encode("agent", &key), good);
        let mut other_checksum = String::new();
        bech32::encode_to_fmt::<bech32::Bech32m, _>(&mut other_checksum, AGENT, &key).unwrap();
        let longer = [key.as_slice(), &[0]].concat();
        for bad in [
            "",
            "agent1",
            "agent1q",
            &good.to_uppercase(),
            &format!(" {good}"),
            &format!("{good} "),
            &other_checksum,
            &encode("agenta", &key),
            &encode("proxy", &key),
            &encode("agent", &key[1..]),
            &encode("agent", &longer),
            &"é".repeat(ADDRESS_CHARS),
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_digest_gets_the_prefix_that_it_lacks() {
        let digits = "05c3504f6d6486792e8410c9d1c6d626991fc8e0007bae960acb2ab1dd83072a";
        let full = format!("proto:{digits}");
        assert_eq!(digest(&full, "proto:"), Some(full.clone()));
        assert_eq!(digest(digits, "proto:"), Some(full.clone()));
        for bad in [
            "",
            "proto:",
            &digits[1..],
            &format!("{digits}0"),
            &digits.to_uppercase(),
            &format!("model:{digits}"),
            &format!("proto:{full}"),
            &format!("{full}\n"),
            &digits.replace('a', "g"),
        ] {
            assert_eq!(digest(bad, "proto:"), None, "{bad}");
        }
    }
}

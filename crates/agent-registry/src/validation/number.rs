//! Integers as the original reads them: from numbers, from text, and never by rounding.

use serde_json::Value;

/// What is wrong with something that should be an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadInteger {
    /// No integer at all.
    Invalid,
    /// Above 2^63 - 1.
    TooLarge,
    /// Below -2^63.
    TooSmall,
}

impl BadInteger {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Invalid => "A valid integer is required.",
            Self::TooLarge => "Ensure this value is less than or equal to 9223372036854775807.",
            Self::TooSmall => "Ensure this value is greater than or equal to -9223372036854775808.",
        }
    }
}

/// Reads `12`, `"12"` and `1.0`; not `1.5`, `true` or `""`.
pub(crate) fn integer(value: &Value) -> Result<i64, BadInteger> {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(integer),
            (None, Some(float)) => whole(float),
            (None, None) => Err(BadInteger::Invalid),
        },
        Value::String(text) => from_text(text),
        _ => Err(BadInteger::Invalid),
    }
}

/// A literal too long for an integer arrives as a float: it must not come back as a rounded integer.
fn whole(float: f64) -> Result<i64, BadInteger> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float >= LIMIT {
        return Err(BadInteger::TooLarge);
    }
    if float <= -LIMIT {
        return Err(BadInteger::TooSmall);
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and between the limits of i64")]
    let integer = float as i64;
    if float.fract() == 0.0 { Ok(integer) } else { Err(BadInteger::Invalid) }
}

/// Digits with an optional sign, and zeros after a point.
pub(crate) fn from_text(text: &str) -> Result<i64, BadInteger> {
    let text = text.trim();
    let text = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadInteger::Invalid);
    }
    let out_of_range = if text.starts_with('-') { BadInteger::TooSmall } else { BadInteger::TooLarge };
    text.parse().map_err(|_| out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn integers_are_read_from_numbers_and_from_text_and_never_by_rounding() {
        let cases = [
            ("12", Ok(12)),
            ("\"12\"", Ok(12)),
            ("\" -7 \"", Ok(-7)),
            ("1.0", Ok(1)),
            ("\"1.0\"", Ok(1)),
            ("1.5", Err(BadInteger::Invalid)),
            ("true", Err(BadInteger::Invalid)),
            ("\"\"", Err(BadInteger::Invalid)),
            ("\"x\"", Err(BadInteger::Invalid)),
            ("\"1e3\"", Err(BadInteger::Invalid)),
            ("[]", Err(BadInteger::Invalid)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("9223372036854775808", Err(BadInteger::TooLarge)),
            ("18446744073709551616", Err(BadInteger::TooLarge)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("-9223372036854775809", Err(BadInteger::TooSmall)),
            ("-9223372036854776000", Err(BadInteger::TooSmall)),
            ("\"-99999999999999999999999999\"", Err(BadInteger::TooSmall)),
            ("\"99999999999999999999999999\"", Err(BadInteger::TooLarge)),
        ];
        for (literal, expected) in cases {
            let value: Value = serde_json::from_str(literal).unwrap();
            assert_eq!(integer(&value), expected, "{literal}");
        }
        assert_eq!(integer(&json!({})), Err(BadInteger::Invalid));
    }

    proptest::proptest! {
        #[test]
        fn every_integer_is_read_back_and_no_text_is_too_strange(number: i64, text: String) {
            proptest::prop_assert_eq!(from_text(&number.to_string()), Ok(number));
            proptest::prop_assert_eq!(integer(&json!(number)), Ok(number));
            let _ = from_text(&text);
        }
    }
}

//! JSON bodies; what is wrong with a bad one is told in the words of Python's parser.

use serde_json::Value;

/// Deeper nesting than any request has; keeps the search for an error from recursing without end.
const DEPTH_MAX: usize = 200;

/// Parses a JSON body. The error is the text after `JSON parse error - `.
pub(crate) fn parse(body: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let position = error.valid_up_to();
        let byte = body.get(position).copied().unwrap_or_default();
        format!("'utf-8' codec can't decode byte 0x{byte:02x} in position {position}: invalid start byte")
    })?;
    serde_json::from_str(text).map_err(|error| match explain(text) {
        Some(explanation) => explanation,
        None => error.to_string(),
    })
}

/// What Python would say is wrong; `None` where it would find nothing.
fn explain(text: &str) -> Option<String> {
    if text.starts_with('\u{feff}') {
        return Some(located("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0));
    }
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    let outcome = scanner.document();
    outcome.err().map(|fault| match fault {
        Fault::At(message, position) => located(message, text, position),
        Fault::Whole(message) => message,
    })
}

fn located(message: &str, text: &str, position: usize) -> String {
    let before: Vec<char> =
        text.bytes().take(position).filter(|byte| !is_continuation(*byte)).map(char::from).collect();
    let line = before.iter().filter(|char| **char == '\n').count() + 1;
    let column = before.iter().rev().take_while(|char| **char != '\n').count() + 1;
    format!("{message}: line {line} column {column} (char {})", before.len())
}

/// Whether a byte goes on with a character rather than beginning one.
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

enum Fault {
    /// Something, found at a byte.
    At(&'static str, usize),
    /// Something about the text as a whole.
    Whole(String),
}

/// Walks a text in the steps of Python's `json.decoder`, so that it stumbles at the same places.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Result<(), Fault> {
        self.skip_space();
        self.value(0)?;
        self.skip_space();
        if self.at < self.bytes.len() { Err(Fault::At("Extra data", self.at)) } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Whole("maximum recursion depth exceeded".to_owned()));
        }
        for constant in ["NaN", "Infinity", "-Infinity"] {
            if self.rest().starts_with(constant.as_bytes()) {
                return Err(Fault::Whole(format!("Out of range float values are not JSON compliant: '{constant}'")));
            }
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn word(&mut self) -> Result<(), Fault> {
        let word = ["null", "true", "false"].into_iter().find(|word| self.rest().starts_with(word.as_bytes()));
        let word = word.ok_or(Fault::At("Expecting value", self.at))?;
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(Fault::At("Expecting value", start)),
        }
        if self.peek() == Some(b'.') && self.digit_at(1) {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.bytes.get(self.at + 1), Some(b'+' | b'-')));
            if self.digit_at(1 + sign) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        Ok(())
    }

    fn digit_at(&self, offset: usize) -> bool {
        self.bytes.get(self.at + offset).is_some_and(u8::is_ascii_digit)
    }

    fn digits(&mut self) {
        while self.digit_at(0) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(Fault::At("Unterminated string starting at", start)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape(start)?,
                Some(0..=0x1f) => return Err(Fault::At("Invalid control character at", self.at)),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            None => Err(Fault::At("Unterminated string starting at", start)),
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(Fault::At("Invalid \\uXXXX escape", self.at + 1));
                }
                self.at += 6;
                Ok(())
            }
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(_) => Err(Fault::At("Invalid \\escape", self.at)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(Fault::At("Expecting property name enclosed in double quotes", self.at));
            }
            self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(Fault::At("Expecting ':' delimiter", self.at));
            }
            self.at += 1;
            self.skip_space();
            self.value(depth + 1)?;
            if self.ends(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    /// After a member: whether `close` ends the collection, or a comma goes on with it.
    fn ends(&mut self, close: u8) -> Result<bool, Fault> {
        self.skip_space();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(false)
            }
            _ => Err(Fault::At("Expecting ',' delimiter", self.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as CPython 3.11 says it.
    #[test]
    fn bad_json_is_told_in_the_words_of_python() {
        for (body, message) in [
            ("x", "Expecting value: line 1 column 1 (char 0)"),
            ("  ", "Expecting value: line 1 column 3 (char 2)"),
            ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            ("{'a': 1}", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            ("{\"a\" 1}", "Expecting ':' delimiter: line 1 column 6 (char 5)"),
            ("{\"a\": }", "Expecting value: line 1 column 7 (char 6)"),
            ("{\"a\": 1 \"b\": 2}", "Expecting ',' delimiter: line 1 column 9 (char 8)"),
            ("{\"a\": 1,}", "Expecting property name enclosed in double quotes: line 1 column 9 (char 8)"),
            ("[1, 2,]", "Expecting value: line 1 column 7 (char 6)"),
            ("[01]", "Expecting ',' delimiter: line 1 column 3 (char 2)"),
            ("{\"a\": \"b", "Unterminated string starting at: line 1 column 7 (char 6)"),
            ("{\"ü\":\n \"a\nb\"}", "Invalid control character at: line 2 column 4 (char 9)"),
            ("\"\\x\"", "Invalid \\escape: line 1 column 2 (char 1)"),
            ("\"\\u12g4\"", "Invalid \\uXXXX escape: line 1 column 3 (char 2)"),
            ("{} x", "Extra data: line 1 column 4 (char 3)"),
            ("NaN", "Out of range float values are not JSON compliant: 'NaN'"),
            ("\u{feff}{}", "Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)"),
        ] {
            assert_eq!(parse(body.as_bytes()), Err(message.to_owned()), "{body}");
        }
        assert_eq!(
            parse(b"{\"a\": \"\xff\"}"),
            Err("'utf-8' codec can't decode byte 0xff in position 7: invalid start byte".to_owned())
        );
    }

    #[test]
    fn a_body_that_only_nests_is_refused_and_harms_nobody() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(parse(deep.as_bytes()), Err("maximum recursion depth exceeded".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_strange(body: Vec<u8>) {
            let _ = parse(&body);
        }

        /// Near-JSON: what a typing error makes of good JSON.
        #[test]
        fn an_error_is_found_exactly_where_there_is_one(
            body in r#"[\[\]{},:"\\ 0-9.eEtruefalsn\-+u\n]{0,20}"#
        ) {
            let is_good = serde_json::from_str::<Value>(&body).is_ok();
            proptest::prop_assert_eq!(parse(body.as_bytes()).is_ok(), is_good);
            if is_good {
                proptest::prop_assert_eq!(explain(&body), None);
            }
        }
    }
}

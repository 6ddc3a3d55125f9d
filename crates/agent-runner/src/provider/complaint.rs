//! What a server says is wrong: its own words, short, and without what it was trusted with.

use serde_json::Value;

/// The most bytes of a complaint that are shown.
const SHOWN_BYTES_MAX: usize = 500;

/// What stands where a secret stood.
const MASK: &str = "****";

/// What must not be shown, although a server may repeat it.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn add(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.0.push(secret.to_owned());
        }
    }

    /// `text` without them, in one line, and short.
    pub(crate) fn shorten(&self, text: &str) -> String {
        let hidden = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
        let line = hidden.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.floor_char_boundary(SHOWN_BYTES_MAX) {
            end if end < line.len() => format!("{}…", &line[..end]),
            _ => line,
        }
    }
}

/// The words in the body of a failure: those that the usual JSON shapes hold, else the body itself.
pub(crate) fn of_body(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => of_json(&value),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// OpenAI says `{"error": {"message"}}`, Ollama `{"error"}`, FastAPI `{"detail"}`, many `{"message"}`.
pub(super) fn of_json(value: &Value) -> String {
    let inner = ["error", "message", "detail"].iter().find_map(|key| value.get(key).filter(|inner| !inner.is_null()));
    match (value, inner) {
        (_, Some(inner)) => of_json(inner),
        (Value::String(text), None) => text.clone(),
        (other, None) => other.to_string(),
    }
}

/// Whether the account behind the API key has nothing left to spend, as OpenAI says it.
pub(super) fn is_about_quota(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return false };
    ["code", "type"].iter().any(|key| value["error"][key] == "insufficient_quota")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_found_in_every_usual_shape() {
        for (body, words) in [
            (r#"{"error": {"message": "no such model", "code": null}}"#, "no such model"),
            (r#"{"error": "no such model"}"#, "no such model"),
            (r#"{"detail": [{"loc": ["body"]}]}"#, r#"[{"loc":["body"]}]"#),
            (r#"{"object": "error", "message": "no such model"}"#, "no such model"),
            (r#"{"error": null, "detail": "no such model"}"#, "no such model"),
            ("<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(of_body(body.as_bytes()), words);
        }
    }

    #[test]
    fn a_quota_that_is_spent_is_told_from_a_limit_of_rate() {
        assert!(is_about_quota(br#"{"error": {"message": "m", "type": "insufficient_quota", "code": null}}"#));
        for body in [r#"{"error": {"code": "rate_limit_exceeded"}}"#, r#"{"error": "slow down"}"#, "[]", "slow down"] {
            assert!(!is_about_quota(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn what_is_shown_is_one_short_line_without_secrets() {
        let mut secrets = Secrets::default();
        secrets.add("sk-t0ps3cret");
        secrets.add("");
        assert_eq!(secrets.shorten("bad key\n  sk-t0ps3cret, in short"), "bad key ****, in short");
        let long = secrets.shorten(&"ä".repeat(1_000));
        assert_eq!(long, format!("{}…", "ä".repeat(250)));
    }
}

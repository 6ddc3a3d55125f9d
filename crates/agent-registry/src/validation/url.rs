//! Callback URLs, by Django's rule: which names it takes for hosts, and which it does not.
//!
//! Ours differs from it twice: only `http` and `https`, and a host of a single label is good (`http://receiver:8080/`).

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is said about anything else.
pub(crate) const BAD_URL: &str = "Enter a valid URL.";

/// Whether `text` is a URL that a callback may go to.
pub(crate) fn is_valid(text: &str) -> bool {
    if text.chars().any(char::is_whitespace) {
        return false;
    }
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return false;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = match authority.rsplit_once('@') {
        Some((user_info, host)) if is_user_info(user_info) => host,
        Some(_) => return false,
        None => authority,
    };
    let (host, port) = split_port(host_and_port);
    port.is_none_or(is_port) && host.chars().count() <= 253 && is_host(host)
}

/// `user` or `user:password`, neither with a further `:` or `@`.
fn is_user_info(text: &str) -> bool {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    !user.is_empty() && !user.contains('@') && !password.contains([':', '@'])
}

fn split_port(host_and_port: &str) -> (&str, Option<&str>) {
    let after_bracket = host_and_port.rfind(']').map_or(0, |at| at + 1);
    match host_and_port.get(after_bracket..).and_then(|tail| tail.rfind(':')) {
        Some(colon) => {
            let (host, port) = host_and_port.split_at(after_bracket + colon);
            (host, port.get(1..))
        }
        None => (host_and_port, None),
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().is_ok();
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').filter(|rest| rest.contains('.')).unwrap_or(host);
    let mut labels = host.split('.').rev();
    let (Some(last), rest) = (labels.next(), labels) else { return false };
    let rest: Vec<&str> = rest.collect();
    let top_is_good = if rest.is_empty() { is_label(last) && !is_number(last) } else { is_top_label(last) };
    top_is_good && rest.into_iter().all(is_label)
}

fn is_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters, digits, characters beyond ASCII, and hyphens inside.
fn is_label(label: &str) -> bool {
    let good = |char: char| char.is_ascii_alphanumeric() || char == '-' || is_beyond_ascii(char);
    (1..=63).contains(&label.chars().count())
        && label.chars().all(good)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// As a label, but without digits unless in Punycode, and of at least two characters.
fn is_top_label(label: &str) -> bool {
    let punycode = label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--")) && label.is_ascii();
    is_label(label) && label.chars().count() >= 2 && (punycode || !label.chars().any(|char| char.is_ascii_digit()))
}

fn is_beyond_ascii(char: char) -> bool {
    ('\u{a1}'..='\u{ffff}').contains(&char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_django_takes_and_single_labels_are_good() {
        for url in [
            "http://example.com",
            "HTTPS://example.com/x?y=z#w",
            "http://localhost:8000/hook",
            "http://192.0.2.7:8080/",
            "http://[2001:db8::1]:8080/",
            "http://user:pass@example.com/",
            "http://user@example.com?x",
            "http://example.com:99999/",
            "http://example.com./",
            "http://münchen.example/",
            "http://xn--mnchen-3ya.xn--p1ai/",
            "http://callback-sink:8080/x",
        ] {
            assert!(is_valid(url), "{url}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for url in [
            "",
            "example.com",
            "http://",
            "http:///x",
            "ftp://example.com/",
            "javascript:alert(1)",
            "http://a.b/",
            "http://exa mple.com/",
            "http://example.com/a b",
            "http://-bad.example/",
            "http://bad-.example/",
            "http://example.c0m1/",
            "http://example.com:/",
            "http://example.com:123456/",
            "http://example.com:80a/",
            "http://[::g]/",
            "http://999.1.1.1/",
            "http://a@b@example.com/",
            "http://.example.com/",
            "http://exa_mple.com/",
            "http://1234/",
        ] {
            assert!(!is_valid(url), "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text: String, near in r"https?://[a-z0-9.:@\[\]/?#-]{0,24}") {
            let _ = (is_valid(&text), is_valid(&near));
        }
    }
}

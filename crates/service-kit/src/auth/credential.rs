//! The `Authorization` header, in every form that clients send.

use actix_web::http::header::{self, HeaderMap};

use super::AuthError;
use crate::secrets::Secret;

/// What the `Authorization` header holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token (JWT).
    Token(Secret<String>),
    /// An opaque API key.
    ApiKey(Secret<String>),
}

/// The scheme words that clients send, in lower case; each may precede a token as well as a key.
const SCHEMES: [&str; 5] = ["api-token", "api-key", "token", "bearer", "jwt"];

impl Credential {
    /// Reads the header: `Token`, `Bearer`, `JWT`, `Api-Token` or `Api-Key` and a credential, or a credential alone.
    ///
    /// What looks like a token is one, whatever the scheme; everything else is a key.
    ///
    /// # Errors
    ///
    /// No header, another scheme, or a header that makes no sense.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, AuthError> {
        let header = headers.get(header::AUTHORIZATION).ok_or(AuthError::NotProvided)?;
        let text = header.to_str().map_err(|_| {
            AuthError::Malformed("Invalid token header. Token string should not contain invalid characters.")
        })?;
        let mut words = text.split_ascii_whitespace();
        let (first, second, third) = (words.next(), words.next(), words.next());
        let known = first.is_some_and(|word| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)));
        match (first, second, third) {
            (None, ..) => Err(AuthError::NotProvided),
            (Some(_), None, _) if known => Err(AuthError::Malformed("Invalid token header. No credentials provided.")),
            (Some(credential), None, _) => Ok(Self::of(credential)),
            (Some(_), Some(_), _) if !known => Err(AuthError::NotProvided),
            (Some(_), Some(credential), None) => Ok(Self::of(credential)),
            (Some(_), Some(_), Some(_)) => {
                Err(AuthError::Malformed("Invalid token header. Token string should not contain spaces."))
            }
        }
    }

    fn of(text: &str) -> Self {
        // A JWT is three parts, the first of which begins with `{"` in base64.
        let is_token = text.starts_with("eyJ") && text.split('.').count() == 3;
        let text = Secret::new(text.to_owned());
        if is_token { Self::Token(text) } else { Self::ApiKey(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln";

    fn read(header: &str) -> Result<Credential, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(header.as_bytes()).unwrap());
        Credential::from_headers(&headers)
    }

    #[test]
    fn every_scheme_and_none_carries_a_token() {
        for header in ["Token {}", "bearer {}", "JWT {}", "Api-Token {}", "API-KEY  {}", "{}", "  {} "] {
            let header = header.replace("{}", JWT);
            assert_eq!(read(&header), Ok(Credential::Token(Secret::new(JWT.to_owned()))), "{header}");
        }
    }

    #[test]
    fn what_is_no_token_is_an_api_key() {
        for header in ["Api-Token 0af3", "Api-Key 0af3", "Token 0af3", "0af3"] {
            assert_eq!(read(header), Ok(Credential::ApiKey(Secret::new("0af3".to_owned()))), "{header}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_header_is_told_in_the_words_of_the_original() {
        assert_eq!(Credential::from_headers(&HeaderMap::new()), Err(AuthError::NotProvided));
        for (header, detail) in [
            ("", "Authentication credentials were not provided."),
            ("Basic dTpw", "Authentication credentials were not provided."),
            ("Token", "Invalid token header. No credentials provided."),
            ("api-token ", "Invalid token header. No credentials provided."),
            ("Token a b", "Invalid token header. Token string should not contain spaces."),
            ("Token é", "Invalid token header. Token string should not contain invalid characters."),
        ] {
            assert_eq!(read(header).unwrap_err().detail(), detail, "{header}");
        }
    }
}

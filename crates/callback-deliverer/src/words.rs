//! Closed sets of words that this microservice stores and shows: an enum and the one spelling of each value.

/// Declares an enum whose values are spelled one way in tables, answers and metrics.
macro_rules! stored_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ::diesel::expression::AsExpression, ::diesel::deserialize::FromSqlRow)]
        #[diesel(sql_type = ::diesel::sql_types::Text)]
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// The one spelling.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }

            /// The value that is spelled so.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { f.write_str(self.as_str()) }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<DB: ::diesel::backend::Backend> ::diesel::serialize::ToSql<::diesel::sql_types::Text, DB> for $name
        where
            str: ::diesel::serialize::ToSql<::diesel::sql_types::Text, DB>,
        {
            fn to_sql<'b>(
                &'b self,
                out: &mut ::diesel::serialize::Output<'b, '_, DB>,
            ) -> ::diesel::serialize::Result {
                self.as_str().to_sql(out)
            }
        }

        impl<DB: ::diesel::backend::Backend> ::diesel::deserialize::FromSql<::diesel::sql_types::Text, DB> for $name
        where
            String: ::diesel::deserialize::FromSql<::diesel::sql_types::Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> ::diesel::deserialize::Result<Self> {
                let word = String::from_sql(bytes)?;
                Self::from_word(&word)
                    .ok_or_else(|| format!(concat!("`{}` is no ", stringify!($name)), word).into())
            }
        }
    };
}

stored_words! {
    /// How far a delivery has come. All but the first two are final, unless somebody replays it.
    Status {
        /// On its way: due now or later, or waiting for its endpoint.
        Pending = "pending",
        /// Its endpoint is disabled: it waits until somebody enables it.
        Held = "held",
        /// Its receiver has it.
        Delivered = "delivered",
        /// Every delivery attempt failed.
        Exhausted = "exhausted",
        /// Nobody is there to receive it any more.
        Discarded = "discarded",
    }
}

stored_words! {
    /// Why a delivery was discarded.
    DiscardReason {
        /// Its agent is gone.
        AgentDeleted = "agent_deleted",
        /// Its agent has no callback URL any more.
        CallbackRemoved = "callback_removed",
    }
}

stored_words! {
    /// What came of a delivery attempt.
    OutcomeClass {
        /// 2xx: the receiver has it.
        Delivered = "delivered",
        /// Another status than 2xx, 3xx and 410.
        HttpStatus = "http_status",
        /// 410: the receiver wants no more callbacks.
        Gone = "gone",
        /// 3xx: never followed, since the new place was not vetted by the agent's owner.
        Redirect = "redirect",
        /// Not done before the deadline.
        Timeout = "timeout",
        /// No connection.
        ConnectFailed = "connect_failed",
        /// No TLS session: a bad certificate, or no TLS there.
        TlsFailed = "tls_failed",
        /// The host's name has no address.
        DnsFailed = "dns_failed",
        /// The address is not one that callbacks may go to.
        RefusedAddress = "refused_address",
        /// The URL is none that can be asked.
        BadUrl = "bad_url",
        /// The connection broke, or the answer was no HTTP.
        BadAnswer = "bad_answer",
        /// The stored secret does not open: it is damaged.
        SecretUnreadable = "secret_unreadable",
    }
}

stored_words! {
    /// Why an endpoint is disabled.
    DisableReason {
        /// Its receiver answered 410.
        Gone = "gone",
        /// Nothing but failures for too long.
        Failing = "failing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_word(status.as_str()), Some(*status));
        }
        for reason in DisableReason::ALL {
            assert_eq!(DisableReason::from_word(reason.as_str()), Some(*reason));
        }
        for class in OutcomeClass::ALL {
            assert_eq!(OutcomeClass::from_word(class.as_str()), Some(*class));
        }
        assert_eq!(Status::from_word("Pending"), None);
    }
}

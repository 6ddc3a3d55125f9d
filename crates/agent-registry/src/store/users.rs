//! Users, as far as their rights are known: what the newest token that was seen of each says, and what operators revoked.

use std::collections::BTreeSet;

use diesel::prelude::*;
use service_kit::auth::Role;
use service_kit::database::{DbConnection, Timestamp};
use service_kit::per_backend;

use super::schema::users;

/// A user of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = users, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct UserRow {
    pub(crate) organisation: String,
    pub(crate) username: String,
    /// None: no token of theirs was seen.
    pub(crate) role: Option<String>,
    pub(crate) token_issued_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl UserRow {
    /// One of whom nothing is known.
    pub(crate) fn unknown(organisation: &str, username: &str) -> Self {
        let (organisation, username) = (organisation.to_owned(), username.to_owned());
        Self { organisation, username, role: None, token_issued_at: None, revoked_at: None }
    }

    /// Whether runs may act as this user: unless something is known against it.
    pub(crate) fn is_allowed(&self) -> bool {
        self.revoked_at.is_none() && self.role.as_deref() != Some(Role::None.as_str())
    }
}

/// What is known of a user.
pub(crate) fn find(conn: &mut DbConnection, organisation: &str, username: &str) -> QueryResult<Option<UserRow>> {
    users::table.find((organisation, username)).select(UserRow::as_select()).first(conn).optional()
}

/// Whether runs may act as this user.
pub(crate) fn is_allowed(conn: &mut DbConnection, organisation: &str, username: &str) -> QueryResult<bool> {
    Ok(find(conn, organisation, username)?.is_none_or(|user| user.is_allowed()))
}

/// Stores what is known of a user.
pub(crate) fn put(conn: &mut DbConnection, user: &UserRow) -> QueryResult<()> {
    per_backend!(conn, c => diesel::insert_into(users::table)
        .values(user)
        .on_conflict((users::organisation, users::username))
        .do_update()
        .set(user)
        .execute(c))
    .map(|_| ())
}

/// The users of an organisation that runs may not act as.
pub(crate) fn not_allowed(conn: &mut DbConnection, organisation: &str) -> QueryResult<BTreeSet<String>> {
    let names: Vec<String> = users::table
        .filter(users::organisation.eq(organisation))
        .filter(users::revoked_at.is_not_null().or(users::role.eq(Some(Role::None.as_str()))))
        .select(users::username)
        .load(conn)?;
    Ok(names.into_iter().collect())
}

/// Forgets the users of an organisation.
pub(crate) fn delete_all(conn: &mut DbConnection, organisation: &str) -> QueryResult<()> {
    diesel::delete(users::table.filter(users::organisation.eq(organisation))).execute(conn).map(|_| ())
}

//! Organisations: what is held of their documents.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::upsert::excluded;
use service_kit::database::DbConnection;
use service_kit::per_backend;

use super::Target;
use crate::schema::organisations;

/// What is held of an organisation in one version.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = organisations, treat_none_as_default_value = false)]
pub(crate) struct Organisation {
    pub(crate) organisation: String,
    pub(crate) version: i64,
    /// Most delivery attempts at once; none: the process's own limit alone.
    pub(crate) callbacks_in_flight_max: Option<i32>,
    /// Days that settled deliveries are kept; none: as configured.
    pub(crate) deliveries_days: Option<i32>,
    /// Where warnings go.
    pub(crate) alert_url: Option<String>,
    pub(crate) alert_sealed_secret: Vec<u8>,
}

impl Organisation {
    pub(crate) fn in_flight_max(&self) -> Option<usize> {
        self.callbacks_in_flight_max.and_then(|max| usize::try_from(max).ok())
    }

    /// Where warnings go, if anywhere.
    pub(crate) fn alert_target(&self) -> Option<Target> {
        Some(Target {
            url: self.alert_url.clone()?,
            sealed_secret: self.alert_sealed_secret.clone(),
            previous_secret: None,
            encrypt: false,
            signature_only_hub: false,
        })
    }
}

/// Stores organisations, each at most once, where they are newer than what is held.
pub(crate) fn apply(connection: &mut DbConnection, newer: &[Organisation]) -> QueryResult<()> {
    for row in newer {
        let overwrite = (
            organisations::version.eq(excluded(organisations::version)),
            organisations::callbacks_in_flight_max.eq(excluded(organisations::callbacks_in_flight_max)),
            organisations::deliveries_days.eq(excluded(organisations::deliveries_days)),
            organisations::alert_url.eq(excluded(organisations::alert_url)),
            organisations::alert_sealed_secret.eq(excluded(organisations::alert_sealed_secret)),
        );
        use diesel::query_dsl::methods::FilterDsl;
        per_backend!(&mut *connection, c => diesel::insert_into(organisations::table)
            .values(row)
            .on_conflict(organisations::organisation)
            .do_update()
            .set(overwrite)
            .filter(organisations::version.lt(excluded(organisations::version)))
            .execute(c))?;
    }
    Ok(())
}

/// What is held of these organisations, by key.
pub(crate) fn of_keys(connection: &mut DbConnection, keys: &[&str]) -> QueryResult<HashMap<String, Organisation>> {
    let rows: Vec<Organisation> = organisations::table
        .filter(organisations::organisation.eq_any(keys))
        .select(Organisation::as_select())
        .load(connection)?;
    Ok(rows.into_iter().map(|row| (row.organisation.clone(), row)).collect())
}

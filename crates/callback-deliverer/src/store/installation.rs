//! The name of the installation, of which webhook ids are made.

use diesel::prelude::*;
use service_kit::database::{DbConnection, Uid};
use service_kit::per_backend;
use uuid::Uuid;

use crate::schema::installation;

/// The one row's key.
const THE_ROW: i32 = 1;

/// The installation's name; `fresh` becomes it if there is none yet.
pub(crate) fn get_or_create(connection: &mut DbConnection, fresh: Uuid) -> QueryResult<Uuid> {
    let row = (installation::id.eq(THE_ROW), installation::uuid.eq(Uid::from(fresh)));
    per_backend!(&mut *connection, c => diesel::insert_into(installation::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(c))?;
    let uuid: Uid = installation::table.find(THE_ROW).select(installation::uuid).first(connection)?;
    Ok(*uuid)
}

//! What triggers count: on PostgreSQL they only add rows, so that no two batches wait for each other; here those that
//! say the same are merged into one, whose sum is the same.

use diesel::prelude::*;
use service_kit::database::DbConnection;

/// Each table of counts, and the columns that say what is counted.
const TABLES: [(&str, &str); 2] =
    [("log_counts", "organisation, username, state"), ("agent_counts", "organisation, status")];

/// Merges the rows of PostgreSQL that count the same; on SQLite there is one each.
pub(crate) fn merge(conn: &mut DbConnection) -> QueryResult<()> {
    let DbConnection::Postgres(conn) = conn else { return Ok(()) };
    for (table, key) in TABLES {
        let merge = format!(
            "WITH many AS (
                 SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1
             ), taken AS (
                 DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM many) RETURNING *
             )
             INSERT INTO {table} ({key}, count)
             SELECT {key}, sum(count) FROM taken GROUP BY {key} HAVING sum(count) <> 0"
        );
        diesel::sql_query(merge).execute(conn)?;
    }
    Ok(())
}

//! Changes of organisations' zones that not all of their schedules have followed yet: nearly always none.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use diesel::prelude::*;
use model::id::OrganisationKey;
use service_kit::database::{DbConnection, Timestamp};

use crate::schema::zone_changes;

/// An organisation goes by another zone since `changed_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZoneChange {
    pub(crate) organisation: OrganisationKey,
    /// The version of the organisation's document that says so.
    pub(crate) version: i64,
    pub(crate) changed_at: DateTime<Utc>,
    pub(crate) before: Tz,
    pub(crate) after: Tz,
    /// The schedules of its organisation in places up to this one follow it.
    pub(crate) place: i64,
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = zone_changes)]
struct Row {
    organisation: String,
    version: i64,
    changed_at: Timestamp,
    zone_before: String,
    zone_after: String,
    place: i64,
}

impl TryFrom<Row> for ZoneChange {
    type Error = diesel::result::Error;

    fn try_from(row: Row) -> QueryResult<Self> {
        let zone = |name: &str| {
            let unknown = |_| diesel::result::Error::DeserializationError(format!("no such zone: {name}").into());
            name.parse::<Tz>().map_err(unknown)
        };
        Ok(Self {
            version: row.version,
            changed_at: row.changed_at.into(),
            before: zone(&row.zone_before)?,
            after: zone(&row.zone_after)?,
            place: row.place,
            organisation: OrganisationKey(row.organisation),
        })
    }
}

/// Notes a change.
pub(crate) fn insert(conn: &mut DbConnection, change: &ZoneChange) -> QueryResult<()> {
    let row = Row {
        organisation: change.organisation.0.clone(),
        version: change.version,
        changed_at: Timestamp::from(change.changed_at),
        zone_before: change.before.name().to_owned(),
        zone_after: change.after.name().to_owned(),
        place: change.place,
    };
    diesel::insert_into(zone_changes::table).values(row).execute(conn)?;
    Ok(())
}

/// All of them, each organisation's in order.
pub(crate) fn load(conn: &mut DbConnection) -> QueryResult<Vec<ZoneChange>> {
    let rows: Vec<Row> = zone_changes::table.order((zone_changes::organisation, zone_changes::version)).load(conn)?;
    rows.into_iter().map(ZoneChange::try_from).collect()
}

/// The newest change of an organisation's zone that is not done with.
pub(crate) fn newest(conn: &mut DbConnection, organisation: &OrganisationKey) -> QueryResult<Option<i64>> {
    let own = zone_changes::table.filter(zone_changes::organisation.eq(organisation.as_str()));
    own.select(diesel::dsl::max(zone_changes::version)).first(conn)
}

/// Locks the newest change that no other dispatcher has in hand.
pub(crate) fn lock_newest(conn: &mut DbConnection) -> QueryResult<Option<ZoneChange>> {
    let newest = zone_changes::table.order(zone_changes::version.desc()).limit(1);
    let row: Option<Row> = match conn {
        DbConnection::Postgres(c) => newest.for_update().skip_locked().first(c).optional()?,
        DbConnection::Sqlite(c) => newest.first(c).optional()?,
    };
    row.map(ZoneChange::try_from).transpose()
}

/// The schedules in places up to this one follow it now.
pub(crate) fn move_on(conn: &mut DbConnection, change: &ZoneChange, place: i64) -> QueryResult<()> {
    diesel::update(zone_changes::table.find((change.organisation.as_str(), change.version)))
        .set(zone_changes::place.eq(place))
        .execute(conn)?;
    Ok(())
}

/// All follow it: it is forgotten, and with it the older ones of its organisation, which they followed before it.
pub(crate) fn end(conn: &mut DbConnection, change: &ZoneChange) -> QueryResult<()> {
    let done =
        zone_changes::organisation.eq(change.organisation.as_str()).and(zone_changes::version.le(change.version));
    diesel::delete(zone_changes::table.filter(done)).execute(conn)?;
    Ok(())
}

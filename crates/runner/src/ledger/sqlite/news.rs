//! What happened that a person has not been told yet: by the number of the last event that was reported.

use super::Fail;
use super::store::Session;
use crate::ledger::News;
use rusqlite::OptionalExtension;

const LAST_EVENT: &str = "reported_event";
const LAST_QUARANTINED: &str = "reported_quarantined";

fn reported(session: &Session<'_>, name: &str) -> Result<i64, Fail> {
    let sql = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?1";
    Ok(session.connection.query_row(sql, [name], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Counts what is new since the last report.
pub(super) fn news(session: &Session<'_>) -> Result<News, Fail> {
    let mut news = News::default();
    let sql = "SELECT what, count(DISTINCT key) FROM event WHERE id > ?1 AND key IS NOT NULL \
               AND what IN ('held', 'hold-opened', 'refused', 'failed', 'mismatched', 'drifted') GROUP BY what";
    let mut statement = session.connection.prepare_cached(sql)?;
    let mut found = statement.query([reported(session, LAST_EVENT)?])?;
    while let Some(row) = found.next()? {
        let (what, count): (String, u64) = (row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs());
        match what.as_str() {
            "held" | "hold-opened" => news.held += count,
            "refused" => news.refused += count,
            "failed" => news.failed += count,
            "mismatched" => news.mismatched += count,
            _ => news.drifted += count,
        }
    }
    let sql = "SELECT count(*) FROM quarantine WHERE id > ?1 AND closed_at IS NULL";
    let quarantined =
        session.connection.query_row(sql, [reported(session, LAST_QUARANTINED)?], |row| row.get(0));
    news.quarantined = quarantined.map(i64::unsigned_abs)?;
    Ok(news)
}

/// Takes note that everything up to now has been reported.
pub(super) fn mark_reported(session: &Session<'_>) -> Result<(), Fail> {
    for (name, table) in [(LAST_EVENT, "event"), (LAST_QUARANTINED, "quarantine")] {
        let sql = format!(
            "INSERT INTO meta (name, value) SELECT ?1, CAST(coalesce(max(id), 0) AS TEXT) FROM {table} WHERE true \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        );
        session.connection.execute(&sql, [name])?;
    }
    Ok(())
}

//! Questions: totals, what is awaited, rows, histories, lists for people.

use super::Fail;
use super::codes::{charge, signed, small, state, state_code, type_code, unsigned, usage_type};
use super::store::{COLUMNS, PAST_BATCH, PAST_CONFIRM, Session};
use crate::ledger::{
    Awaiting, BatchId, ChargeTotal, Entry, Event, Find, Group, Hold, LedgerError, List, Progress,
    Quarantined, Row, State, Totals, What,
};
use amie_usage::UsageType;
use rusqlite::OptionalExtension;
use std::collections::BTreeSet;

pub(super) fn progress(session: &Session<'_>, source: &str, path: &str) -> Result<Option<Progress>, Fail> {
    let Some(source) = session.known_id(source)? else { return Ok(None) };
    let sql = "SELECT offset, frames, complete FROM progress WHERE source = ?1 AND path = ?2";
    let found = session.connection.prepare_cached(sql)?.query_row((source, path), |row| {
        Ok(Progress {
            path: path.to_owned(),
            offset: unsigned(row.get(0)?),
            frames: unsigned(row.get(1)?),
            complete: row.get(2)?,
        })
    });
    Ok(found.optional()?)
}

pub(super) fn totals(session: &Session<'_>) -> Result<Totals, Fail> {
    let mut totals = Totals::default();
    let sql = "SELECT usage_type, resource, project, state, records, charge FROM tally WHERE records > 0";
    let mut statement = session.connection.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (resource, project): (i64, i64) = (row.get(1)?, row.get(2)?);
        let state = state(row.get(3)?)?;
        let records = unsigned(row.get(4)?);
        *totals.states.entry(state).or_default() += records;
        // Held runs that never mapped have neither resource nor charge.
        if resource != 0 {
            totals.charges.push(ChargeTotal {
                usage_type: usage_type(row.get(0)?)?,
                resource: session.name(resource)?,
                project: session.name(project)?,
                state,
                records,
                charge: charge(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?)?,
            });
        }
    }
    totals.charges.sort_by(|a, b| {
        let place = |total: &ChargeTotal| {
            (total.usage_type, total.resource.clone(), total.project.clone(), total.state)
        };
        place(a).cmp(&place(b))
    });
    totals.held_total = count(session, "SELECT count(*) FROM hold WHERE closed_at IS NULL")?;
    totals.quarantined_open = count(session, "SELECT count(*) FROM quarantine WHERE closed_at IS NULL")?;
    Ok(totals)
}

fn count(session: &Session<'_>, sql: &str) -> Result<u64, Fail> {
    Ok(unsigned(session.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?))
}

pub(super) fn awaiting(session: &Session<'_>) -> Result<Vec<Awaiting>, Fail> {
    let sql = "SELECT usage_type, sum(waiting), min(earliest) FROM batch WHERE waiting > 0 \
               GROUP BY usage_type ORDER BY usage_type";
    let mut statement = session.connection.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    let mut awaiting = Vec::new();
    while let Some(row) = found.next()? {
        awaiting.push(Awaiting {
            usage_type: usage_type(row.get(0)?)?,
            records: unsigned(row.get(1)?),
            earliest_sent: row.get(2)?,
        });
    }
    Ok(awaiting)
}

pub(super) fn find(session: &Session<'_>, what: &Find, limit: usize) -> Result<Vec<Row>, Fail> {
    let keys = match what {
        Find::Key(key) => BTreeSet::from([key.clone()]),
        Find::Record(id) => with_record_id(session, id, false, limit)?,
        Find::Job(job) => {
            let mut keys = with_record_id(session, job, true, limit)?;
            // Held runs have no record id yet: their own text tells.
            let sql = "SELECT key FROM hold WHERE json_valid(run) \
                       AND ?1 IN (json_extract(run, '$.job_id'), json_extract(run, '$.raw_id')) LIMIT ?2";
            let mut statement = session.connection.prepare_cached(sql)?;
            for key in statement.query_map((job, signed(limit as u64)), |row| row.get(0))? {
                keys.insert(key?);
            }
            keys
        }
    };
    let rows = keys.iter().filter_map(|key| session.row(key).transpose());
    rows.take(limit).collect()
}

/// Keys by wire record id; with `prefix` also those where something other than a letter or digit follows.
fn with_record_id(
    session: &Session<'_>,
    id: &str,
    prefix: bool,
    limit: usize,
) -> Result<BTreeSet<String>, Fail> {
    let mut keys = BTreeSet::new();
    // The index begins with type and resource, and there are few of either: one short look for each.
    let sql = "SELECT DISTINCT usage_type, resource FROM tally WHERE resource <> 0";
    let places: Vec<(i64, i64)> = {
        let mut statement = session.connection.prepare_cached(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.collect::<Result<_, _>>()?
    };
    let sql = "SELECT local_record_id, key FROM identity \
               WHERE usage_type = ?1 AND resource = ?2 AND local_record_id >= ?3 AND local_record_id <= ?4";
    let mut statement = session.connection.prepare_cached(sql)?;
    let last = if prefix { format!("{id}\u{10FFFF}") } else { id.to_owned() };
    for (usage_type, resource) in places {
        let mut found = statement.query((usage_type, resource, id, &last))?;
        while let Some(row) = found.next()? {
            let (record, key): (String, String) = (row.get(0)?, row.get(1)?);
            let next = record.strip_prefix(id).and_then(|rest| rest.chars().next());
            if next.is_none_or(|next| !next.is_alphanumeric()) {
                keys.insert(key);
            }
            if keys.len() >= limit {
                return Ok(keys);
            }
        }
    }
    Ok(keys)
}

pub(super) fn payload(session: &Session<'_>, key: &str) -> Result<Option<Vec<u8>>, Fail> {
    let row = session.existing(key)?;
    row.wanted.and_then(|wanted| wanted.payload).map(|payload| session.payload(payload)).transpose()
}

/// Everything that happened to a row: its own events, and those of its chunk, batches and reconciliations where it has
/// none of its own about the same thing.
pub(super) fn history(session: &Session<'_>, key: &str) -> Result<Vec<Entry>, Fail> {
    let Some(row) = session.row(key)? else { return Ok(Vec::new()) };
    let mut entries = events(session, "key = ?1", key)?;
    let past = |kind: i64| -> Result<Vec<i64>, Fail> {
        let sql = "SELECT id FROM past WHERE key = ?1 AND kind = ?2";
        let mut statement = session.connection.prepare_cached(sql)?;
        let found = statement.query_map((key, kind), |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    };
    if let Some(chunk) = row.born {
        entries.extend(events(session, "key IS NULL AND chunk = ?1", chunk)?);
    }
    for batch in past(PAST_BATCH)?.into_iter().chain(row.batch) {
        let own = entries.iter().any(|entry| entry.batch == Some(BatchId(batch)) && ends_batch(entry.what));
        let shared = events(session, "key IS NULL AND batch = ?1", batch)?;
        entries.extend(shared.into_iter().filter(|entry| !(own && ends_batch(entry.what))));
    }
    for confirm in past(PAST_CONFIRM)?.into_iter().chain(row.confirm) {
        entries.extend(events(session, "id = ?1", confirm)?);
    }
    entries.sort_by_key(|entry| entry.seq);
    Ok(entries)
}

/// True for what a batch ends with, for one record or for all.
fn ends_batch(what: What) -> bool {
    matches!(what, What::Moved(Event::Accepted | Event::Refused | Event::Lost | Event::NotSent))
}

fn events(session: &Session<'_>, wanted: &str, value: impl rusqlite::ToSql) -> Result<Vec<Entry>, Fail> {
    let sql = format!(
        "SELECT id, at, what, version, batch, chunk, person, detail FROM event WHERE {wanted} ORDER BY id"
    );
    let mut statement = session.connection.prepare_cached(&sql)?;
    let mut found = statement.query([value])?;
    let mut entries = Vec::new();
    while let Some(row) = found.next()? {
        let word: String = row.get(2)?;
        let what = What::from_word(&word);
        entries.push(Entry {
            seq: row.get(0)?,
            at: row.get(1)?,
            what: what.ok_or_else(|| LedgerError::Inconsistent(format!("an event called \"{word}\"")))?,
            version: row.get::<_, Option<i64>>(3)?.map(small).transpose()?,
            batch: row.get::<_, Option<i64>>(4)?.map(BatchId),
            chunk: row.get(5)?,
            by: row.get(6)?,
            detail: row.get(7)?,
        });
    }
    Ok(entries)
}

pub(super) fn groups(session: &Session<'_>, list: List, examples: usize) -> Result<Vec<Group>, Fail> {
    let (groups, example) = match list {
        List::Holds => (
            "SELECT reason, count(*), reason FROM hold WHERE closed_at IS NULL GROUP BY reason".to_owned(),
            "SELECT key FROM hold WHERE closed_at IS NULL AND reason = ?1 ORDER BY key LIMIT ?2".to_owned(),
        ),
        List::Quarantine => (
            "SELECT reason, count(*), reason FROM quarantine WHERE closed_at IS NULL GROUP BY reason"
                .to_owned(),
            "SELECT name.text || ':' || line FROM quarantine JOIN name ON name.id = file \
             WHERE closed_at IS NULL AND reason = ?1 ORDER BY quarantine.id LIMIT ?2"
                .to_owned(),
        ),
        List::Rejected | List::Failed => {
            let state = state_code(if list == List::Failed { State::Failed } else { State::Rejected });
            let rows = format!("FROM record WHERE state IN (1, 3, 5, 7) AND state = {state}");
            (
                format!("SELECT coalesce(error, ''), count(*), coalesce(error, '') {rows} GROUP BY 1"),
                format!("SELECT key {rows} AND coalesce(error, '') = ?1 ORDER BY key LIMIT ?2"),
            )
        }
        List::Unknown => {
            let rows =
                format!("FROM record WHERE state IN (1, 3, 5, 7) AND state = {}", state_code(State::Unknown));
            (
                format!(
                    "SELECT CASE usage_type WHEN 0 THEN 'Compute' WHEN 1 THEN 'Storage' ELSE 'Adjustment' END, \
                     count(*), usage_type {rows} GROUP BY usage_type"
                ),
                format!("SELECT key {rows} AND usage_type = ?1 ORDER BY key LIMIT ?2"),
            )
        }
    };
    let mut statement = session.connection.prepare_cached(&groups)?;
    let mut found = statement.query([])?;
    let mut result = Vec::new();
    while let Some(row) = found.next()? {
        let value: rusqlite::types::Value = row.get(2)?;
        let mut statement = session.connection.prepare_cached(&example)?;
        let keys = statement.query_map((value, signed(examples as u64)), |row| row.get(0))?;
        result.push(Group {
            reason: row.get(0)?,
            count: unsigned(row.get(1)?),
            examples: keys.collect::<Result<_, _>>()?,
        });
    }
    result.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    Ok(result)
}

pub(super) fn hold(session: &Session<'_>, key: &str) -> Result<Option<Hold>, Fail> {
    session.hold(key)
}

pub(super) fn holds(
    session: &Session<'_>,
    reason: Option<&str>,
    other_rules: Option<u128>,
    after: &str,
    limit: usize,
) -> Result<Vec<Hold>, Fail> {
    session.open_holds(reason, other_rules, after, limit)
}

pub(super) fn troubled(
    session: &Session<'_>,
    state: State,
    after: &str,
    limit: usize,
) -> Result<Vec<Row>, Fail> {
    let sql = format!(
        "SELECT {COLUMNS} FROM record WHERE state IN (1, 3, 5, 7) AND state = ?1 AND usage_type = ?2 AND key > ?3 \
         ORDER BY key LIMIT ?4"
    );
    let mut statement = session.connection.prepare_cached(&sql)?;
    let mut rows = Vec::new();
    for usage_type in UsageType::ALL {
        let mut found =
            statement.query((state_code(state), type_code(usage_type), after, signed(limit as u64)))?;
        while let Some(row) = found.next()? {
            rows.push(session.read(row)?);
        }
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows.truncate(limit);
    Ok(rows)
}

pub(super) fn quarantined(session: &Session<'_>, after: i64, limit: usize) -> Result<Vec<Quarantined>, Fail> {
    let sql = "SELECT id, source, reason, detail, text, file, line, first_seen, last_seen FROM quarantine \
               WHERE closed_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = session.connection.prepare_cached(sql)?;
    let mut found = statement.query((after, signed(limit as u64)))?;
    let mut texts = Vec::new();
    while let Some(row) = found.next()? {
        texts.push(Quarantined {
            id: row.get(0)?,
            source: session.name(row.get(1)?)?.to_string(),
            reason: row.get(2)?,
            detail: row.get(3)?,
            text: row.get(4)?,
            file: session.name(row.get(5)?)?.to_string(),
            line: unsigned(row.get(6)?),
            first_seen: row.get(7)?,
            last_seen: row.get(8)?,
        });
    }
    Ok(texts)
}

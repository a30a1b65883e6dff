//! Questions: totals, rows, histories, lists for people.

use super::session::Session;
use crate::ledger::codes::unsigned;
use crate::ledger::store::{About, Past, Store};
use crate::ledger::{BatchId, ChargeTotal, Entry, Event, Find, Group, List, Row, State, Totals, What};
use amie_usage::UsageType;
use std::collections::BTreeSet;

pub(in crate::ledger) fn totals<S: Store>(session: &Session<'_, S>) -> Result<Totals, S::Fail> {
    let mut totals = Totals::default();
    for ((usage_type, resource, project, state), (records, charge)) in session.store.tallies()? {
        let records = unsigned(records);
        if records == 0 {
            continue;
        }
        *totals.states.entry(state).or_default() += records;
        // Held runs that never mapped have neither resource nor charge.
        if resource != 0 {
            totals.charges.push(ChargeTotal {
                usage_type,
                resource: session.store.name(resource)?,
                project: session.store.name(project)?,
                state,
                records,
                charge,
            });
        }
    }
    totals.charges.sort_by(|a, b| {
        let place = |total: &ChargeTotal| {
            (total.usage_type, total.resource.clone(), total.project.clone(), total.state)
        };
        place(a).cmp(&place(b))
    });
    totals.held_total = unsigned(session.store.open_hold_count()?);
    totals.quarantined_open = session.store.open_text_count(0)?;
    Ok(totals)
}

pub(in crate::ledger) fn find<S: Store>(
    session: &Session<'_, S>,
    what: &Find,
    limit: usize,
) -> Result<Vec<Row>, S::Fail> {
    let keys = match what {
        Find::Key(key) => BTreeSet::from([key.clone()]),
        Find::Record(id) => session.store.with_record_id(id, false, limit)?,
        Find::Job(job) => {
            let mut keys = session.store.with_record_id(job, true, limit)?;
            // Held runs have no record id yet: their own text tells.
            keys.extend(session.store.holds_of_job(job, limit)?);
            keys
        }
    };
    let rows = keys.iter().filter_map(|key| session.store.row(key).transpose());
    rows.take(limit).collect()
}

pub(in crate::ledger) fn rows<S: Store>(
    session: &Session<'_, S>,
    project: Option<&str>,
    after: &str,
    limit: usize,
) -> Result<Vec<Row>, S::Fail> {
    let project = match project {
        None => None,
        Some(name) => match session.store.known_id(name)? {
            None => return Ok(Vec::new()),
            known => known,
        },
    };
    session.store.rows_after(project, after, limit)
}

pub(in crate::ledger) fn payload<S: Store>(
    session: &Session<'_, S>,
    key: &str,
) -> Result<Option<Vec<u8>>, S::Fail> {
    let row = session.existing(key)?;
    row.wanted.and_then(|wanted| wanted.payload).map(|payload| session.payload(payload)).transpose()
}

/// Everything that happened to a row: its own events, and those of its chunk, batches and reconciliations where it has
/// none of its own about the same thing.
pub(in crate::ledger) fn history<S: Store>(
    session: &Session<'_, S>,
    key: &str,
) -> Result<Vec<Entry>, S::Fail> {
    let store = session.store;
    let Some(row) = store.row(key)? else { return Ok(Vec::new()) };
    let mut entries = store.events(About::Key(key))?;
    if let Some(chunk) = row.born {
        entries.extend(store.events(About::Chunk(chunk))?);
    }
    for batch in store.past(key, Past::Batch)?.into_iter().chain(row.batch) {
        let own = entries.iter().any(|entry| entry.batch == Some(BatchId(batch)) && ends_batch(entry.what));
        let shared = store.events(About::Batch(batch))?;
        entries.extend(shared.into_iter().filter(|entry| !(own && ends_batch(entry.what))));
    }
    for confirm in store.past(key, Past::Confirm)?.into_iter().chain(row.confirm) {
        entries.extend(store.events(About::Event(confirm))?);
    }
    entries.sort_by_key(|entry| entry.seq);
    Ok(entries)
}

/// True for what a batch ends with, for one record or for all.
fn ends_batch(what: What) -> bool {
    matches!(what, What::Moved(Event::Accepted | Event::Refused | Event::Lost | Event::NotSent))
}

pub(in crate::ledger) fn groups<S: Store>(
    session: &Session<'_, S>,
    list: List,
    examples: usize,
) -> Result<Vec<Group>, S::Fail> {
    let mut groups = match list {
        List::Holds => session.store.hold_groups(examples),
        List::Quarantine => session.store.text_groups(examples),
        List::Rejected | List::Failed | List::Unknown => session.store.row_groups(list, examples),
    }?;
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    Ok(groups)
}

pub(in crate::ledger) fn troubled<S: Store>(
    session: &Session<'_, S>,
    state: State,
    after: &str,
    limit: usize,
) -> Result<Vec<Row>, S::Fail> {
    let mut rows = Vec::new();
    for usage_type in UsageType::ALL {
        session.store.in_state(state, usage_type, after, limit, |row| {
            rows.push(row);
            true
        })?;
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows.truncate(limit);
    Ok(rows)
}

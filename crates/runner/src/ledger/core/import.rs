//! What another program sent before: taken over as loaded, so that it is never sent again.
//!
//! What was sent is known by its wire identity alone, not by the run that it was made of. So a record is first kept under
//! a key of its own, which holds the identity; when mapping makes a record of that identity, the run's own row takes it
//! over, as sent and loaded, and the other is superseded.

use super::left::{self, LeftVerdict};
use super::session::{Session, digest_of, illegal};
use crate::ledger::row::{Identity, Sent, Wanted};
use crate::ledger::store::{Ahead, NewEvent, Store};
use crate::ledger::{Event, HoldEnd, Imported, Note, Person, Row, SentRecord, SourceFacts, State, What};
use amie_usage::UsageType;

/// How the key of an imported record begins; no run's key does.
const IMPORTED: &str = "imported/";

/// Records that are looked for together.
const PAGE: usize = 1_000;

/// True for the key of an imported record that no run has taken over.
pub(in crate::ledger) fn is_imported(key: &str) -> bool {
    key.starts_with(IMPORTED)
}

/// True where the ledger has any imported record, taken over or not.
pub(in crate::ledger) fn any<S: Store>(session: &Session<'_, S>) -> Result<bool, S::Fail> {
    session.any_begins(IMPORTED)
}

/// Takes records over. One whose identity is that of a run which the service took nothing of, is that run's; any other that
/// the ledger knows is left alone.
pub(in crate::ledger) fn import<S: Store>(
    session: &mut Session<'_, S>,
    records: &[SentRecord],
    origin: &str,
    person: Person<'_>,
    now: i64,
) -> Result<Imported, S::Fail> {
    let mut report = Imported::default();
    let mut chunk = None;
    let any_left = left::any(session)?;
    for page in records.chunks(PAGE) {
        let wires: Vec<(UsageType, Identity)> = page.iter().map(wire_of).collect();
        session.store.ahead(Ahead::Identities(&wires))?;
        let owner =
            |(usage_type, identity): &(UsageType, Identity)| session.store.owner(*usage_type, identity);
        let owners: Vec<Option<String>> = wires.iter().map(owner).collect::<Result<_, _>>()?;
        let keys: Vec<String> = page.iter().map(key_of).collect();
        let rows: Vec<&str> = keys.iter().chain(owners.iter().flatten()).map(String::as_str).collect();
        session.store.ahead(Ahead::Keys(&rows))?;
        for (((record, (_, identity)), key), owner) in page.iter().zip(wires).zip(keys).zip(owners) {
            // Also one that is there twice in a page.
            if session.store.row(&key)?.is_some() || known_unescaped(session, record, &key)? {
                report.known += 1;
                continue;
            }
            if let Some(owner) = owner {
                let imported = row_of(record, key, identity, 0, origin, now);
                match take_over_waiting(session, &owner, &imported, person, now)? {
                    true => report.imported += 1,
                    false => report.known += 1,
                }
                continue;
            }
            if any_left && was_left(session, record)? {
                report.known += 1;
                continue;
            }
            let chunk = match chunk {
                Some(chunk) => chunk,
                None => *chunk.insert(chunk_of(session, origin, person, now)?),
            };
            let row = row_of(record, key, identity, chunk, origin, now);
            let state = State::begin(Event::Imported).map_err(illegal(&row.key))?;
            session.save(None, &Row { state, ..row })?;
            report.imported += 1;
        }
    }
    Ok(report)
}

/// True where a run was here, and zero was sent in its place: what a list says of before is not there any more. Should
/// anything be charged there since, the service shows it, and that is an alarm.
fn was_left<S: Store>(session: &Session<'_, S>, record: &SentRecord) -> Result<bool, S::Fail> {
    let SentRecord { usage_type, resource, local_record_id, submit, .. } = record;
    let left = left::by(session, *usage_type, resource, local_record_id, Some(*submit))?;
    let load = |left: left::Left| left.load(Some(record.charge), record.loaded_at);
    Ok(left.is_some_and(|left| record.loaded_at.is_none() || load(left) == LeftVerdict::Known))
}

/// A chunk whose event says of all that is imported who did it, and why.
fn chunk_of<S: Store>(
    session: &Session<'_, S>,
    origin: &str,
    person: Person<'_>,
    now: i64,
) -> Result<i64, S::Fail> {
    let id = session.store.new_chunk(origin, 0, now)?;
    session.store.note(&NewEvent {
        chunk: Some(id),
        detail: person.why,
        person: Some(person.by),
        ..NewEvent::moved(now, Event::Imported)
    })?;
    Ok(id)
}

fn wire_of(record: &SentRecord) -> (UsageType, Identity) {
    let identity = Identity {
        resource: record.resource.as_str().into(),
        local_record_id: record.local_record_id.clone(),
        submit: record.submit,
    };
    (record.usage_type, identity)
}

fn key_of(record: &SentRecord) -> String {
    let SentRecord { usage_type, resource, local_record_id, submit, .. } = record;
    join(*usage_type, &escaped(resource), &escaped(local_record_id), *submit)
}

fn join(usage_type: UsageType, resource: &str, local_record_id: &str, submit: i64) -> String {
    format!("{IMPORTED}{usage_type}/{resource}/{local_record_id}/{submit}")
}

/// A part of a key, so that no two lists of parts make one key.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

/// True where a record is known by the key that it had before parts of keys were escaped.
fn known_unescaped<S: Store>(
    session: &Session<'_, S>,
    record: &SentRecord,
    key: &str,
) -> Result<bool, S::Fail> {
    let SentRecord { usage_type, resource, local_record_id, submit, .. } = record;
    let old = join(*usage_type, resource, local_record_id, *submit);
    if old == key {
        return Ok(false);
    }
    let row = session.store.row(&old)?;
    Ok(row.and_then(|row| row.wanted).is_some_and(|wanted| {
        *wanted.identity.resource == **resource && wanted.identity.local_record_id == *local_record_id
    }))
}

fn row_of(record: &SentRecord, key: String, identity: Identity, chunk: i64, origin: &str, now: i64) -> Row {
    let at = record.loaded_at.unwrap_or(now);
    let wanted = Wanted {
        identity,
        username: record.username.as_str().into(),
        project: record.project.as_str().into(),
        charge: record.charge,
        digest: digest_of(key.as_bytes()),
        // Nothing is known of the run itself; but how many digits were given, for when one takes this over.
        facts: SourceFacts { elapsed: record.charge_places.into(), ..SourceFacts::default() },
        payload: None,
    };
    Row {
        state: State::Loaded,
        version: 1,
        wanted: Some(wanted),
        sent: Some(Sent { version: 1, charge: record.charge, first_at: at, last_at: at }),
        taken: true,
        born: Some(chunk),
        loaded: Some((at, record.charge)),
        ..Row::blank(key, record.usage_type, 0, origin.into(), record.line)
    }
}

/// Ends an imported record whose identity goes to the run that it was made of.
pub(in crate::ledger) fn retire<S: Store>(
    session: &mut Session<'_, S>,
    imported: &Row,
    by: &str,
    now: i64,
) -> Result<(), S::Fail> {
    let mut row = imported.clone();
    row.step(Event::Adopted).map_err(illegal(&row.key))?;
    (row.taken, row.sent) = (false, None);
    session.save(Some(imported), &row)?;
    session.store.note(&NewEvent::of(now, What::Moved(Event::Adopted), &row, by))?;
    Ok(())
}

/// The run that was read before: what waits of it, or was refused, is with the service all the same, and is not sent. False
/// where the service may hold something of it from here.
fn take_over_waiting<S: Store>(
    session: &mut Session<'_, S>,
    owner: &str,
    imported: &Row,
    person: Person<'_>,
    now: i64,
) -> Result<bool, S::Fail> {
    let before = session.existing(owner)?;
    let Some(offered) = before.wanted.clone().filter(|_| !before.frozen()) else { return Ok(false) };
    let mut row = before.clone();
    row.state = before.state.next(Event::Imported).map_err(illegal(owner))?;
    take_over(&mut row, imported, offered);
    let by = Some(person.by);
    if row.on_hold {
        row.on_hold = false;
        session.store.close_hold(owner, HoldEnd::Released, Some(person), now)?;
        let what = What::Noted(Note::HoldClosed);
        session.store.note(&NewEvent { person: by, ..NewEvent::of(now, what, &row, person.why) })?;
    }
    session.save(Some(&before), &row)?;
    let what = What::Moved(Event::Imported);
    session.store.note(&NewEvent { person: by, ..NewEvent::of(now, what, &row, person.why) })?;
    note_drift(session, &row, None, now)?;
    Ok(true)
}

/// Makes a run's row that of an imported record, as sent and loaded.
pub(in crate::ledger) fn take_over(row: &mut Row, imported: &Row, offered: Wanted) {
    row.version = row.version.saturating_add(1);
    let offered = Wanted { payload: None, ..offered };
    let (wanted, drifted) = match &imported.wanted {
        Some(sent) => taken_over(sent, offered),
        None => (offered, false),
    };
    row.wanted = Some(wanted);
    row.sent = imported.sent.map(|sent| Sent { version: row.version, ..sent });
    (row.taken, row.drifted, row.loaded, row.error) = (true, drifted, imported.loaded, None);
}

/// Says, once, that a run that took over an imported record is charged otherwise by now.
pub(in crate::ledger) fn note_drift<S: Store>(
    session: &Session<'_, S>,
    row: &Row,
    chunk: Option<i64>,
    now: i64,
) -> Result<(), S::Fail> {
    if row.drifted {
        let what = What::Noted(Note::Drifted);
        let detail = "charged otherwise than what was imported";
        session.store.note(&NewEvent { chunk, ..NewEvent::of(now, what, row, detail) })?;
    }
    Ok(())
}

/// What a run's row holds after it took over an imported record: the record that mapping makes, where the charge is the
/// same after rounding to the digits given (and the project and user, where they are given); else what was sent.
/// True in the second case.
fn taken_over(imported: &Wanted, offered: Wanted) -> (Wanted, bool) {
    let given = u8::try_from(imported.facts.elapsed).unwrap_or(u8::MAX);
    let charge = offered.charge.rounded(given.max(imported.charge.places())) == imported.charge;
    let same = |sent: &str, offered: &str| sent.is_empty() || sent == offered;
    if charge && same(&imported.username, &offered.username) && same(&imported.project, &offered.project) {
        return (offered, false);
    }
    let or = |sent: &std::sync::Arc<str>, offered| if sent.is_empty() { offered } else { sent.clone() };
    let sent = Wanted {
        charge: imported.charge,
        username: or(&imported.username, offered.username),
        project: or(&imported.project, offered.project),
        digest: imported.digest,
        ..offered
    };
    (sent, true)
}

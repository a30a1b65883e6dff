//! Checks every invariant on every row, and replays every history through [`State::next`].

use super::query;
use super::session::{Session, digest_of};
use crate::ledger::row::PayloadRef;
use crate::ledger::store::{Place, Store};
use crate::ledger::{Entry, Fault, Row, State, What};
use amie_usage::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// More faults than this are not listed: the ledger is broken either way.
const MOST_FAULTS: usize = 1_000;

/// Entries of a sum that are said to differ.
const MOST_ENTRIES: usize = 5;

pub(in crate::ledger) fn verify<S: Store>(session: &Session<'_, S>) -> Result<Vec<Fault>, S::Fail> {
    let mut check = Check { session, faults: Vec::new(), sums: Sums::default() };
    for line in session.store.self_check()? {
        check.fault("file", line);
    }
    session.store.every_row(|row| {
        check.row(&row)?;
        Ok(check.faults.len() < MOST_FAULTS)
    })?;
    if check.faults.len() >= MOST_FAULTS {
        return Ok(check.faults);
    }
    check.sums()?;
    check.identities()?;
    check.holds()?;
    check.faults.truncate(MOST_FAULTS);
    Ok(check.faults)
}

/// What the rows add up to, to be held against what was kept by every change.
#[derive(Default)]
struct Sums {
    tallies: BTreeMap<Place, (i64, Option<Decimal>)>,
    chunks: BTreeMap<i64, i64>,
    batches: BTreeMap<i64, i64>,
    identities: i64,
    on_hold: i64,
}

struct Check<'s, 'a, S> {
    session: &'s Session<'a, S>,
    faults: Vec<Fault>,
    sums: Sums,
}

impl<S: Store> Check<'_, '_, S> {
    fn fault(&mut self, about: impl ToString, what: impl ToString) {
        self.faults.push(Fault { about: about.to_string(), what: what.to_string() });
    }

    fn row(&mut self, row: &Row) -> Result<(), S::Fail> {
        for fault in row.faults() {
            self.fault(&row.key, fault);
        }
        self.add(row)?;
        self.identity(row)?;
        self.payloads(row)?;
        self.batch(row)?;
        let history = query::history(self.session, &row.key)?;
        if let Err(why) = replay(row, &history) {
            self.fault(&row.key, why);
        }
        Ok(())
    }

    fn add(&mut self, row: &Row) -> Result<(), S::Fail> {
        let (resource, project) = match &row.wanted {
            None => (0, 0),
            Some(wanted) => {
                let known = |name| self.session.store.known_id(name).map(Option::unwrap_or_default);
                (known(&wanted.identity.resource)?, known(&wanted.project)?)
            }
        };
        let place = (row.usage_type, resource, project, row.state);
        let (records, sum) = self.sums.tallies.entry(place).or_insert((0, Some(Decimal::ZERO)));
        *records += 1;
        *sum = sum.and_then(|sum| sum.checked_add(row.charge().unwrap_or(Decimal::ZERO)));
        let newest = row.wanted.as_ref().and_then(|wanted| wanted.payload);
        for payload in newest.into_iter().chain(row.sent_payload) {
            *self.sums.chunks.entry(payload.chunk).or_default() += 1;
        }
        if let Some(batch) = row.batch
            && matches!(row.state, State::Accepted | State::Unknown)
        {
            *self.sums.batches.entry(batch).or_default() += 1;
        }
        self.sums.on_hold += i64::from(row.on_hold);
        Ok(())
    }

    fn identity(&mut self, row: &Row) -> Result<(), S::Fail> {
        let Some(wanted) = row.wanted.as_ref().filter(|_| row.owns_identity()) else { return Ok(()) };
        self.sums.identities += 1;
        if self.session.store.owner(row.usage_type, &wanted.identity)?.as_ref() != Some(&row.key) {
            self.fault(&row.key, "does not own its wire identity");
        }
        Ok(())
    }

    fn payloads(&mut self, row: &Row) -> Result<(), S::Fail> {
        let bytes = |payload: PayloadRef| self.session.payload(payload).map_err(|fail| format!("{fail:?}"));
        let mut found = Vec::new();
        if let Some((wanted, payload)) =
            row.wanted.as_ref().and_then(|wanted| Some((wanted, wanted.payload?)))
        {
            match bytes(payload) {
                Ok(bytes) if digest_of(&bytes) == wanted.digest => {}
                Ok(_) => found.push("payload differs from its digest".to_owned()),
                Err(why) => found.push(why),
            }
        }
        if let Some(Err(why)) = row.sent_payload.map(bytes) {
            found.push(why);
        }
        for what in found {
            self.fault(&row.key, what);
        }
        Ok(())
    }

    fn batch(&mut self, row: &Row) -> Result<(), S::Fail> {
        let Some(batch) = row.batch else { return Ok(()) };
        let Some(found) = self.session.store.batch(batch)? else {
            self.fault(&row.key, format!("names batch {batch}, which is not there"));
            return Ok(());
        };
        if found.open != (row.state == State::Sending) {
            let word = if found.open { "open" } else { "settled" };
            self.fault(&row.key, format!("is {}, but its batch is {word}", row.state));
        }
        if found.usage_type != row.usage_type {
            self.fault(&row.key, "is in a batch of another type");
        }
        Ok(())
    }

    fn sums(&mut self) -> Result<(), S::Fail> {
        let store = self.session.store;
        let kept: BTreeMap<_, _> =
            store.tallies()?.into_iter().map(|(place, (rows, sum))| (place, (rows, Some(sum)))).collect();
        let chunks = store.references()?;
        let (stored, batches) = (store.stored_payloads()?, store.waiting()?);
        let found = [
            ("totals", difference("place", &kept, &self.sums.tallies)),
            ("payload references", difference("chunk", &chunks, &self.sums.chunks)),
            ("payloads", difference("chunk", &stored, &chunks)),
            ("batches", difference("batch", &batches, &self.sums.batches)),
        ];
        for (about, difference) in found {
            if let Some(what) = difference {
                self.fault(about, what);
            }
        }
        Ok(())
    }

    fn identities(&mut self) -> Result<(), S::Fail> {
        let (stored, owned) = (self.session.store.identities()?, self.sums.identities);
        if stored != owned {
            self.fault("identities", format!("{stored} are stored, but {owned} rows have one"));
        }
        Ok(())
    }

    fn holds(&mut self) -> Result<(), S::Fail> {
        let store = self.session.store;
        let (open, matched) = (store.open_hold_count()?, store.matched_hold_count()?);
        let said = self.sums.on_hold;
        if open != matched || open != said {
            self.fault(
                "holds",
                format!("{open} are open, {matched} of them with a row that says so, of {said}"),
            );
        }
        Ok(())
    }
}

/// Where what was kept is not what the rows say: the first entries that differ, and how many others do.
fn difference<K: Ord + Debug, V: PartialEq + Debug>(
    name: &str,
    kept: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Option<String> {
    let keys: BTreeSet<&K> = kept.keys().chain(found.keys()).collect();
    let mut differ = keys.into_iter().filter(|key| kept.get(key) != found.get(key)).peekable();
    differ.peek()?;
    let shown = |value: Option<&V>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"));
    let mut text = Vec::new();
    for key in differ.by_ref().take(MOST_ENTRIES) {
        let (kept, found) = (shown(kept.get(key)), shown(found.get(key)));
        text.push(format!("{name} {key:?}: kept {kept}, but the rows refer to {found}"));
    }
    let more = differ.count();
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    Some(text.join("; "))
}

/// Where the history of a row leads, by the same function that moved it.
fn replay(row: &Row, history: &[Entry]) -> Result<(), String> {
    let mut state: Option<State> = None;
    for entry in history {
        let What::Moved(event) = entry.what else { continue };
        let next = match state {
            None => State::begin(event),
            Some(state) => state.next(event),
        };
        state = Some(next.map_err(|error| format!("its history at event {}: {error}", entry.seq))?);
    }
    match state {
        Some(state) if state == row.state => Ok(()),
        other => Err(format!(
            "its history leads to {}, but it is {}",
            other.map_or("nothing", State::as_str),
            row.state
        )),
    }
}

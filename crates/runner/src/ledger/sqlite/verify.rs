//! Checks every invariant on every row, and replays every history through [`State::next`].

use super::codes::{charge, state_code, type_code, usage_type};
use super::store::{COLUMNS, Session, digest_of};
use super::{Fail, query};
use crate::ledger::row::PayloadRef;
use crate::ledger::{Entry, Fault, Row, State, What};
use amie_usage::Decimal;
use std::collections::BTreeMap;

/// More faults than this are not listed: the ledger is broken either way.
const MOST_FAULTS: usize = 1_000;

pub(super) fn verify(session: &Session<'_>) -> Result<Vec<Fault>, Fail> {
    let mut check = Check { session, faults: Vec::new(), sums: Sums::default() };
    check.file()?;
    let sql = format!("SELECT {COLUMNS} FROM record ORDER BY key");
    let mut statement = session.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let row = session.read(row)?;
        check.row(&row)?;
        if check.faults.len() >= MOST_FAULTS {
            return Ok(check.faults);
        }
    }
    check.sums()?;
    check.identities()?;
    check.holds()?;
    check.faults.truncate(MOST_FAULTS);
    Ok(check.faults)
}

/// Usage type, resource, project, state.
type Place = (i64, i64, i64, i64);

/// What the rows add up to, to be held against what was kept by every change.
#[derive(Default)]
struct Sums {
    tally: BTreeMap<Place, (i64, Option<Decimal>)>,
    chunks: BTreeMap<i64, i64>,
    batches: BTreeMap<i64, i64>,
    identities: i64,
    on_hold: i64,
}

struct Check<'s, 'a> {
    session: &'s Session<'a>,
    faults: Vec<Fault>,
    sums: Sums,
}

impl Check<'_, '_> {
    fn fault(&mut self, about: impl ToString, what: impl ToString) {
        self.faults.push(Fault { about: about.to_string(), what: what.to_string() });
    }

    /// SQLite's own check of its pages and indexes.
    fn file(&mut self) -> Result<(), Fail> {
        let mut statement = self.session.connection.prepare("PRAGMA quick_check(20)")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let line: String = row.get(0)?;
            if line != "ok" {
                self.fault("file", line);
            }
        }
        Ok(())
    }

    fn row(&mut self, row: &Row) -> Result<(), Fail> {
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

    fn add(&mut self, row: &Row) -> Result<(), Fail> {
        let (resource, project) = match &row.wanted {
            None => (0, 0),
            Some(wanted) => {
                let known = |name| self.session.known_id(name).map(Option::unwrap_or_default);
                (known(&wanted.identity.resource)?, known(&wanted.project)?)
            }
        };
        let place = (type_code(row.usage_type), resource, project, state_code(row.state));
        let (records, sum) = self.sums.tally.entry(place).or_insert((0, Some(Decimal::ZERO)));
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

    fn identity(&mut self, row: &Row) -> Result<(), Fail> {
        let Some(wanted) = row.wanted.as_ref().filter(|_| row.owns_identity()) else { return Ok(()) };
        self.sums.identities += 1;
        if self.session.identity_owner(row.usage_type, &wanted.identity)?.as_ref() != Some(&row.key) {
            self.fault(&row.key, "does not own its wire identity");
        }
        Ok(())
    }

    fn payloads(&mut self, row: &Row) -> Result<(), Fail> {
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

    fn batch(&mut self, row: &Row) -> Result<(), Fail> {
        let Some(batch) = row.batch else { return Ok(()) };
        let sql = "SELECT settled_at IS NULL, usage_type FROM batch WHERE id = ?1";
        let mut statement = self.session.connection.prepare_cached(sql)?;
        let mut found = statement.query([batch])?;
        match found.next()? {
            None => self.fault(&row.key, format!("names batch {batch}, which is not there")),
            Some(found) => {
                let open: bool = found.get(0)?;
                if open != (row.state == State::Sending) {
                    self.fault(
                        &row.key,
                        format!(
                            "is {}, but its batch is {}",
                            row.state,
                            if open { "open" } else { "settled" }
                        ),
                    );
                }
                if usage_type(found.get(1)?)? != row.usage_type {
                    self.fault(&row.key, "is in a batch of another type");
                }
            }
        }
        Ok(())
    }

    fn sums(&mut self) -> Result<(), Fail> {
        let mut kept = BTreeMap::new();
        let mut statement = self.session.connection.prepare(
            "SELECT usage_type, resource, project, state, records, charge FROM tally \
             WHERE records <> 0 OR charge <> '0'",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let text: String = row.get(5)?;
            let place = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            kept.insert(place, (row.get(4)?, Some(charge(&text)?)));
        }
        if kept != self.sums.tally {
            let what = format!("kept {kept:?}, but the rows add up to {:?}", self.sums.tally);
            self.fault("totals", what);
        }
        let chunks = self.numbers("SELECT id, live FROM chunk WHERE live <> 0")?;
        if chunks != self.sums.chunks {
            let what = format!("kept {chunks:?}, but the rows refer to {:?}", self.sums.chunks);
            self.fault("payload references", what);
        }
        let stored =
            self.numbers("SELECT payload.chunk, live FROM payload JOIN chunk ON chunk.id = payload.chunk")?;
        if stored != chunks {
            self.fault("payloads", format!("of {stored:?} are stored, but {chunks:?} are needed"));
        }
        let batches = self.numbers("SELECT id, waiting FROM batch WHERE waiting <> 0")?;
        if batches != self.sums.batches {
            let what = format!("kept {batches:?}, but the rows say {:?}", self.sums.batches);
            self.fault("batches", what);
        }
        Ok(())
    }

    fn numbers(&self, sql: &str) -> Result<BTreeMap<i64, i64>, Fail> {
        let mut statement = self.session.connection.prepare(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn identities(&mut self) -> Result<(), Fail> {
        let stored: i64 =
            self.session.connection.query_row("SELECT count(*) FROM identity", [], |row| row.get(0))?;
        if stored != self.sums.identities {
            self.fault(
                "identities",
                format!("{stored} are stored, but {} rows have one", self.sums.identities),
            );
        }
        Ok(())
    }

    fn holds(&mut self) -> Result<(), Fail> {
        let sql = "SELECT count(*) FROM hold WHERE closed_at IS NULL";
        let open: i64 = self.session.connection.query_row(sql, [], |row| row.get(0))?;
        let sql =
            "SELECT count(*) FROM hold JOIN record USING (key) WHERE closed_at IS NULL AND flags & 8 <> 0";
        let matched: i64 = self.session.connection.query_row(sql, [], |row| row.get(0))?;
        if open != matched || open != self.sums.on_hold {
            self.fault(
                "holds",
                format!(
                    "{open} are open, {matched} of them with a row that says so, of {}",
                    self.sums.on_hold
                ),
            );
        }
        Ok(())
    }
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

//! A ledger over any store: each method is one transaction around one function of [`core`](super::core).

use super::core::session::{Blobs, Session};
use super::core::{
    adjust, brake, confirm, go_live, import, ingest, moving, news, outdated, people, query, restored, send,
    verify, watch,
};
use super::store::{Holding, Purpose, Store};
use super::{
    Adjustment, AdjustmentVerdict, Awaiting, BatchId, Binding, Braked, Carried, Chunk, Compacted, Confirmed,
    Decided, Entry, Fault, Find, GoLive, Group, Hold, HoldEnd, Imported, Ingested, LeaseRequest, Leased,
    Ledger, LedgerError, List, Logged, News, Older, Person, Progress, Quarantined, RecordOutcome, Recovered,
    Restored, Retry, Reviewed, Row, SentRecord, Settled, Sighting, State, Totals,
};
use crate::crash;
use amie_usage::UsageType;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A ledger in a store. See [`Ledger`] for what it does, and the aliases of this type for how it is opened.
#[derive(Debug)]
pub struct Book<S> {
    pub(super) store: S,
    binding: Binding,
    /// What it lacks, where it is open for questions only.
    pub(super) older: Option<Older>,
    blobs: RefCell<Blobs>,
}

impl<S: Store> Book<S> {
    pub(super) fn new(store: S, binding: Binding) -> Self {
        Self { store, binding, older: None, blobs: RefCell::default() }
    }

    /// One change: everything that `work` does, and what follows from it, in one durable transaction.
    pub(super) fn change<T>(
        &mut self,
        work: impl Fn(&mut Session<'_, S>) -> Result<T, S::Fail>,
    ) -> Result<T, LedgerError> {
        let once = || {
            self.store.begin(Purpose::Change)?;
            let mut session = Session::new(&self.store, &self.blobs);
            let value = work(&mut session)?;
            session.flush()?;
            crash::point("committing");
            self.store.commit()?;
            crash::point("committed");
            Ok(value)
        };
        self.attempts(once)
    }

    /// One question, in one snapshot.
    pub(super) fn ask<T>(
        &self,
        work: impl Fn(&Session<'_, S>) -> Result<T, S::Fail>,
    ) -> Result<T, LedgerError> {
        let once = || {
            self.store.begin(Purpose::Question)?;
            let value = work(&Session::new(&self.store, &self.blobs))?;
            self.store.commit()?;
            Ok(value)
        };
        self.attempts(once)
    }

    fn attempts<T>(&self, once: impl Fn() -> Result<T, S::Fail>) -> Result<T, LedgerError> {
        let mut attempt = 1;
        loop {
            match once() {
                Ok(value) => return Ok(value),
                Err(fail) => {
                    self.store.rollback();
                    // Payloads that the transaction would have stored are not there.
                    self.blobs.replace(Blobs::default());
                    if !self.store.worth_repeating(&fail, attempt) {
                        return Err(self.store.explain(fail));
                    }
                    attempt += 1;
                }
            }
        }
    }
}

impl<S: Store + Send> Ledger for Book<S> {
    fn binding(&self) -> &Binding {
        &self.binding
    }

    fn older(&self) -> Option<&Older> {
        self.older.as_ref()
    }

    fn ingest(&mut self, chunk: &Chunk, now: i64) -> Result<Ingested, LedgerError> {
        self.change(|session| {
            let doubted = restored::doubted(session, chunk)?;
            ingest::ingest(session, doubted.as_ref().unwrap_or(chunk), None, now)
        })
    }

    fn restate(&mut self, chunk: &Chunk, person: Person<'_>, now: i64) -> Result<Ingested, LedgerError> {
        self.change(|session| {
            let doubted = restored::doubted(session, chunk)?;
            ingest::ingest(session, doubted.as_ref().unwrap_or(chunk), Some(person), now)
        })
    }

    fn recover(&mut self, now: i64) -> Result<Recovered, LedgerError> {
        self.change(|session| send::recover(session, now))
    }

    fn lease(&mut self, request: &LeaseRequest) -> Result<Option<Leased>, LedgerError> {
        self.change(|session| send::lease(session, request))
    }

    fn settle(
        &mut self,
        batch: BatchId,
        outcomes: &[RecordOutcome],
        note: &str,
        now: i64,
    ) -> Result<Settled, LedgerError> {
        self.change(|session| send::settle(session, batch, outcomes, note, now))
    }

    fn confirm(&mut self, sightings: &[Sighting], now: i64) -> Result<Confirmed, LedgerError> {
        self.change(|session| confirm::confirm(session, sightings, now))
    }

    fn resolve_unknown(
        &mut self,
        keys: &[String],
        arrived: bool,
        person: Person<'_>,
        now: i64,
    ) -> Result<Decided, LedgerError> {
        self.change(|session| people::resolve_unknown(session, keys, arrived, person, now))
    }

    fn resolve_accepted(
        &mut self,
        keys: &[String],
        loaded: bool,
        person: Person<'_>,
        now: i64,
    ) -> Result<Decided, LedgerError> {
        self.change(|session| people::resolve_accepted(session, keys, loaded, person, now))
    }

    fn finish_moves(&mut self, quiet_seconds: u32, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| moving::finish_moves(session, quiet_seconds, now))
    }

    fn brake_night(&mut self, factor: u32, now: i64) -> Result<Vec<Braked>, LedgerError> {
        self.change(|session| brake::brake_night(session, factor, now))
    }

    fn judge_adjustments(&self, adjustments: &[Adjustment]) -> Result<Vec<AdjustmentVerdict>, LedgerError> {
        self.ask(|session| adjust::judge(session, adjustments))
    }

    fn adjust(
        &mut self,
        adjustments: &[Adjustment],
        person: Person<'_>,
        now: i64,
    ) -> Result<u64, LedgerError> {
        self.change(|session| adjust::adjust(session, adjustments, person, now))
    }

    fn retry(&mut self, which: &Retry, person: Person<'_>, now: i64) -> Result<Decided, LedgerError> {
        self.change(|session| people::retry(session, which, person, now))
    }

    fn withdraw(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| adjust::withdraw(session, keys, person, now))
    }

    fn approve(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<Decided, LedgerError> {
        self.change(|session| people::approve(session, keys, person, now))
    }

    fn close_holds(
        &mut self,
        keys: &[String],
        end: HoldEnd,
        person: Person<'_>,
        now: i64,
    ) -> Result<u64, LedgerError> {
        self.change(|session| people::close_holds(session, keys, end, person, now))
    }

    fn reopen_holds(&mut self, keys: &[String], person: Person<'_>, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| people::reopen_holds(session, keys, person, now))
    }

    fn close_quarantine(&mut self, ids: &[i64], person: Person<'_>, now: i64) -> Result<u64, LedgerError> {
        self.change(|session| people::close_quarantine(session, ids, person, now))
    }

    fn compact(&mut self, before: i64) -> Result<Compacted, LedgerError> {
        let compacted = self.change(|session| {
            Ok(Compacted {
                holds: session.store.forget_closed_holds(before)?,
                texts: session.store.forget_closed_texts(before)?,
                files: session.store.forget_progress(before)?,
            })
        })?;
        self.store.shrink().map_err(|fail| self.store.explain(fail))?;
        Ok(compacted)
    }

    fn accept_restored(
        &mut self,
        might_add: &[UsageType],
        person: Person<'_>,
        now: i64,
    ) -> Result<Restored, LedgerError> {
        self.change(|session| restored::accept(session, might_add, person, now))
    }

    fn import_sent(
        &mut self,
        records: &[SentRecord],
        origin: &str,
        person: Person<'_>,
        now: i64,
    ) -> Result<Imported, LedgerError> {
        self.change(|session| import::import(session, records, origin, person, now))
    }

    fn keep_go_live(
        &mut self,
        configured: &BTreeMap<String, i64>,
        now: i64,
    ) -> Result<Vec<GoLive>, LedgerError> {
        self.change(|session| go_live::keep(session, configured, now))
    }

    fn set_go_live(
        &mut self,
        resource: &str,
        from: Option<i64>,
        person: Person<'_>,
        now: i64,
    ) -> Result<(), LedgerError> {
        self.change(|session| go_live::set(session, resource, from, Some(person), now))
    }

    fn go_live(&self, resource: &str) -> Result<Option<i64>, LedgerError> {
        self.ask(|session| go_live::in_force(session, resource))
    }

    fn news(&self) -> Result<News, LedgerError> {
        self.ask(|session| news::news(session))
    }

    fn mark_reported(&mut self, news: &News) -> Result<(), LedgerError> {
        self.change(|session| news::mark_reported(session, news))
    }

    fn progress(&self, source: &str, path: &str) -> Result<Option<Progress>, LedgerError> {
        self.ask(|session| session.store.progress(source, path))
    }

    fn carried(&self, source: &str, point: &str) -> Result<Option<Carried>, LedgerError> {
        self.ask(|session| session.store.carried(source, point))
    }

    fn totals(&self) -> Result<Totals, LedgerError> {
        self.ask(|session| query::totals(session))
    }

    fn awaiting(&self) -> Result<Vec<Awaiting>, LedgerError> {
        self.ask(|session| session.store.awaiting())
    }

    fn watched_since(&self, now: i64) -> Result<Option<i64>, LedgerError> {
        self.ask(|session| watch::watched_since(session, now))
    }

    fn looked_at_loads(&mut self, at: i64) -> Result<(), LedgerError> {
        self.change(|session| watch::looked(session, at))
    }

    fn find(&self, what: &Find, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.ask(|session| query::find(session, what, limit))
    }

    fn rows(&self, project: Option<&str>, after: &str, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.ask(|session| query::rows(session, project, after, limit))
    }

    fn outdated(&self, row: &Row, source_digest: u128) -> Result<bool, LedgerError> {
        self.ask(|session| outdated::is_outdated(session, row, source_digest))
    }

    fn history(&self, key: &str) -> Result<Vec<Entry>, LedgerError> {
        self.ask(|session| query::history(session, key))
    }

    fn payload(&self, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.ask(|session| query::payload(session, key))
    }

    fn groups(&self, list: List, examples: usize) -> Result<Vec<Group>, LedgerError> {
        self.ask(|session| query::groups(session, list, examples))
    }

    fn hold(&self, key: &str) -> Result<Option<Hold>, LedgerError> {
        self.ask(|session| session.store.hold(key))
    }

    fn holds(&self, reason: Option<&str>, after: &str, limit: usize) -> Result<Vec<Hold>, LedgerError> {
        let which = Holding { reason, other_rules: None };
        self.ask(|session| session.store.open_holds(which, after, limit))
    }

    fn open_holds_with_other_rules(
        &self,
        rules_digest: u128,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Hold>, LedgerError> {
        let which = Holding { reason: None, other_rules: Some(rules_digest) };
        self.ask(|session| session.store.open_holds(which, after, limit))
    }

    fn troubled(&self, state: State, after: &str, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.ask(|session| query::troubled(session, state, after, limit))
    }

    fn quarantined(&self, after: i64, limit: usize) -> Result<Vec<Quarantined>, LedgerError> {
        self.ask(|session| session.store.open_texts(after, limit))
    }

    fn events(&self, after: i64, limit: usize) -> Result<Vec<Logged>, LedgerError> {
        self.ask(|session| session.store.events_after(after, limit))
    }

    fn texts(&self, after: i64, limit: usize) -> Result<Vec<Reviewed>, LedgerError> {
        self.ask(|session| session.store.texts_after(after, limit))
    }

    fn verify(&self) -> Result<Vec<Fault>, LedgerError> {
        self.ask(|session| verify::verify(session))
    }
}

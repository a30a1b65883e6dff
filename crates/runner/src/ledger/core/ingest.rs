//! Taking in a chunk: records, held runs, quarantined texts and progress, all in one transaction.
//!
//! Records are taken in key order, in groups of a size that the store names. What is the same as before is counted, what is
//! new goes in together, and each of the others is compared with its row and [decided](crate::ledger::restate) upon.

use super::hold::StoredCandidate;
use super::session::{Session, digest_of, illegal};
use super::standing::{Standing, standings};
use super::twin::{Times, same_job};
use super::{adjust, go_live, import, outdated, twin};
use crate::ledger::codes::signed;
use crate::ledger::restate::{
    COLLISION, Cause, Decision, HeldDecision, LOG_INCOMPLETE, MOVING, NIGHT, OTHER_TIMES, Offer, Suspicion,
    decide, decide_held, zero_record,
};
use crate::ledger::row::{Identity, PayloadRef, Wanted};
use crate::ledger::store::{Ahead, Fresh, Incoming, NewEvent, NewHold, Store};
use crate::ledger::{
    CARRIED_DAYS, Candidate, Chunk, Event, HeldRun, HoldEnd, Ingested, LedgerError, Note, Person,
    QuarantinedText, Row, State, What,
};
use amie_usage::{Decimal, UsageType};
use foldhash::fast::RandomState;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

pub(in crate::ledger) fn ingest<S: Store>(
    session: &mut Session<'_, S>,
    chunk: &Chunk,
    approval: Option<Person<'_>>,
    now: i64,
) -> Result<Ingested, S::Fail> {
    check(chunk)?;
    let id = session.store.new_chunk(&chunk.source, chunk.rules_digest, now)?;
    let kept = session.buffer();
    let mut taking = Taking {
        session,
        chunk,
        id,
        approval,
        now,
        kept,
        used: false,
        withheld: None,
        refunds: None,
        imports: None,
        report: Ingested::default(),
    };
    taking.records()?;
    let held: Vec<&str> = chunk.held.iter().map(|held| held.key.as_str()).collect();
    taking.session.store.ahead(Ahead::Keys(&held))?;
    for held in &chunk.held {
        taking.held(held)?;
    }
    let digests: Vec<u128> = chunk.quarantined.iter().map(|text| digest_of(&text.text)).collect();
    taking.session.store.ahead(Ahead::Texts { source: &chunk.source, digests: &digests })?;
    for (text, digest) in chunk.quarantined.iter().zip(digests) {
        taking.quarantined(text, digest)?;
    }
    if let Some(progress) = &chunk.progress {
        taking.session.store.set_progress(&chunk.source, progress, now)?;
    }
    for carried in &chunk.carried {
        taking.session.store.set_carried(&chunk.source, carried, now)?;
    }
    if !chunk.carried.is_empty() {
        let before = now.saturating_sub(CARRIED_DAYS.saturating_mul(86_400));
        taking.session.store.drop_carried(&chunk.source, before)?;
    }
    if taking.report.restated > 0 {
        super::watch::restated(taking.session, now)?;
    }
    taking.finish()
}

/// A chunk whose entries point outside it is refused whole.
fn check(chunk: &Chunk) -> Result<(), LedgerError> {
    let bad = LedgerError::BadChunk;
    if u32::try_from(chunk.payloads.len()).is_err() {
        return Err(bad("its payloads have 4 GiB or more".into()));
    }
    let file = |key: &str, file: u32| match chunk.files.get(file as usize) {
        Some(_) => Ok(()),
        None => Err(bad(format!("\"{key}\" names file {file} of {}", chunk.files.len()))),
    };
    let candidates = chunk.held.iter().filter_map(|held| held.candidate.as_ref());
    for candidate in chunk.records.iter().chain(candidates) {
        if candidate.key.is_empty() {
            return Err(bad(format!("record {} has no key", candidate.local_record_id)));
        }
        file(&candidate.key, candidate.file)?;
        if chunk.payloads.get(candidate.payload.clone()).is_none_or(<[u8]>::is_empty) {
            return Err(bad(format!("\"{}\" has no payload", candidate.key)));
        }
    }
    for held in &chunk.held {
        file(&held.key, held.file)?;
        if held.candidate.as_ref().is_some_and(|candidate| candidate.key != held.key) {
            return Err(bad(format!("\"{}\" is held with the record of another key", held.key)));
        }
    }
    chunk.quarantined.iter().try_for_each(|text| file(&text.reason, text.file))
}

/// True where one of these records wants the wire identity of one of those. Then it matters which comes first, and both are
/// taken in order.
fn share_identity(these: &[Incoming<'_>], those: &[Incoming<'_>]) -> bool {
    fn identity<'c>(incoming: &Incoming<'c>) -> (&'c str, i64, &'c str) {
        let candidate = incoming.candidate;
        (&candidate.local_record_id, candidate.submit, &candidate.resource)
    }
    let wanted: HashSet<_, RandomState> = those.iter().map(identity).collect();
    !wanted.is_empty() && these.iter().map(identity).any(|identity| wanted.contains(&identity))
}

/// The bytes and the file of a candidate: checked before.
fn payload_of<'c>(chunk: &'c Chunk, candidate: &Candidate) -> &'c [u8] {
    chunk.payloads.get(candidate.payload.clone()).unwrap_or_default()
}

fn file_of(chunk: &Chunk, file: u32) -> Arc<str> {
    chunk.files.get(file as usize).cloned().unwrap_or_default()
}

/// Where bytes lie in a chunk. Its payloads are below 4 GiB, and each is kept once: checked before.
fn place(chunk: i64, offset: usize, len: usize) -> PayloadRef {
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    PayloadRef { chunk, offset: small(offset), len: small(len) }
}

fn wanted_of(candidate: &Candidate, digest: u128, payload: Option<PayloadRef>) -> Wanted {
    Wanted {
        identity: candidate.identity(),
        username: Arc::clone(&candidate.username),
        project: Arc::clone(&candidate.project),
        charge: candidate.charge,
        digest,
        facts: candidate.facts,
        payload,
    }
}

/// A chunk on its way in.
struct Taking<'s, 'a, 'c, S> {
    session: &'s mut Session<'a, S>,
    chunk: &'c Chunk,
    id: i64,
    approval: Option<Person<'c>>,
    now: i64,
    /// Payloads that rows refer to: those of new and changed records only.
    kept: Vec<u8>,
    /// True once something refers to the chunk.
    used: bool,
    /// The chunk of rows that are recorded and not sent: an event of its own says so.
    withheld: Option<i64>,
    /// True where anything was ever refunded, as far as was asked.
    refunds: Option<bool>,
    /// True where anything was ever imported, as far as was asked.
    imports: Option<bool>,
    report: Ingested,
}

impl<'c, S: Store> Taking<'_, '_, 'c, S> {
    fn records(&mut self) -> Result<(), S::Fail> {
        let chunk = self.chunk;
        let incoming = |candidate: &'c Candidate| Incoming {
            candidate,
            digest: digest_of(payload_of(chunk, candidate)),
        };
        let mut sorted: Vec<Incoming<'c>> = chunk.records.iter().map(incoming).collect();
        if !sorted.is_sorted_by(|a, b| a.candidate.key <= b.candidate.key) {
            sorted.sort_by(|a, b| a.candidate.key.cmp(&b.candidate.key));
        }
        // The same key once more in one chunk is taken after the first, as in two chunks.
        let mut repeated = Vec::new();
        let mut last: Option<&str> = None;
        sorted.retain(|incoming| {
            let again = last == Some(incoming.candidate.key.as_str());
            last = Some(&incoming.candidate.key);
            if again {
                repeated.push(*incoming);
            }
            !again
        });
        let mut before = None;
        for group in sorted.chunks(S::TOGETHER.max(1)) {
            self.group(group, before)?;
            before = group.last().map(|incoming| incoming.candidate.key.as_str());
        }
        self.session.store.ahead(Ahead::Incoming(&repeated))?;
        repeated.into_iter().try_for_each(|incoming| self.one(incoming))
    }

    /// Takes in a group in key order, behind the key `before`: what is new together, then what must be looked at, in order.
    fn group(&mut self, group: &[Incoming<'c>], mut before: Option<&'c str>) -> Result<(), S::Fail> {
        let standings = standings(self.session.store, group)?;
        let (mut new, mut others) = (Vec::new(), Vec::new());
        for (incoming, standing) in group.iter().zip(standings) {
            let candidate = incoming.candidate;
            // Two runs of one job may be one run by other times: the second is looked at when the first is there.
            let second = before.is_some_and(|before| same_job(before, &candidate.key));
            before = Some(&candidate.key);
            match standing {
                _ if self.too_early(candidate)? => others.push(*incoming),
                // A zero charge of what another program sent is not nothing.
                Standing::New if candidate.only_if_sent && self.any_imports()? => others.push(*incoming),
                Standing::Same => self.report.unchanged += 1,
                Standing::New if !second => new.push(*incoming),
                Standing::New | Standing::Beside | Standing::Other => others.push(*incoming),
            }
        }
        if share_identity(&new, &others) || !self.all_new(&new)? {
            // A tenth at a time: where one identity is taken, most of the others need not be looked at one by one.
            for tenth in new.chunks(new.len().div_ceil(10).max(1)) {
                if share_identity(tenth, &others) || !self.all_new(tenth)? {
                    others.extend_from_slice(tenth);
                }
            }
            others.sort_by(|a, b| a.candidate.key.cmp(&b.candidate.key));
        }
        self.session.store.ahead(Ahead::Incoming(&others))?;
        others.into_iter().try_for_each(|incoming| self.one(incoming))
    }

    /// A known row that is the same run by other times.
    fn twin(&self, candidate: &Candidate) -> Result<Option<String>, S::Fail> {
        let times = Times { submit: candidate.submit, facts: candidate.facts };
        twin::known(self.session, &candidate.key, times)
    }

    /// Inserts new records together; false, with nothing done, where the wire identity of one is taken.
    fn all_new(&mut self, new: &[Incoming<'c>]) -> Result<bool, S::Fail> {
        let store = self.session.store;
        store.ahead(Ahead::Names(new))?;
        let mut end = self.kept.len();
        let mut fresh: Vec<Fresh<'_>> = Vec::with_capacity(new.len());
        for incoming in new.iter().filter(|incoming| !incoming.candidate.only_if_sent) {
            let candidate = incoming.candidate;
            let payload = place(self.id, end, candidate.payload.len());
            end += candidate.payload.len();
            // Neighbours are mostly of one file and one resource: no need to look their numbers up again.
            let last = fresh.last().map(|last| (last, last.incoming.candidate));
            let (file, resource) = match last {
                Some((fresh, last)) => (
                    (last.file == candidate.file).then_some(fresh.file),
                    Arc::ptr_eq(&last.resource, &candidate.resource).then_some(fresh.resource),
                ),
                None => (None, None),
            };
            let name_of = |file| self.chunk.files.get(file as usize).map_or("", |file| file);
            fresh.push(Fresh {
                incoming: *incoming,
                payload,
                file: file.map_or_else(|| store.id(name_of(candidate.file)), Ok)?,
                resource: resource.map_or_else(|| store.id(&candidate.resource), Ok)?,
                username: store.id(&candidate.username)?,
                project: store.id(&candidate.project)?,
            });
        }
        if !fresh.is_empty() && !store.insert_fresh(&fresh)? {
            return Ok(false);
        }
        if !fresh.is_empty() {
            self.born()?;
        }
        for Fresh { incoming: Incoming { candidate, .. }, resource, project, .. } in &fresh {
            self.kept.extend_from_slice(payload_of(self.chunk, candidate));
            let place = (candidate.usage_type, *resource, *project, State::Pending);
            self.session.count_at(place, 1, candidate.charge)?;
        }
        self.session.count_payloads(self.id, signed(fresh.len() as u64));
        self.report.inserted += fresh.len() as u64;
        self.report.ignored += (new.len() - fresh.len()) as u64;
        Ok(true)
    }

    fn one(&mut self, incoming: Incoming<'c>) -> Result<(), S::Fail> {
        let Incoming { candidate, digest } = incoming;
        if self.too_early(candidate)? && self.withhold(candidate, digest)? {
            self.report.withheld += 1;
            return Ok(());
        }
        self.record(candidate, digest)
    }

    /// True where a record's run ended before its resource's go-live.
    fn too_early(&self, candidate: &Candidate) -> Result<bool, S::Fail> {
        let time = go_live::time_of(candidate.usage_type, candidate.facts, candidate.submit);
        go_live::is_too_early(self.session, &candidate.resource, time)
    }

    /// Records what is too early without owing it; false where the service may hold something of it, so that it goes
    /// its usual way.
    fn withhold(&mut self, candidate: &Candidate, digest: u128) -> Result<bool, S::Fail> {
        match self.session.store.row(&candidate.key)? {
            Some(before) if before.frozen() => return Ok(false),
            // An older version does not withhold what a newer one wants.
            Some(before) if self.is_outdated(Some(&before), candidate.source_digest)? => return Ok(false),
            Some(before) if before.state == State::Superseded => {}
            Some(before) => {
                self.used = true;
                let event = go_live::withhold(self.session, &before, self.now)?;
                let event = NewEvent { key: Some(&before.key), chunk: Some(self.id), ..event };
                self.session.store.note(&event)?;
            }
            None => {
                let row = self.blank(candidate);
                let row = Row {
                    state: State::begin(Event::Withheld).map_err(illegal(&row.key))?,
                    version: 1,
                    wanted: Some(wanted_of(candidate, digest, None)),
                    born: Some(self.withheld_chunk()?),
                    ..row
                };
                self.session.save(None, &row)?;
            }
        }
        Ok(true)
    }

    /// A chunk of its own for rows that are recorded and not sent: what is noted of a chunk is true of all its rows.
    fn withheld_chunk(&mut self) -> Result<i64, S::Fail> {
        if let Some(id) = self.withheld {
            return Ok(id);
        }
        let store = self.session.store;
        let id = store.new_chunk(&self.chunk.source, self.chunk.rules_digest, self.now)?;
        store.note(&NewEvent { chunk: Some(id), ..NewEvent::moved(self.now, Event::Withheld) })?;
        self.withheld = Some(id);
        Ok(id)
    }

    fn record(&mut self, candidate: &'c Candidate, digest: u128) -> Result<(), S::Fail> {
        let before = self.session.store.row(&candidate.key)?;
        let waiver = self.session.store.waiver(&candidate.key)?;
        let identity = candidate.identity();
        let offer = Offer {
            identity: &identity,
            username: &candidate.username,
            project: &candidate.project,
            digest,
            source_digest: candidate.source_digest,
            facts: candidate.facts,
            only_if_sent: candidate.only_if_sent,
        };
        let waived_source = waiver.as_ref().map(|(_, source)| *source);
        let decision = decide(before.as_ref(), waived_source, &offer, self.approval.is_some());
        let outdated = self.is_outdated(before.as_ref(), candidate.source_digest)?;
        let decision = self.beware_of_refunds(decision, before.as_ref(), candidate)?;
        // A zero charge of what another program charged is not nothing.
        if matches!(decision, Decision::Ignore | Decision::Zero)
            && let Some(owner) = self.imported(before.as_ref(), candidate)?
        {
            return self.adopt(before, candidate, digest, &owner);
        }
        let Some(before) = before else {
            match decision {
                Decision::Ignore => self.report.ignored += 1,
                _ => self.insert(candidate, digest, identity)?,
            }
            return Ok(());
        };
        match decision {
            Decision::Unchanged { refresh } => self.unchanged(before, candidate, refresh && !outdated)?,
            Decision::Waived => self.report.waived += 1,
            Decision::Insert | Decision::Ignore => self.report.ignored += 1,
            _ if outdated => self.report.outdated += 1,
            Decision::Zero => self.zero(before, candidate)?,
            Decision::Replace => self.want(before, candidate, digest, Event::Restated, "not taken yet")?,
            Decision::Revive | Decision::Release => self.wanted_now(before, candidate, digest)?,
            Decision::Restate => {
                let detail = match self.approval {
                    Some(person) => person.why,
                    None => Cause::Source.as_str(),
                };
                self.want(before, candidate, digest, Event::Restated, detail)?;
            }
            Decision::Hold(Suspicion::IdentityChanged) if self.moves(&before)? => {
                self.begin_move(before, candidate, digest)?;
            }
            // What was approved is carried through first; then this is asked.
            Decision::Hold(_) if self.held_for(&before, MOVING)? => self.report.held_again += 1,
            Decision::Hold(suspicion) => {
                let reason = suspicion.reason();
                if waiver
                    .is_some_and(|(waived, source)| waived == reason && source == candidate.source_digest)
                {
                    self.report.waived += 1;
                } else {
                    let detail = suspicion_detail(suspicion, &before, candidate);
                    self.hold_beside(before, candidate, digest, reason, &detail)?;
                }
            }
            Decision::Drift { cause } => self.drift(before, cause.as_str())?,
        }
        Ok(())
    }

    /// A row that nothing was wanted of, or that was held, and that maps now.
    fn wanted_now(&mut self, before: Row, candidate: &'c Candidate, digest: u128) -> Result<(), S::Fail> {
        // That it maps is not what was asked of a person.
        for reason in [NIGHT, OTHER_TIMES] {
            if self.held_for(&before, reason)? {
                let hold = self.session.store.hold(&before.key)?;
                let detail = hold.map_or_else(String::new, |hold| hold.detail);
                return self.demote(before, candidate, digest, reason, &detail);
            }
        }
        if let Some(known) = self.twin(candidate)? {
            let detail = twin::detail(&known, candidate.submit);
            return self.demote(before, candidate, digest, OTHER_TIMES, &detail);
        }
        match before.state {
            State::Held => self.want(before, candidate, digest, Event::Released, "it maps now"),
            _ => self.want(before, candidate, digest, Event::Recorded, "wanted again"),
        }
    }

    fn any_imports(&mut self) -> Result<bool, S::Fail> {
        match self.imports {
            Some(any) => Ok(any),
            None => Ok(*self.imports.insert(import::any(self.session)?)),
        }
    }

    /// The imported record that a run is, where the run itself was never sent: another program charged it.
    fn imported(&mut self, row: Option<&Row>, candidate: &Candidate) -> Result<Option<String>, S::Fail> {
        if row.is_some_and(Row::frozen) || !self.any_imports()? {
            return Ok(None);
        }
        let owner = self.session.store.owner(candidate.usage_type, &candidate.identity())?;
        Ok(owner.filter(|owner| import::is_imported(owner)))
    }

    /// A person is asked before a run is charged less than was given back of it.
    fn beware_of_refunds(
        &mut self,
        decision: Decision,
        row: Option<&Row>,
        candidate: &Candidate,
    ) -> Result<Decision, S::Fail> {
        let (Decision::Restate, Some(row)) = (decision, row) else { return Ok(decision) };
        let refunds = match self.refunds {
            Some(refunds) => refunds,
            None => *self.refunds.insert(adjust::any_refunds(self.session)?),
        };
        let refunded = if refunds { adjust::above(self.session, row, candidate.charge)? } else { None };
        Ok(refunded.map_or(decision, |refunded| Decision::Hold(Suspicion::BelowRefund { refunded })))
    }

    /// True where a row has gone on from this source to another. What a person approves is taken up again.
    fn is_outdated(&self, row: Option<&Row>, source_digest: u128) -> Result<bool, S::Fail> {
        match row {
            Some(row) if self.approval.is_none() => outdated::is_outdated(self.session, row, source_digest),
            _ => Ok(false),
        }
    }

    /// True where the open hold of a row has this reason.
    fn held_for(&self, row: &Row, reason: &str) -> Result<bool, S::Fail> {
        if !row.on_hold {
            return Ok(false);
        }
        let hold = self.session.store.hold(&row.key)?;
        Ok(hold.is_some_and(|hold| hold.closed.is_none() && hold.reason == reason))
    }

    /// True where a row goes to another identity: a person approved it now, or before.
    fn moves(&self, row: &Row) -> Result<bool, S::Fail> {
        let approved = self.approval.is_some() && row.usage_type == UsageType::Compute;
        Ok(approved || self.held_for(row, MOVING)?)
    }

    /// Zero goes under the identity that was sent; the record itself waits beside it, until that is settled.
    fn begin_move(&mut self, before: Row, candidate: &'c Candidate, digest: u128) -> Result<(), S::Fail> {
        let detail = suspicion_detail(Suspicion::IdentityChanged, &before, candidate);
        if self.held_for(&before, MOVING)? {
            // It is under way: what the source or the rules say by now is what will be sent.
            self.open(candidate, digest, MOVING, &detail)?;
            self.report.held_again += 1;
            return Ok(());
        }
        let identity = candidate.identity();
        let owner = self.session.store.owner(candidate.usage_type, &identity)?;
        if let Some(owner) = owner.filter(|owner| *owner != candidate.key) {
            let detail = collision_detail(&identity, &owner);
            return self.hold_beside(before, candidate, digest, COLLISION, &detail);
        }
        let old = before.wanted.as_ref();
        let zero = old.and_then(|old| Some((old, zero_record(old, payload_of(self.chunk, candidate))?)));
        let Some((old, zero)) = zero else {
            let reason = Suspicion::IdentityChanged.reason();
            return self.hold_beside(before, candidate, digest, reason, &detail);
        };
        let wanted = Wanted {
            charge: Decimal::ZERO,
            digest: digest_of(&zero),
            facts: candidate.facts,
            payload: Some(place(self.id, self.kept.len(), zero.len())),
            ..old.clone()
        };
        self.kept.extend_from_slice(&zero);
        let mut row = before.clone();
        row.want(Event::Restated, wanted, candidate.source_digest).map_err(illegal(&row.key))?;
        row.on_hold = true;
        self.open(candidate, digest, MOVING, &detail)?;
        let why = self.approval.map_or("", |person| person.why);
        let text = format!(
            "zero under {} of {}, then {} under {} of {}: {why}",
            old.identity.local_record_id,
            old.identity.resource,
            candidate.charge,
            identity.local_record_id,
            identity.resource
        );
        self.note_move(&row, Event::Restated, &text)?;
        self.session.save(Some(&before), &row)?;
        self.report.restated += 1;
        Ok(())
    }

    /// A new row, unless its wire identity belongs to another.
    fn insert(&mut self, candidate: &'c Candidate, digest: u128, identity: Identity) -> Result<(), S::Fail> {
        let refused = match self.session.store.owner(candidate.usage_type, &identity)? {
            Some(owner) if import::is_imported(&owner) => return self.adopt(None, candidate, digest, &owner),
            Some(owner) => Some((COLLISION, collision_detail(&identity, &owner))),
            None => self.twin(candidate)?.map(|known| (OTHER_TIMES, twin::detail(&known, candidate.submit))),
        };
        if let Some((reason, detail)) = refused {
            let row = self.blank(candidate);
            let row =
                Row { state: State::begin(Event::Held).map_err(illegal(&row.key))?, on_hold: true, ..row };
            self.session.save(None, &row)?;
            self.note_move(&row, Event::Held, reason)?;
            self.open(candidate, digest, reason, &detail)?;
            self.report.held += 1;
            return Ok(());
        }
        self.born()?;
        let payload = self.keep(candidate);
        let row = self.blank(candidate);
        let row = Row {
            state: State::begin(Event::Recorded).map_err(illegal(&row.key))?,
            version: 1,
            wanted: Some(wanted_of(candidate, digest, Some(payload))),
            born: Some(self.id),
            ..row
        };
        self.session.save(None, &row)?;
        self.report.inserted += 1;
        Ok(())
    }

    fn unchanged(&mut self, before: Row, candidate: &Candidate, refresh: bool) -> Result<(), S::Fail> {
        // Should the rules change once more, that is news again.
        let mut row = Row { drifted: false, ..before.clone() };
        if refresh {
            row.source_digest = candidate.source_digest;
            if let Some(wanted) = &mut row.wanted {
                wanted.facts = candidate.facts;
            }
        }
        // What was held beside the row was this very source: it maps to the newest version now. Or the source says something
        // newer, which is what the row has: approved later, what was asked before would undo it. Zero on its way to another
        // identity that is all that mapping wants now goes nowhere else.
        let answered = row.on_hold
            && self.session.store.hold(&row.key)?.is_some_and(|hold| {
                refresh || hold.source_digest == candidate.source_digest || hold.reason == MOVING
            });
        if refresh || answered {
            outdated::leave_question(self.session, &row.key, candidate.source_digest, self.now)?;
        }
        if answered {
            self.release_hold(&mut row)?;
        }
        if row != before {
            self.session.save(Some(&before), &row)?;
        }
        self.report.unchanged += 1;
        Ok(())
    }

    fn zero(&mut self, before: Row, candidate: &Candidate) -> Result<(), S::Fail> {
        outdated::leave_question(self.session, &before.key, candidate.source_digest, self.now)?;
        let mut row = before.clone();
        row.source_digest = candidate.source_digest;
        row.step(Event::Zeroed).map_err(illegal(&row.key))?;
        if row.on_hold {
            row.on_hold = false;
            self.session.store.close_hold(&row.key, HoldEnd::Skipped, None, self.now)?;
        }
        self.session.save(Some(&before), &row)?;
        self.note_move(&row, Event::Zeroed, "zero charge, and never taken")?;
        self.report.superseded += 1;
        Ok(())
    }

    /// A newer version of a row, unless its wire identity belongs to another.
    fn want(
        &mut self,
        before: Row,
        candidate: &'c Candidate,
        digest: u128,
        event: Event,
        detail: &str,
    ) -> Result<(), S::Fail> {
        let identity = candidate.identity();
        let owner = self.session.store.owner(candidate.usage_type, &identity)?;
        if let Some(owner) = owner.filter(|owner| *owner != candidate.key) {
            if import::is_imported(&owner) && !before.frozen() {
                return self.adopt(Some(before), candidate, digest, &owner);
            }
            let detail = collision_detail(&identity, &owner);
            return match before.state {
                State::Held | State::Pending | State::Superseded => {
                    self.demote(before, candidate, digest, COLLISION, &detail)
                }
                _ => self.hold_beside(before, candidate, digest, COLLISION, &detail),
            };
        }
        outdated::leave_question(self.session, &before.key, candidate.source_digest, self.now)?;
        let payload = self.keep(candidate);
        let mut row = before.clone();
        let taken = row.frozen();
        row.want(event, wanted_of(candidate, digest, Some(payload)), candidate.source_digest)
            .map_err(illegal(&row.key))?;
        row.file = file_of(self.chunk, candidate.file);
        row.line = candidate.line;
        self.note_move(&row, event, detail)?;
        if row.on_hold {
            self.release_hold(&mut row)?;
        }
        self.session.save(Some(&before), &row)?;
        match event {
            Event::Released => self.report.released += 1,
            Event::Recorded => self.report.revived += 1,
            _ if taken => self.report.restated += 1,
            _ => self.report.replaced += 1,
        }
        Ok(())
    }

    /// The run of a record that another program sent: nothing to send, and where the charge is another, nothing in silence.
    fn adopt(
        &mut self,
        before: Option<Row>,
        candidate: &'c Candidate,
        digest: u128,
        owner: &str,
    ) -> Result<(), S::Fail> {
        let imported = self.session.existing(owner)?;
        import::retire(self.session, &imported, &candidate.key, self.now)?;
        outdated::leave_question(self.session, &candidate.key, candidate.source_digest, self.now)?;
        let mut row = match &before {
            Some(before) => before.clone(),
            None => self.blank(candidate),
        };
        let state = match &before {
            Some(before) => before.state.next(Event::Imported),
            None => State::begin(Event::Imported),
        };
        row.state = state.map_err(illegal(&row.key))?;
        row.source_digest = candidate.source_digest;
        import::take_over(&mut row, &imported, wanted_of(candidate, digest, None));
        if row.on_hold {
            self.release_hold(&mut row)?;
        }
        self.session.save(before.as_ref(), &row)?;
        self.note_move(&row, Event::Imported, &imported.file)?;
        import::note_drift(self.session, &row, Some(self.id), self.now)?;
        self.report.adopted += 1;
        Ok(())
    }

    fn release_hold(&self, row: &mut Row) -> Result<(), S::Fail> {
        row.on_hold = false;
        self.session.store.close_hold(&row.key, HoldEnd::Released, self.approval, self.now)?;
        let what = What::Noted(Note::HoldClosed);
        self.session.store.note(&NewEvent::of(self.now, what, row, HoldEnd::Released.as_str()))?;
        Ok(())
    }

    /// A record that is held by the ledger itself, where nothing was taken yet.
    fn demote(
        &mut self,
        before: Row,
        candidate: &'c Candidate,
        digest: u128,
        reason: &str,
        detail: &str,
    ) -> Result<(), S::Fail> {
        let mut row = before.clone();
        row.step(Event::Held).map_err(illegal(&row.key))?;
        row.source_digest = candidate.source_digest;
        self.open(candidate, digest, reason, detail)?;
        self.hold_row(before, row, reason)
    }

    /// Stores a row that is held now, and counts it.
    fn hold_row(&mut self, before: Row, mut row: Row, reason: &str) -> Result<(), S::Fail> {
        row.on_hold = true;
        self.session.save(Some(&before), &row)?;
        if before.state == State::Held {
            self.report.held_again += 1;
        } else {
            self.note_move(&row, Event::Held, reason)?;
            self.report.held += 1;
        }
        Ok(())
    }

    /// A record that is held beside a row that stays as it is.
    fn hold_beside(
        &mut self,
        before: Row,
        candidate: &'c Candidate,
        digest: u128,
        reason: &str,
        detail: &str,
    ) -> Result<(), S::Fail> {
        self.open(candidate, digest, reason, detail)?;
        self.mark_held(before, reason)
    }

    fn mark_held(&mut self, before: Row, reason: &str) -> Result<(), S::Fail> {
        if before.on_hold {
            self.report.held_again += 1;
            return Ok(());
        }
        self.mark(&before, Row { on_hold: true, ..before.clone() }, Note::HoldOpened, reason)?;
        self.report.held += 1;
        Ok(())
    }

    fn drift(&mut self, before: Row, cause: &str) -> Result<(), S::Fail> {
        self.report.drifted += 1;
        if before.drifted {
            return Ok(());
        }
        self.mark(&before, Row { drifted: true, ..before.clone() }, Note::Drifted, cause)?;
        self.report.drifted_first += 1;
        Ok(())
    }

    /// Stores a row that stands where it stood, and notes what is known of it now.
    fn mark(&mut self, before: &Row, row: Row, what: Note, detail: &str) -> Result<(), S::Fail> {
        self.session.save(Some(before), &row)?;
        self.used = true;
        let event = NewEvent::of(self.now, What::Noted(what), &row, detail);
        self.session.store.note(&NewEvent { chunk: Some(self.id), ..event })?;
        Ok(())
    }

    fn open(&self, candidate: &Candidate, digest: u128, reason: &str, detail: &str) -> Result<(), S::Fail> {
        outdated::leave_question(self.session, &candidate.key, candidate.source_digest, self.now)?;
        let stored = StoredCandidate::of(&wanted_of(candidate, digest, None)).to_json()?;
        self.session.store.open_hold(
            &NewHold {
                key: &candidate.key,
                usage_type: candidate.usage_type,
                reason,
                detail,
                run: "",
                source_digest: candidate.source_digest,
                rules_digest: self.chunk.rules_digest,
                file: &file_of(self.chunk, candidate.file),
                line: candidate.line,
                candidate: Some((stored, payload_of(self.chunk, candidate))),
            },
            self.now,
        )
    }

    fn held(&mut self, held: &'c HeldRun) -> Result<(), S::Fail> {
        // A brake asks whether to send what is never sent: no question.
        if let Some(candidate) = &held.candidate
            && self.too_early(candidate)?
            && self.withhold(candidate, digest_of(payload_of(self.chunk, candidate)))?
        {
            self.report.withheld += 1;
            return Ok(());
        }
        let before = self.session.store.row(&held.key)?;
        let digest = held.candidate.as_ref().map(|candidate| digest_of(payload_of(self.chunk, candidate)));
        let waived = self.session.store.waiver(&held.key)?.is_some_and(|(reason, source)| {
            // Who knows it as another run's, charges it under no brake either.
            let asked = reason == held.reason || (reason == OTHER_TIMES && held.candidate.is_some());
            asked && source == held.source_digest
        });
        let decision = decide_held(before.as_ref(), waived, digest, held.source_digest);
        match decision {
            HeldDecision::Waived => self.report.waived += 1,
            HeldDecision::Unchanged => self.report.unchanged += 1,
            HeldDecision::Drift => {
                if let Some(before) = before {
                    self.drift(before, &held.reason)?;
                }
            }
            _ if self.is_outdated(before.as_ref(), held.source_digest)? => self.report.outdated += 1,
            HeldDecision::Insert | HeldDecision::Refresh | HeldDecision::Demote | HeldDecision::Beside => {
                if before.as_ref().map_or(Ok(false), |row| self.held_for(row, MOVING))? {
                    // What was approved is carried through first; then this is asked again.
                    self.report.held_again += 1;
                    return Ok(());
                }
                // A brake asks whether to send what was sent: no question.
                if let Some((candidate, digest)) = held.candidate.as_ref().zip(digest)
                    && let Some(owner) = self.imported(before.as_ref(), candidate)?
                {
                    return self.adopt(before, candidate, digest, &owner);
                }
                let held = &self.question(held)?;
                self.open_held(held, digest)?;
                self.move_held(before, held, decision)?;
            }
        }
        Ok(())
    }

    /// What a brake would let pass when it is approved may be known by other times: then that is asked.
    fn question(&self, held: &'c HeldRun) -> Result<Cow<'c, HeldRun>, S::Fail> {
        let Some(candidate) = &held.candidate else { return Ok(Cow::Borrowed(held)) };
        let Some(known) = self.twin(candidate)? else { return Ok(Cow::Borrowed(held)) };
        let also = format!("{}; it is also held as {}", twin::detail(&known, candidate.submit), held.reason);
        Ok(Cow::Owned(HeldRun { reason: OTHER_TIMES.to_owned(), detail: also, ..held.clone() }))
    }

    fn open_held(&self, held: &HeldRun, digest: Option<u128>) -> Result<(), S::Fail> {
        outdated::leave_question(self.session, &held.key, held.source_digest, self.now)?;
        let stored = |(candidate, digest)| {
            let stored = StoredCandidate::of(&wanted_of(candidate, digest, None)).to_json()?;
            Ok((stored, payload_of(self.chunk, candidate)))
        };
        let candidate = held.candidate.as_ref().zip(digest).map(stored).transpose();
        let candidate = candidate.map_err(|error: LedgerError| error)?;
        self.session.store.open_hold(
            &NewHold {
                key: &held.key,
                usage_type: held.usage_type,
                reason: &held.reason,
                detail: &held.detail,
                run: &held.run,
                source_digest: held.source_digest,
                rules_digest: self.chunk.rules_digest,
                file: &file_of(self.chunk, held.file),
                line: held.line,
                candidate,
            },
            self.now,
        )
    }

    fn move_held(
        &mut self,
        before: Option<Row>,
        held: &HeldRun,
        decision: HeldDecision,
    ) -> Result<(), S::Fail> {
        let Some(before) = before else {
            let file = file_of(self.chunk, held.file);
            let row = Row::blank(held.key.clone(), held.usage_type, held.source_digest, file, held.line);
            let row =
                Row { state: State::begin(Event::Held).map_err(illegal(&row.key))?, on_hold: true, ..row };
            self.session.save(None, &row)?;
            self.note_move(&row, Event::Held, &held.reason)?;
            self.report.held += 1;
            return Ok(());
        };
        if decision == HeldDecision::Beside {
            return self.mark_held(before, &held.reason);
        }
        let mut row = before.clone();
        row.step(Event::Held).map_err(illegal(&row.key))?;
        // Half of a log says nothing newer of a run: when the whole of it is read again, that is wanted again.
        if held.reason != LOG_INCOMPLETE {
            row.source_digest = held.source_digest;
        }
        self.hold_row(before, row, &held.reason)
    }

    fn quarantined(&mut self, text: &QuarantinedText, digest: u128) -> Result<(), S::Fail> {
        let file = file_of(self.chunk, text.file);
        if self.session.store.quarantine(&self.chunk.source, digest, text, &file, self.now)? {
            self.report.quarantined += 1;
        } else {
            self.report.quarantined_again += 1;
        }
        Ok(())
    }

    fn finish(self) -> Result<Ingested, S::Fail> {
        if self.session.refers_to(self.id) {
            self.session.store_payloads(self.id, &self.kept)?;
        } else if !self.used {
            // Nothing new in it: most chunks of most nights.
            self.session.store.drop_chunk(self.id)?;
        }
        self.session.keep_buffer(self.kept);
        Ok(self.report)
    }

    /// Notes, once, that this chunk made rows.
    fn born(&mut self) -> Result<(), S::Fail> {
        if self.report.inserted == 0 {
            self.used = true;
            let event = NewEvent { chunk: Some(self.id), ..NewEvent::moved(self.now, Event::Recorded) };
            self.session.store.note(&event)?;
        }
        Ok(())
    }

    fn note_move(&mut self, row: &Row, event: Event, detail: &str) -> Result<(), S::Fail> {
        self.used = true;
        let person = self.approval.map(|person| person.by);
        let what = What::Moved(event);
        self.session.store.note(&NewEvent {
            chunk: Some(self.id),
            person,
            ..NewEvent::of(self.now, what, row, detail)
        })?;
        Ok(())
    }

    /// Puts the bytes of a record aside, to be stored with the chunk.
    fn keep(&mut self, candidate: &Candidate) -> PayloadRef {
        let bytes = payload_of(self.chunk, candidate);
        let payload = place(self.id, self.kept.len(), bytes.len());
        self.kept.extend_from_slice(bytes);
        payload
    }

    /// The row of a record that there is none of yet.
    fn blank(&self, candidate: &Candidate) -> Row {
        Row::blank(
            candidate.key.clone(),
            candidate.usage_type,
            candidate.source_digest,
            file_of(self.chunk, candidate.file),
            candidate.line,
        )
    }
}

fn collision_detail(identity: &Identity, owner: &str) -> String {
    let Identity { resource, local_record_id, submit } = identity;
    format!(
        "record {local_record_id} of {resource}, submitted at {submit}, is the identity of \"{owner}\" already: the \
         one would overwrite the other. Change the id template, then map again"
    )
}

fn suspicion_detail(suspicion: Suspicion, row: &Row, candidate: &Candidate) -> String {
    let old = row.wanted.as_ref();
    let charge = old.map_or_else(String::new, |wanted| wanted.charge.to_string());
    match suspicion {
        Suspicion::IdentityChanged => {
            let was = old.map(|wanted| &wanted.identity);
            let was = was.map_or_else(String::new, |id| {
                format!("{} of {}, submitted at {}", id.local_record_id, id.resource, id.submit)
            });
            format!(
                "sent as {was}; now it would be {} of {}, submitted at {}. Put the mapping back, or restate it: zero \
                 under the old identity first, then the new one",
                candidate.local_record_id, candidate.resource, candidate.submit
            )
        }
        Suspicion::GrownByRequeue => format!(
            "requeued after it had ended: the scheduler moved its end to the requeue. Sent charge {charge}, the \
             grown one would be {}. Waive it, unless the run really used more",
            candidate.charge
        ),
        Suspicion::RunawayRepair => format!(
            "repaired as a runaway job: the scheduler wrote an elapsed time of 0, whatever it used. Sent charge \
             {charge}. Waive it, unless the run really used nothing"
        ),
        Suspicion::MayAdd => format!(
            "sent with charge {charge}; the source now gives {}. Nobody knows whether the service would replace the \
             first or add to it: correct the difference with the allocation service, then waive this",
            candidate.charge
        ),
        Suspicion::BelowRefund { refunded } => adjust::below_detail(&charge, refunded, candidate.charge),
    }
}

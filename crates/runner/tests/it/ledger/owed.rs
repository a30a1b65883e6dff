//! What a site owes, as the documentation says it and no more exactly: nothing in here knows how a ledger works.
//!
//! - Of what the service may hold nothing, whatever mapping says now is owed (docs/ledger.md, "states").
//! - What it may hold changes with the source; rules and tables change it only where a person approves, or where the
//!   service turned the record down. A run that is requeued and grows is a question (docs/ledger.md, "What changes").
//! - Another identity is a question; approved, zero is owed under the old one, and then the charge under the new one
//!   (docs/restating.md). An identity belongs to one run at a time.
//! - What a person waives is not owed while reason and source are the same; what a person approves is owed.
//! - What ended before its resource's go-live (storage: was read before it) is not owed, unless the service may hold
//!   something of it. A later date takes what waits out of what is owed; what is held or was refused is taken out when it
//!   would be sent, or is read again. An earlier date owes it again when it is read again (docs/ledger.md, "From when on it sends").
//! - What another program sent is nobody's until mapping makes a record of its identity, and then that run's: it owes what
//!   was sent, also where it would be charged otherwise, which is only said. Whether the run was read before does not matter,
//!   as long as the service holds nothing of it from here (docs/ledger.md, "Taking over from a script").

use super::Run;
use super::service::{Place, place};
use amie_usage::{Decimal, UsageType};
use std::collections::{BTreeMap, BTreeSet};

/// Runs 0 to 2 are jobs, few enough for much to happen to each; 3 is a storage reading, whose charge never changes. Behind it
/// are jobs that only [`RARE`] actions begin with.
pub(crate) const RUNS: u32 = 6;
pub(crate) const STORAGE: u32 = 3;
pub(crate) const RARE: std::ops::Range<u32> = 2..RUNS;

/// What the source says of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) hours: u8,
    pub(crate) requeued: bool,
}

/// What rules, tables and templates make of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    pub(crate) rate: u8,
    pub(crate) project: u8,
    /// 0: its own id, 1: the same on another resource, 2: an id that another run may have, too.
    pub(crate) identity: u8,
}

/// What another program sent of a record; no project where it is not known.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) charge: Decimal,
    pub(crate) project: String,
}

/// What becomes of a question that a person approves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Approval {
    /// It cannot be approved.
    Refused,
    /// Its record ended before go-live: it is not sent.
    Withheld,
    /// It is owed.
    Owed,
}

/// An open question, or one that was waived: its reason, what the source said, and the record to be approved.
#[derive(Debug, Clone)]
struct Question {
    reason: &'static str,
    source: u128,
    candidate: Option<Run>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Owed {
    /// What each source says, with a number for each time that it says something else.
    usage: BTreeMap<u32, (Usage, u128)>,
    said: u128,
    mapping: BTreeMap<u32, Mapping>,
    /// What the service is to hold in the end.
    owed: BTreeMap<u32, Run>,
    /// What is owed once zero, which is owed until then, is settled.
    moving: BTreeMap<u32, Run>,
    questions: BTreeMap<u32, Question>,
    waived: BTreeSet<u32>,
    /// From when on the runs of a resource are sent.
    go_live: BTreeMap<String, i64>,
    /// What another program sent and no run has taken over; all places of which that was ever said; and the runs that
    /// are owed as it was sent, with whether they would be charged otherwise.
    imported: BTreeMap<Place, Sent>,
    places: BTreeSet<Place>,
    taken_over: BTreeMap<u32, bool>,
    /// What the service may hold, for good or while it is on the wire; of the latter, whether something newer waits behind it.
    taken: BTreeSet<u32>,
    flying: BTreeMap<u32, bool>,
}

impl Owed {
    pub(crate) fn usage_type(run: u32) -> UsageType {
        if run != STORAGE { UsageType::Compute } else { UsageType::Storage }
    }

    pub(crate) fn key(run: u32) -> String {
        Run::new(run, "1").key
    }

    /// The source says something, perhaps something else.
    pub(crate) fn says(&mut self, run: u32, usage: Usage) {
        let usage = if run != STORAGE { usage } else { Usage { hours: 7, requeued: false } };
        if self.usage.get(&run).is_none_or(|(known, _)| *known != usage) {
            self.said += 1;
            self.usage.insert(run, (usage, self.said));
        }
    }

    pub(crate) fn configure(&mut self, run: u32, mapping: Mapping) {
        if run != STORAGE {
            self.mapping.insert(run, mapping);
        }
    }

    /// What mapping makes of a run that was seen.
    pub(crate) fn mapped(&self, run: u32) -> Option<Run> {
        let (usage, said) = self.usage.get(&run)?;
        let mapping = self.mapping.get(&run).copied();
        let Mapping { rate, project, identity } =
            mapping.unwrap_or(Mapping { rate: 1, project: 1, identity: 0 });
        let mut mapped = Run {
            usage_type: Self::usage_type(run),
            charge: Decimal::new(i128::from(usage.hours) * i128::from(rate), 0),
            project: format!("TG-{project}").into(),
            source: *said,
            ..Run::new(run, "1").whole()
        };
        match identity {
            0 => {}
            1 => mapped.resource = "gpu.example".into(),
            _ => mapped.id = "anybody".into(),
        }
        mapped.facts.end += i64::from(usage.hours);
        mapped.facts.elapsed += u64::from(usage.hours);
        mapped.facts.requeued = usage.requeued;
        Some(mapped)
    }

    pub(crate) fn owed(&self, run: u32) -> Option<&Run> {
        self.owed.get(&run)
    }

    pub(crate) fn moving(&self) -> Vec<u32> {
        self.moving.keys().copied().collect()
    }

    /// Whose identity it is.
    pub(crate) fn owner(&self, place_of: &Place) -> Option<u32> {
        self.owed.iter().find(|(_, owed)| place(owed) == *place_of).map(|(run, _)| *run)
    }

    fn taken_by_another(&self, run: u32, record: &Run) -> bool {
        let place_of = place(record);
        self.is_imported(&place_of) || self.owner(&place_of).is_some_and(|owner| owner != run)
    }

    /// True where another program sent something there that no run has taken over.
    pub(crate) fn is_imported(&self, place_of: &Place) -> bool {
        self.imported.contains_key(place_of)
    }

    /// What mapping makes of a run, or would if it were read.
    pub(crate) fn record(&self, run: u32) -> Run {
        let unread = || Run { usage_type: Self::usage_type(run), ..Run::new(run, "1").whole() };
        self.mapped(run).unwrap_or_else(unread)
    }

    /// Another program sent a record of this identity. False where that changes nothing: it was said before, or the service
    /// may hold it from here.
    pub(crate) fn import(&mut self, record: &Run, sent: Sent) -> bool {
        let place_of = place(record);
        let owner = self.owner(&place_of);
        if self.places.contains(&place_of) || owner.is_some_and(|owner| self.may_be_held(owner)) {
            return false;
        }
        self.places.insert(place_of.clone());
        match owner.and_then(|owner| Some((owner, self.owed.get(&owner).cloned()?))) {
            Some((owner, offered)) => self.take_over(owner, offered, sent),
            None => _ = self.imported.insert(place_of, sent),
        }
        true
    }

    /// A run is what another program sent, and owed as it was sent.
    fn take_over(&mut self, run: u32, offered: Run, sent: Sent) {
        let Sent { charge, project } = sent;
        let project = if project.is_empty() { offered.project.clone() } else { project.into() };
        let otherwise = offered.charge != charge || offered.project != project;
        self.goes_on(run, Run { charge, project, ..offered });
        self.taken.insert(run);
        self.taken_over.insert(run, otherwise);
    }

    /// Runs that are owed as another program sent them, and whether they would be charged otherwise.
    pub(crate) fn taken_over(&self) -> &BTreeMap<u32, bool> {
        &self.taken_over
    }

    pub(crate) fn may_be_held(&self, run: u32) -> bool {
        self.taken.contains(&run) || self.flying.contains_key(&run)
    }

    /// Its record goes on the wire.
    pub(crate) fn sent(&mut self, run: u32) {
        self.flying.insert(run, false);
    }

    /// It is off the wire; `arrived`: the service has it, or nobody knows. True where something newer waited behind it.
    pub(crate) fn landed(&mut self, run: u32, arrived: bool) -> bool {
        let newer = self.flying.remove(&run);
        if arrived {
            self.taken.insert(run);
        }
        newer == Some(true)
    }

    /// This is owed from now on.
    fn want(&mut self, run: u32, new: Run) {
        let other = self.owed.get(&run).is_some_and(|old| old.payload() != new.payload());
        if other && let Some(newer) = self.flying.get_mut(&run) {
            *newer = true;
        }
        self.owed.insert(run, new);
    }

    /// A question is asked, in place of any before, unless this one was waived.
    fn ask(&mut self, run: u32, reason: &'static str, source: u128, candidate: Option<Run>) {
        if !self.is_waived(run, reason, source) {
            self.waived.remove(&run);
            self.questions.insert(run, Question { reason, source, candidate });
        }
    }

    fn is_waived(&self, run: u32, reason: &str, source: u128) -> bool {
        let question = self.questions.get(&run).filter(|_| self.waived.contains(&run));
        question.is_some_and(|question| question.reason == reason && question.source == source)
    }

    /// A run is read and mapped; `approved`: a person wants today's rules to be applied to it; `turned_down`: the
    /// service refused or failed what was sent of it.
    pub(crate) fn offered(&mut self, run: u32, approved: bool, turned_down: bool) {
        let Some(new) = self.mapped(run) else { return };
        if self.is_withheld(run, &new) {
            self.give_up(run);
            return;
        }
        if approved || self.owed.get(&run).is_some_and(|old| old.source != new.source) {
            self.taken_over.remove(&run);
        }
        let waived_source = self.questions.get(&run).map(|question| question.source);
        match self.owed.get(&run).cloned() {
            Some(old) if old.payload() == new.payload() => self.goes_on(run, new),
            Some(old) if self.may_be_held(run) => self.changed(run, &old, new, approved, turned_down),
            None if self.waived.contains(&run) && waived_source == Some(new.source) => {}
            _ => self.follows(run, new, turned_down),
        }
    }

    /// The service holds nothing of it.
    fn follows(&mut self, run: u32, new: Run, turned_down: bool) {
        self.moving.remove(&run);
        if let Some(sent) = self.imported.remove(&place(&new)) {
            self.take_over(run, new, sent);
        } else if new.charge.is_zero() {
            if self.owed.remove(&run).is_some() {
                self.leave_question(run, new.source);
            }
        } else if !self.taken_by_another(run, &new) {
            self.goes_on(run, new);
        } else {
            // What was refused stays refused beside the question.
            if !turned_down {
                self.owed.remove(&run);
            }
            self.waived.remove(&run);
            self.ask(run, "collision", new.source, Some(new));
        }
    }

    /// The service may hold something of it.
    fn changed(&mut self, run: u32, old: &Run, new: Run, approved: bool, turned_down: bool) {
        let by_source = new.source != old.source;
        if place(&new) != place(old) {
            if self.moving.contains_key(&run) {
                self.moving.insert(run, new);
            } else if !approved {
                self.ask(run, "identity-changed", new.source, Some(new));
            } else if self.taken_by_another(run, &new) {
                self.waived.remove(&run);
                self.ask(run, "collision", new.source, Some(new));
            } else {
                self.waived.remove(&run);
                self.ask(run, "moving", new.source, None);
                let (source, facts) = (new.source, new.facts);
                self.want(run, Run { charge: Decimal::ZERO, source, facts, ..old.clone() });
                self.moving.insert(run, new);
            }
        } else if by_source && grown_by_requeue(old, &new) {
            // What was approved is carried through first.
            if !self.moving.contains_key(&run) {
                self.ask(run, "grown-by-requeue", new.source, Some(new));
            }
        } else if by_source || approved || turned_down {
            self.goes_on(run, new);
        }
    }

    /// This is owed from now on, and goes nowhere else.
    fn goes_on(&mut self, run: u32, new: Run) {
        self.moving.remove(&run);
        self.leave_question(run, new.source);
        self.want(run, new);
    }

    /// A waiver ends when the source says something newer: nobody can take it back any more.
    fn leave_question(&mut self, run: u32, newest: u128) {
        if self.questions.get(&run).is_some_and(|question| question.source != newest) {
            self.waived.remove(&run);
        }
    }

    /// Mapping holds it: `brake` only lacks an approval, else its project is not known.
    pub(crate) fn held(&mut self, run: u32, brake: bool, turned_down: bool) {
        let Some(new) = self.mapped(run).filter(|_| run != STORAGE) else { return };
        // A brake asks whether to send what is never sent; without a project nobody can say so.
        if brake && self.is_withheld(run, &new) {
            self.give_up(run);
            return;
        }
        let reason = if brake { "max-charge" } else { "unknown-project" };
        let old = self.owed.get(&run);
        let same = |old: &Run| brake && old.payload() == new.payload();
        if self.is_waived(run, reason, new.source) || old.is_some_and(same) || self.moving.contains_key(&run)
        {
            return;
        }
        // Nor what was sent.
        if brake
            && !self.may_be_held(run)
            && let Some(sent) = self.imported.remove(&place(&new))
        {
            self.take_over(run, new, sent);
            return;
        }
        if self.may_be_held(run) {
            if old.is_some_and(|old| old.source == new.source) {
                return;
            }
        } else if !turned_down {
            self.owed.remove(&run);
        }
        self.ask(run, reason, new.source, brake.then_some(new));
    }

    /// A person says no.
    pub(crate) fn waive(&mut self, run: u32, was_held: bool) {
        self.waived.insert(run);
        if was_held && run == STORAGE {
            self.owed.remove(&run);
        }
    }

    /// A person takes all waivers back; of these.
    pub(crate) fn unwaive(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.waived).into_iter().collect()
    }

    /// A question of storage, which the model does not ask itself.
    pub(crate) fn asked_of_storage(&mut self, run: u32, source: u128) {
        if run == STORAGE {
            self.questions.insert(run, Question { reason: "unknown-project", source, candidate: None });
        }
    }

    /// What a person who approves gets.
    pub(crate) fn approve(&mut self, run: u32) -> Approval {
        let question = self.questions.get(&run);
        let asked =
            question.filter(|asked| !["collision", "identity-changed", "moving"].contains(&asked.reason));
        let Some(candidate) = asked.and_then(|asked| asked.candidate.clone()) else {
            return Approval::Refused;
        };
        if self.is_withheld(run, &candidate) {
            self.give_up(run);
            return Approval::Withheld;
        }
        let other_place = self.owed.get(&run).is_some_and(|old| place(old) != place(&candidate));
        if (self.may_be_held(run) && other_place) || self.taken_by_another(run, &candidate) {
            return Approval::Refused;
        }
        self.taken_over.remove(&run);
        self.want(run, candidate);
        Approval::Owed
    }

    /// The configuration says from when on a resource is sent: it moves that forward only. Answers what is in force.
    pub(crate) fn configure_go_live(
        &mut self,
        resource: &str,
        from: i64,
        turned_down: impl Fn(u32) -> bool,
    ) -> i64 {
        let in_force = self.go_live.get(resource).map_or(from, |before| from.max(*before));
        self.set_go_live(resource, Some(in_force), turned_down);
        in_force
    }

    /// A person says from when on a resource is sent; `None`: all of it. What waits and is too early now is not owed.
    pub(crate) fn set_go_live(
        &mut self,
        resource: &str,
        from: Option<i64>,
        turned_down: impl Fn(u32) -> bool,
    ) {
        match from {
            Some(from) => self.go_live.insert(resource.to_owned(), from),
            None => self.go_live.remove(resource),
        };
        for run in (0..RUNS).filter(|run| !turned_down(*run)) {
            self.waits(run);
        }
    }

    /// What is owed of a run waits to be sent, or to be sent once more: too late, where it ended before go-live.
    pub(crate) fn waits(&mut self, run: u32) {
        if self.owed.get(&run).is_some_and(|owed| self.is_withheld(run, owed)) {
            self.give_up(run);
        }
    }

    /// True where a record ended before its resource's go-live, and the service holds nothing of its run.
    fn is_withheld(&self, run: u32, record: &Run) -> bool {
        let time = if run != STORAGE { record.facts.end } else { record.submit };
        !self.may_be_held(run) && self.go_live.get(&*record.resource).is_some_and(|from| time < *from)
    }

    fn give_up(&mut self, run: u32) {
        self.owed.remove(&run);
        self.moving.remove(&run);
    }

    /// Zero is settled: what was moving is owed at its new place, and what was there before is given back; `None`
    /// where another run has that place by now.
    pub(crate) fn moved(&mut self, run: u32) -> Option<Run> {
        let new = self.moving.remove(&run)?;
        if self.taken_by_another(run, &new) {
            self.waived.remove(&run);
            self.ask(run, "collision", new.source, Some(new));
            return None;
        }
        self.owed.insert(run, new)
    }

    /// A person found that storage never arrived.
    pub(crate) fn never_arrived(&mut self, run: u32) {
        self.taken.remove(&run);
        self.waits(run);
    }
}

/// A finished job that was requeued later: its end grew to that moment, whatever it used.
fn grown_by_requeue(old: &Run, new: &Run) -> bool {
    new.facts.requeued && !old.facts.requeued && new.facts.end > old.facts.end
}

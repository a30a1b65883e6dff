//! A ledger row as a value, and what each event does to it: versions, frozen identity, payloads that are still needed.
//!
//! Nothing here knows of a database. A store reads a [`Row`], lets one method change it, and writes it back, so that
//! every store moves rows by the same rules and through [`State::next`].

use super::{Event, IllegalEvent, SourceFacts, State};
pub use amie_usage::RecordOutcome;
use amie_usage::{Decimal, UsageType};
use std::sync::Arc;

/// What the service knows a record by, besides its type. Sent again under the same identity, a record overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// AMIE resource name.
    pub resource: Arc<str>,
    /// The site's record id.
    pub local_record_id: String,
    /// Submit time (storage: collection time; adjustment: start time), epoch seconds.
    pub submit: i64,
}

/// Where the bytes of a payload lie: a range of the payloads of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadRef {
    /// The chunk.
    pub chunk: i64,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The newest version: what the service is to hold in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Wire identity.
    pub identity: Identity,
    /// AMIE login.
    pub username: Arc<str>,
    /// AMIE project.
    pub project: Arc<str>,
    /// The charge.
    pub charge: Decimal,
    /// Digest of the payload.
    pub digest: u128,
    /// What restatements are judged by.
    pub facts: SourceFacts,
    /// The payload; `None` once nothing needs it any more.
    pub payload: Option<PayloadRef>,
}

/// The version that was sent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub version: u32,
    /// Its charge.
    pub charge: Decimal,
    /// When it was first sent, epoch seconds.
    pub first_at: i64,
    /// When it was last sent, epoch seconds.
    pub last_at: i64,
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The run key.
    pub key: String,
    /// The type of record.
    pub usage_type: UsageType,
    /// Where it stands.
    pub state: State,
    /// Number of the newest version; 0 where mapping never made a record.
    pub version: u32,
    /// The newest version.
    pub wanted: Option<Wanted>,
    /// Digest of what the source said when the newest version was made or last found unchanged.
    pub source_digest: u128,
    /// The version that was sent last (in `Sending`: that is being sent).
    pub sent: Option<Sent>,
    /// What `sent` was before the lease, to go back to where nothing left.
    pub before: Option<Sent>,
    /// The payload of `sent` where a newer version waits and these bytes may be needed once more.
    pub sent_payload: Option<PayloadRef>,
    /// In `Sending`: an earlier send of the same version may have arrived.
    pub resend: bool,
    /// The service may hold something under this identity: from here on it is frozen.
    pub taken: bool,
    /// That rules or mapping would price it otherwise has been noted.
    pub drifted: bool,
    /// There is an open hold.
    pub on_hold: bool,
    /// The chunk whose event created the row; `None` where an event of its own did.
    pub born: Option<i64>,
    /// The last batch it was in.
    pub batch: Option<i64>,
    /// The event that found it loaded last.
    pub confirm: Option<i64>,
    /// When the service loaded it, and the charge it showed.
    pub loaded: Option<(i64, Decimal)>,
    /// What the service said when it refused or failed it last.
    pub error: Option<String>,
    /// Input file.
    pub file: Arc<str>,
    /// First line, from 1.
    pub line: u64,
}

/// Which bytes a lease hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leasing {
    /// The version.
    pub version: u32,
    /// Its bytes; `None` only where the ledger is damaged.
    pub payload: Option<PayloadRef>,
}

impl Row {
    /// A row of which nothing is wanted yet, as it is before its first event.
    #[must_use]
    pub fn blank(key: String, usage_type: UsageType, source_digest: u128, file: Arc<str>, line: u64) -> Self {
        Self {
            key,
            usage_type,
            state: State::Held,
            version: 0,
            wanted: None,
            source_digest,
            sent: None,
            before: None,
            sent_payload: None,
            resend: false,
            taken: false,
            drifted: false,
            on_hold: false,
            born: None,
            batch: None,
            confirm: None,
            loaded: None,
            error: None,
            file,
            line,
        }
    }

    /// True where a version newer than the one that was sent waits for its turn.
    #[must_use]
    pub fn waiting(&self) -> bool {
        !matches!(self.state, State::Held | State::Pending | State::Superseded)
            && self.sent.is_some_and(|sent| sent.version < self.version)
    }

    /// True from the moment that the service may hold something under this identity.
    #[must_use]
    pub fn frozen(&self) -> bool {
        self.taken || self.state == State::Sending
    }

    /// True where the identity belongs to this row, so that no other may use it.
    #[must_use]
    pub fn owns_identity(&self) -> bool {
        !matches!(self.state, State::Held | State::Superseded)
    }

    /// The charge that the state speaks of: the sent one once sent, the newest one before.
    #[must_use]
    pub fn charge(&self) -> Option<Decimal> {
        match self.state {
            State::Held | State::Pending | State::Superseded => {
                self.wanted.as_ref().map(|wanted| wanted.charge)
            }
            _ => self.sent.map(|sent| sent.charge),
        }
    }

    /// Moves the row by an event that changes nothing but the state.
    ///
    /// # Errors
    /// Where the event is illegal; the row is as it was.
    pub fn step(&mut self, event: Event) -> Result<(), IllegalEvent> {
        self.state = self.state.next(event)?;
        self.drop_payloads();
        Ok(())
    }

    /// Takes a newer version. `event` is `Restated`, `Released` or `Recorded`.
    ///
    /// # Errors
    /// Where the event is illegal; the row is as it was.
    pub fn want(&mut self, event: Event, wanted: Wanted, source_digest: u128) -> Result<(), IllegalEvent> {
        let state = self.state.next(event)?;
        let on_the_wire = matches!(state, State::Sending | State::Unknown);
        if on_the_wire && !self.waiting() {
            self.sent_payload = self.wanted.as_ref().and_then(|wanted| wanted.payload);
        }
        let same = self.wanted.as_ref().is_some_and(|old| old.digest == wanted.digest);
        if !same || self.version == 0 {
            self.version = self.version.saturating_add(1);
        }
        self.state = state;
        self.wanted = Some(wanted);
        self.source_digest = source_digest;
        self.drifted = false;
        self.drop_payloads();
        Ok(())
    }

    /// Hands the row to a sender: the newest version, or, after an unknown outcome, the very same version again.
    ///
    /// # Errors
    /// Where it is neither pending nor unknown.
    pub fn lease(&mut self, batch: i64, now: i64) -> Result<Leasing, IllegalEvent> {
        let resend = self.state == State::Unknown;
        let state = self.state.next(Event::Leased)?;
        let newest = self.wanted.as_ref().and_then(|wanted| wanted.payload);
        let (version, payload) = match (resend, self.sent) {
            (true, Some(sent)) if sent.version < self.version => (sent.version, self.sent_payload),
            _ => (self.version, newest),
        };
        let charge = self.wanted.as_ref().map_or(Decimal::ZERO, |wanted| wanted.charge);
        let before = self.sent;
        self.sent = Some(match before {
            // The earliest send counts, also where a clock went back: a load is compared with it.
            Some(sent) if sent.version == version => {
                Sent { first_at: sent.first_at.min(now), last_at: now, ..sent }
            }
            _ => Sent { version, charge, first_at: now, last_at: now },
        });
        if !resend {
            self.before = before;
        }
        self.state = state;
        self.resend = resend;
        self.batch = Some(batch);
        self.drop_payloads();
        Ok(Leasing { version, payload })
    }

    /// What a sender's word does to a row that is being sent. Answers the events, in order.
    ///
    /// # Errors
    /// Where the row is not being sent.
    pub fn settle(&mut self, outcome: &RecordOutcome) -> Result<Vec<Event>, IllegalEvent> {
        let event = match outcome {
            RecordOutcome::Accepted => Event::Accepted,
            RecordOutcome::Refused(_) => Event::Refused,
            // Nothing left this time, but the time before it may have.
            RecordOutcome::NotSent(_) if self.resend => Event::Lost,
            RecordOutcome::NotSent(_) => Event::NotSent,
            RecordOutcome::Unknown(_) => Event::Lost,
        };
        let state = self.state.next(event)?;
        match event {
            Event::Accepted => self.taken = true,
            Event::Lost => {
                // What was refused before this is nothing to go back to, should this turn out not to have arrived.
                self.before = self.before.filter(|_| self.taken);
                self.taken = true;
            }
            Event::NotSent => self.sent = self.before,
            _ => {}
        }
        // `before` outlives an unknown outcome: a person may still find that nothing arrived.
        if event != Event::Lost {
            self.before = None;
        }
        if let RecordOutcome::Refused(text) = outcome {
            self.error = Some(text.clone());
        }
        self.resend = false;
        self.state = state;
        self.promote_after(event, event == Event::Refused)
    }

    /// The service shows it as charged.
    ///
    /// # Errors
    /// Where it is not awaited.
    pub fn load(&mut self, confirm: i64, at: i64, charge: Decimal) -> Result<Vec<Event>, IllegalEvent> {
        self.state = self.state.next(Event::Loaded)?;
        self.taken = true;
        self.before = None;
        self.error = None;
        self.confirm = Some(confirm);
        self.loaded = Some((at, charge));
        self.promote_after(Event::Loaded, true)
    }

    /// A person saw that it is charged, where the service does not say so.
    ///
    /// # Errors
    /// Where it is not awaited.
    pub fn seen_loaded(&mut self, at: i64) -> Result<Vec<Event>, IllegalEvent> {
        self.state = self.state.next(Event::Loaded)?;
        self.taken = true;
        self.before = None;
        self.error = None;
        // The event of its own that notes it is found by the key.
        self.confirm = None;
        self.loaded = Some((at, self.sent.map_or(Decimal::ZERO, |sent| sent.charge)));
        self.promote_after(Event::Loaded, true)
    }

    /// Goes on under another identity: what the service holds under the old one is zero, and settled.
    ///
    /// # Errors
    /// Where it is neither loaded nor accepted.
    pub fn move_to(&mut self, wanted: Wanted, source_digest: u128) -> Result<(), IllegalEvent> {
        self.state = self.state.next(Event::Moved)?;
        self.version = self.version.saturating_add(1);
        self.wanted = Some(wanted);
        self.source_digest = source_digest;
        self.drifted = false;
        self.drop_payloads();
        Ok(())
    }

    /// A person gives up what the service refused or could not load: it holds nothing of it.
    ///
    /// # Errors
    /// Where it is neither rejected nor failed.
    pub fn give_up(&mut self) -> Result<(), IllegalEvent> {
        self.state = self.state.next(Event::Dropped)?;
        (self.taken, self.sent, self.before) = (false, None, None);
        self.drop_payloads();
        Ok(())
    }

    /// The service could not load it.
    ///
    /// # Errors
    /// Where it is not awaited.
    pub fn fail(&mut self, error: &str) -> Result<Vec<Event>, IllegalEvent> {
        self.state = self.state.next(Event::Failed)?;
        self.before = None;
        self.error = Some(error.to_owned());
        self.promote_after(Event::Failed, true)
    }

    /// A person says whether a row of unknown fate arrived.
    ///
    /// # Errors
    /// Where its fate is not unknown.
    pub fn resolve(&mut self, arrived: bool) -> Result<Vec<Event>, IllegalEvent> {
        let event = if arrived { Event::Arrived } else { Event::Absent };
        self.state = self.state.next(event)?;
        if !arrived {
            self.sent = self.before;
            self.taken = self.before.is_some();
        }
        self.before = None;
        self.promote_after(event, false)
    }

    /// Lets a waiting newer version have its turn where the one before is settled.
    fn promote_after(&mut self, event: Event, settled: bool) -> Result<Vec<Event>, IllegalEvent> {
        let mut events = vec![event];
        if settled && self.waiting() {
            self.state = self.state.next(Event::Promoted)?;
            events.push(Event::Promoted);
        }
        self.drop_payloads();
        Ok(events)
    }

    /// Lets go of bytes that no later step can ask for.
    fn drop_payloads(&mut self) {
        let waiting = self.waiting();
        let done = match self.state {
            State::Held | State::Superseded => true,
            State::Loaded => !waiting,
            _ => false,
        };
        if let Some(wanted) = &mut self.wanted
            && done
        {
            wanted.payload = None;
        }
        if !(waiting && matches!(self.state, State::Sending | State::Unknown)) {
            self.sent_payload = None;
        }
    }

    /// What in this row contradicts itself; empty in a sound ledger.
    #[must_use]
    pub fn faults(&self) -> Vec<&'static str> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, fault: &'static str| {
            if !holds {
                faults.push(fault);
            }
        };
        let (state, waiting) = (self.state, self.waiting());
        let payload = self.wanted.as_ref().is_some_and(|wanted| wanted.payload.is_some());
        let done = matches!(state, State::Held | State::Superseded) || (state == State::Loaded && !waiting);
        must(self.owns_identity() || !self.taken, "taken by the service, yet held or superseded");
        must(state != State::Held || self.on_hold, "held without an open hold");
        must(state != State::Superseded || !self.on_hold, "superseded with an open hold");
        must(!self.owns_identity() || self.wanted.is_some(), "nothing wanted");
        must((self.version > 0) == self.wanted.is_some(), "version and newest version disagree");
        must(payload != done, if done { "payload kept for nothing" } else { "payload missing" });
        must(
            self.sent_payload.is_some() == (waiting && matches!(state, State::Sending | State::Unknown)),
            "payload of the sent version missing, or kept for nothing",
        );
        must(!self.taken || self.sent.is_some(), "taken, yet never sent");
        must(self.sent.is_none_or(|sent| sent.version <= self.version), "sent version above the newest");
        // What another program sent was in no batch of ours.
        must(self.sent.is_none() || self.batch.is_some() || self.taken, "sent, yet in no batch");
        match state {
            State::Sending => must(self.sent.is_some(), "sending nothing"),
            State::Unknown | State::Accepted | State::Loaded | State::Failed => {
                must(self.taken, "settled, yet not taken");
            }
            State::Rejected => must(self.sent.is_some(), "rejected, yet never sent"),
            State::Held | State::Pending | State::Superseded => {}
        }
        must(
            !waiting || matches!(state, State::Sending | State::Unknown | State::Accepted),
            "a newer version waits behind a settled one",
        );
        must(state == State::Sending || !self.resend, "marked as sent again, yet not being sent");
        must((state != State::Loaded) || self.loaded.is_some(), "loaded, yet no load noted");
        faults
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn wanted(digest: u128, charge: i128) -> Wanted {
        Wanted {
            identity: Identity {
                resource: "cpu.example".into(),
                local_record_id: "91".into(),
                submit: 1_000,
            },
            username: "alice".into(),
            project: "TG-1".into(),
            charge: Decimal::new(charge, 0),
            digest,
            facts: SourceFacts { start: 1_100, end: 1_200, elapsed: 100, requeued: false },
            payload: Some(PayloadRef { chunk: 1, offset: 0, len: 10 }),
        }
    }

    pub(crate) fn pending() -> Row {
        Row {
            state: State::Pending,
            version: 1,
            wanted: Some(wanted(1, 10)),
            born: Some(1),
            ..Row::blank("k".into(), UsageType::Compute, 1, "f".into(), 1)
        }
    }

    fn sound(row: &Row) {
        assert_eq!(row.faults(), Vec::<&str>::new(), "{row:?}");
    }

    #[test]
    fn accepting_the_first_version_does_not_settle_the_second() {
        let mut row = pending();
        row.lease(7, 100).unwrap();
        row.want(Event::Restated, wanted(2, 20), 2).unwrap();
        assert_eq!(row.settle(&RecordOutcome::Accepted).unwrap(), [Event::Accepted]);
        assert_eq!((row.state, row.version, row.sent.unwrap().version), (State::Accepted, 2, 1));
        assert!(row.waiting());
        sound(&row);
        // The load of the first lets the second go.
        assert_eq!(row.load(1, 200, Decimal::new(10, 0)).unwrap(), [Event::Loaded, Event::Promoted]);
        assert_eq!(row.state, State::Pending);
        sound(&row);
        assert_eq!(row.lease(8, 300).unwrap().version, 2);
        assert_eq!(row.sent.unwrap().charge, Decimal::new(20, 0));
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_with_the_same_bytes_though_a_newer_version_waits() {
        let mut row = pending();
        let first = row.lease(7, 100).unwrap();
        row.settle(&RecordOutcome::Unknown("timeout".into())).unwrap();
        let mut newer = wanted(2, 20);
        newer.payload = Some(PayloadRef { chunk: 2, offset: 5, len: 10 });
        row.want(Event::Restated, newer, 2).unwrap();
        sound(&row);
        let again = row.lease(8, 200).unwrap();
        assert_eq!(again, first);
        assert_eq!((row.sent.unwrap().first_at, row.sent.unwrap().last_at), (100, 200));
        sound(&row);
    }

    #[test]
    fn not_sent_goes_back_but_a_resend_stays_unknown() {
        let mut row = pending();
        row.lease(7, 100).unwrap();
        row.settle(&RecordOutcome::NotSent("no route".into())).unwrap();
        assert_eq!((row.state, row.sent, row.taken), (State::Pending, None, false));
        sound(&row);
        row.lease(8, 100).unwrap();
        row.settle(&RecordOutcome::Unknown("timeout".into())).unwrap();
        row.lease(9, 100).unwrap();
        row.settle(&RecordOutcome::NotSent("no route".into())).unwrap();
        assert_eq!((row.state, row.taken), (State::Unknown, true));
        sound(&row);
        // A person who asked the service's staff knows better.
        row.resolve(false).unwrap();
        assert_eq!((row.state, row.sent, row.taken), (State::Pending, None, false));
        sound(&row);
    }

    #[test]
    fn a_refused_version_makes_room_for_the_waiting_one() {
        let mut row = pending();
        row.lease(7, 100).unwrap();
        row.want(Event::Restated, wanted(2, 20), 2).unwrap();
        let events = row.settle(&RecordOutcome::Refused("no such user".into())).unwrap();
        assert_eq!(events, [Event::Refused, Event::Promoted]);
        assert_eq!((row.state, row.taken), (State::Pending, false));
        sound(&row);
    }

    #[test]
    fn a_load_lets_the_bytes_go() {
        let mut row = pending();
        row.lease(7, 100).unwrap();
        row.settle(&RecordOutcome::Accepted).unwrap();
        assert!(row.wanted.as_ref().unwrap().payload.is_some());
        row.load(1, 200, Decimal::new(10, 0)).unwrap();
        assert!(row.wanted.as_ref().unwrap().payload.is_none());
        sound(&row);
    }

    #[test]
    fn an_illegal_event_leaves_the_row_as_it_was() {
        let mut row = pending();
        let before = row.clone();
        assert!(row.settle(&RecordOutcome::Accepted).is_err());
        assert!(row.load(1, 2, Decimal::ZERO).is_err());
        assert!(row.resolve(true).is_err());
        assert!(row.step(Event::Arrived).is_err());
        assert_eq!(row, before);
    }
}

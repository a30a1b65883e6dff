//! The state machine of a ledger row: one `match` on (state, event), and every other pair is an error.
//!
//! The same function serves live changes and [`verify`](super::Ledger::verify), which replays histories: a replay
//! cannot accept what a live change would refuse. The table in the documentation is [`transition_table`]'s output.

use std::fmt;

/// Where a row stands. What it says is about the version that was sent last, or, before any was, about the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// A person or a table must decide first; nothing was ever sent.
    Held,
    /// To be sent.
    Pending,
    /// Leased to a sender: may be on the wire at this moment.
    Sending,
    /// Sent, but nobody knows whether it arrived.
    Unknown,
    /// The service queued it.
    Accepted,
    /// The service refused it.
    Rejected,
    /// The service shows it as charged.
    Loaded,
    /// The service queued it and could not load it.
    Failed,
    /// Nothing is wanted of it any more (a zero charge, waived, skipped), and nothing was ever taken.
    Superseded,
}

/// What can happen to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// Mapping made a record of it.
    Recorded,
    /// Mapping, or the ledger itself, wants a person to look first.
    Held,
    /// It maps now, or was approved.
    Released,
    /// A person waived it or gave it up, or the rules skip it now.
    Dropped,
    /// There is a newer version.
    Restated,
    /// The charge is zero now, and the service never took anything.
    Zeroed,
    /// It ended before its resource's go-live, and the service holds nothing of it.
    Withheld,
    /// Another program had sent it, and it is with the service.
    Imported,
    /// The run that it was made of took an imported record over.
    Adopted,
    /// A sender took it.
    Leased,
    /// The service queued it.
    Accepted,
    /// The service refused it.
    Refused,
    /// No answer that says whether it arrived; or the sender died.
    Lost,
    /// It certainly never left.
    NotSent,
    /// The service shows it as charged.
    Loaded,
    /// The service could not load it.
    Failed,
    /// The version before is settled, or has been quiet for long enough: the newer one's turn.
    Promoted,
    /// Zero is settled under the old identity: the record goes on under its new one.
    Moved,
    /// A person wants the same version sent again.
    Retried,
    /// A person says that it arrived.
    Arrived,
    /// A person says that it did not arrive.
    Absent,
}

/// An event that cannot happen in this state: a mistake in the caller, and nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("\"{event}\" cannot happen to a row that is {}", self.state_name())]
pub struct IllegalEvent {
    /// The state; `None` where there is no row yet.
    pub state: Option<State>,
    /// The event.
    pub event: Event,
}

impl IllegalEvent {
    fn state_name(&self) -> &'static str {
        self.state.map_or("not there yet", State::as_str)
    }
}

impl State {
    /// All states, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Held,
        Self::Pending,
        Self::Sending,
        Self::Unknown,
        Self::Accepted,
        Self::Rejected,
        Self::Loaded,
        Self::Failed,
        Self::Superseded,
    ];

    /// The word for it, in reports and summaries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Unknown => "unknown",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// The state that the first event of a row leads to.
    ///
    /// # Errors
    /// Where a row cannot begin with this event.
    pub fn begin(event: Event) -> Result<Self, IllegalEvent> {
        match event {
            Event::Recorded => Ok(Self::Pending),
            Event::Held => Ok(Self::Held),
            Event::Withheld => Ok(Self::Superseded),
            Event::Imported => Ok(Self::Loaded),
            _ => Err(IllegalEvent { state: None, event }),
        }
    }

    /// The state that `event` leads to from here.
    ///
    /// ```
    /// use runner::ledger::{Event, State};
    /// assert_eq!(State::Sending.next(Event::Lost), Ok(State::Unknown));
    /// assert!(State::Loaded.next(Event::Leased).is_err());
    /// ```
    ///
    /// # Errors
    /// Where the event cannot happen in this state.
    pub fn next(self, event: Event) -> Result<Self, IllegalEvent> {
        match (self, event) {
            (Self::Held, Event::Held) => Ok(Self::Held), // another reason, or seen to change
            (Self::Held, Event::Released) => Ok(Self::Pending),
            (Self::Held, Event::Dropped | Event::Zeroed | Event::Withheld) => Ok(Self::Superseded),

            (Self::Pending, Event::Held) => Ok(Self::Held),
            (Self::Pending, Event::Zeroed | Event::Withheld) => Ok(Self::Superseded),
            (Self::Pending, Event::Restated) => Ok(Self::Pending),
            (Self::Pending, Event::Leased) => Ok(Self::Sending),

            // The service took nothing of it from here, and has it all the same.
            (Self::Held | Self::Pending | Self::Rejected | Self::Superseded, Event::Imported) => {
                Ok(Self::Loaded)
            }
            (Self::Loaded, Event::Adopted) => Ok(Self::Superseded),

            // What is on the wire stays what it is; the newer version waits behind it.
            (Self::Sending, Event::Restated) => Ok(Self::Sending),
            (Self::Sending, Event::Accepted) => Ok(Self::Accepted),
            (Self::Sending, Event::Refused) => Ok(Self::Rejected),
            (Self::Sending, Event::Lost) => Ok(Self::Unknown),
            (Self::Sending, Event::NotSent) => Ok(Self::Pending),

            (Self::Unknown, Event::Restated) => Ok(Self::Unknown),
            (Self::Unknown, Event::Leased) => Ok(Self::Sending), // the same bytes again: they overwrite
            (Self::Unknown, Event::Arrived) => Ok(Self::Accepted),
            (Self::Unknown, Event::Absent) => Ok(Self::Pending),
            (Self::Unknown, Event::Loaded) => Ok(Self::Loaded),
            (Self::Unknown, Event::Failed) => Ok(Self::Failed),

            (Self::Accepted, Event::Restated) => Ok(Self::Accepted),
            (Self::Accepted, Event::Loaded) => Ok(Self::Loaded),
            (Self::Accepted, Event::Failed) => Ok(Self::Failed),
            (Self::Accepted, Event::Promoted) => Ok(Self::Pending), // quiet for long enough
            (Self::Accepted, Event::Retried) => Ok(Self::Pending),  // a person says that it was lost
            // What is settled, or has been quiet for long enough, is zero: the new identity may have the charge.
            (Self::Accepted | Self::Loaded, Event::Moved) => Ok(Self::Pending),

            // The service may show a record in the end that it refused or failed before (a send before the last
            // one arrived after all; its people repaired an allocation).
            (Self::Rejected | Self::Failed, Event::Loaded) => Ok(Self::Loaded),
            (Self::Rejected | Self::Failed, Event::Retried) => Ok(Self::Pending),
            (Self::Rejected, Event::Zeroed | Event::Withheld) => Ok(Self::Superseded),
            // Only of adjustments: a run is asked for again whenever its input is read.
            (Self::Rejected | Self::Failed, Event::Dropped) => Ok(Self::Superseded),
            (Self::Rejected | Self::Loaded | Self::Failed, Event::Restated | Event::Promoted) => {
                Ok(Self::Pending)
            }

            (Self::Superseded, Event::Recorded) => Ok(Self::Pending),
            (Self::Superseded, Event::Held) => Ok(Self::Held),

            (state, event) => Err(IllegalEvent { state: Some(state), event }),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Event {
    /// All events, in the order of the table.
    pub const ALL: [Self; 21] = [
        Self::Recorded,
        Self::Held,
        Self::Released,
        Self::Dropped,
        Self::Restated,
        Self::Zeroed,
        Self::Withheld,
        Self::Imported,
        Self::Adopted,
        Self::Leased,
        Self::Accepted,
        Self::Refused,
        Self::Lost,
        Self::NotSent,
        Self::Loaded,
        Self::Failed,
        Self::Promoted,
        Self::Moved,
        Self::Retried,
        Self::Arrived,
        Self::Absent,
    ];

    /// The word for it, in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Held => "held",
            Self::Released => "released",
            Self::Dropped => "dropped",
            Self::Restated => "restated",
            Self::Zeroed => "zeroed",
            Self::Withheld => "withheld",
            Self::Imported => "imported",
            Self::Adopted => "adopted",
            Self::Leased => "leased",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::NotSent => "not-sent",
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Promoted => "promoted",
            Self::Moved => "moved",
            Self::Retried => "retried",
            Self::Arrived => "arrived",
            Self::Absent => "absent",
        }
    }

    /// What it means, in a few words, for the table.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Recorded => "ingest: mapping made a record of it",
            Self::Held => "ingest: a person must look first",
            Self::Released => "ingest or a person: it maps now, or was approved",
            Self::Dropped => "a person waived it (of adjustments: withdrew it), or the rules skip it now",
            Self::Restated => "ingest: there is a newer version",
            Self::Zeroed => "ingest: zero charge now, and the service never took anything",
            Self::Withheld => "it ended before its resource's go-live, and the service holds nothing of it",
            Self::Imported => "another program sent it before (`ledger import-sent`)",
            Self::Adopted => "ingest: the run of an imported record took it over",
            Self::Leased => "lease: a sender took it",
            Self::Accepted => "settle: the service queued it",
            Self::Refused => "settle: the service refused it",
            Self::Lost => "settle or recover: nobody knows whether it arrived",
            Self::NotSent => "settle: it certainly never left",
            Self::Loaded => "confirm: the service shows it as charged",
            Self::Failed => "confirm: the service could not load it",
            Self::Promoted => "the version before is settled or quiet: the newer one's turn",
            Self::Moved => "zero is settled under the old identity: the new one has its turn",
            Self::Retried => "a person wants the same version sent again",
            Self::Arrived => "a person says that it arrived",
            Self::Absent => "a person says that it did not arrive",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Every legal transition as a Markdown table, for the documentation.
#[must_use]
pub fn transition_table() -> String {
    let mut table = String::from("| from | event | to | when |\n| --- | --- | --- | --- |\n");
    let mut row = |from: &str, event: Event, to: State| {
        table.push_str(&format!("| {from} | {event} | {to} | {} |\n", event.meaning()));
    };
    for event in Event::ALL {
        if let Ok(to) = State::begin(event) {
            row("(no row)", event, to);
        }
    }
    for from in State::ALL {
        for event in Event::ALL {
            if let Ok(to) = from.next(event) {
                row(from.as_str(), event, to);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Written by hand from the story in `mod.rs`: one line a state, `event>next`. What is not here is illegal.
    const LEGAL: &str = "
        held: held>held released>pending dropped>superseded zeroed>superseded withheld>superseded imported>loaded
        pending: held>held zeroed>superseded withheld>superseded imported>loaded restated>pending leased>sending
        sending: restated>sending accepted>accepted refused>rejected lost>unknown not-sent>pending
        unknown: restated>unknown leased>sending arrived>accepted absent>pending loaded>loaded failed>failed
        accepted: restated>accepted loaded>loaded failed>failed promoted>pending moved>pending retried>pending
        rejected: dropped>superseded restated>pending zeroed>superseded withheld>superseded imported>loaded loaded>loaded promoted>pending retried>pending
        loaded: restated>pending promoted>pending moved>pending adopted>superseded
        failed: dropped>superseded restated>pending loaded>loaded promoted>pending retried>pending
        superseded: recorded>pending held>held imported>loaded";

    #[test]
    fn the_whole_product_is_what_the_story_says() {
        let mut legal = BTreeMap::new();
        for line in LEGAL.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (state, moves) = line.split_once(':').unwrap();
            for (event, next) in moves.split_whitespace().map(|one| one.split_once('>').unwrap()) {
                assert_eq!(legal.insert((state, event), next), None);
            }
        }
        let mut met = 0;
        for state in State::ALL {
            for event in Event::ALL {
                match (state.next(event), legal.get(&(state.as_str(), event.as_str()))) {
                    (Ok(next), Some(expected)) => {
                        assert_eq!(next.as_str(), *expected, "{state} {event}");
                        met += 1;
                    }
                    (Err(error), None) => assert_eq!(error, IllegalEvent { state: Some(state), event }),
                    (got, expected) => panic!("{state} {event}: {got:?}, expected {expected:?}"),
                }
            }
        }
        assert_eq!(met, legal.len());
    }

    #[test]
    fn a_row_begins_recorded_held_withheld_or_imported() {
        for event in Event::ALL {
            let expected = match event {
                Event::Recorded => Ok(State::Pending),
                Event::Held => Ok(State::Held),
                Event::Withheld => Ok(State::Superseded),
                Event::Imported => Ok(State::Loaded),
                _ => Err(IllegalEvent { state: None, event }),
            };
            assert_eq!(State::begin(event), expected);
        }
    }

    #[test]
    fn an_illegal_event_names_both_halves() {
        let error = State::Loaded.next(Event::Leased).unwrap_err();
        assert_eq!(error.to_string(), "\"leased\" cannot happen to a row that is loaded");
    }

    #[test]
    fn nothing_but_a_sender_moves_a_row_onto_the_wire() {
        for state in State::ALL {
            for event in Event::ALL {
                if state != State::Sending && state.next(event) == Ok(State::Sending) {
                    assert_eq!(event, Event::Leased);
                }
            }
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_legal_pair() {
        let table = transition_table();
        assert_eq!(table.lines().count(), 2 + 4 + LEGAL.matches('>').count());
        assert!(table.contains("| sending | lost | unknown |"), "{table}");
    }
}

//! Gathering small pieces of input into chunks that are worth a transaction, and their reports into one.

use super::{Candidate, Chunk, Decided, Ingested};

impl Chunk {
    /// Rows of all kinds.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.records.len() + self.held.len() + self.quarantined.len()
    }

    /// Appends another chunk of the same source and rules.
    pub fn append(&mut self, other: Self) {
        let shift = self.payloads.len();
        let moved = |mut candidate: Candidate| {
            candidate.payload = candidate.payload.start + shift..candidate.payload.end + shift;
            candidate
        };
        if shift == 0 {
            self.payloads = other.payloads;
        } else {
            self.payloads.extend_from_slice(&other.payloads);
        }
        self.records.extend(other.records.into_iter().map(moved));
        self.held.extend(other.held.into_iter().map(|mut held| {
            held.candidate = held.candidate.map(moved);
            held
        }));
        self.quarantined.extend(other.quarantined);
        self.carried.extend(other.carried);
    }
}

impl Ingested {
    /// Adds another report.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            inserted,
            unchanged,
            ignored,
            replaced,
            superseded,
            revived,
            released,
            restated,
            drifted,
            drifted_first,
            held,
            held_again,
            waived,
            outdated,
            adopted,
            withheld,
            quarantined,
            quarantined_again,
        } = other;
        for (sum, more) in [
            (&mut self.inserted, inserted),
            (&mut self.unchanged, unchanged),
            (&mut self.ignored, ignored),
            (&mut self.replaced, replaced),
            (&mut self.superseded, superseded),
            (&mut self.revived, revived),
            (&mut self.released, released),
            (&mut self.restated, restated),
            (&mut self.drifted, drifted),
            (&mut self.drifted_first, drifted_first),
            (&mut self.held, held),
            (&mut self.held_again, held_again),
            (&mut self.waived, waived),
            (&mut self.outdated, outdated),
            (&mut self.adopted, adopted),
            (&mut self.withheld, withheld),
            (&mut self.quarantined, quarantined),
            (&mut self.quarantined_again, quarantined_again),
        ] {
            *sum += more;
        }
    }
}

impl Decided {
    /// Adds another one.
    pub fn merge(&mut self, other: Self) {
        let Self { done, asked_again, withheld } = other;
        self.done += done;
        self.asked_again += asked_again;
        self.withheld += withheld;
    }
}

//! When refused records are believed: what the deliveries of one run know together about records that were refused alone.
//!
//! A message that is refused whole is cut down to single records. A single record that is refused may be wrong. It may also
//! be that the service, or this program, is: then every record is refused, and to mark them all would hide the fault behind
//! thousands of rejected records. The two are told apart by asking whether the service takes *anything* of that type:
//!
//! - A refusal **stands** until a message that was sent after it has been taken, at least in part, by whichever delivery of
//!   the run. A taken message shows that the service works, and confirms the refusals before it.
//! - [`SAME_TEXT`] standing refusals with one text, or [`ANY_TEXT`] with whatever texts, are **suspicious**. A delivery that
//!   sees that sends up to [`PROBES`] of its other records alone. Where one is taken, the refusals are confirmed, and all goes
//!   on. Where none is, or none is left, the run stops, and no standing refusal is reported as one.

use crate::UsageType;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Standing refusals with one text that are suspicious.
pub(crate) const SAME_TEXT: usize = 5;
/// Standing refusals of any text that are: a text may name a record or a request, and so be another one each time.
pub(crate) const ANY_TEXT: usize = 20;
/// Records that are tried alone before a run is stopped.
pub(crate) const PROBES: usize = 5;

/// A moment in the order of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// What the deliveries of one run have seen.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Counts the refusals of records that were sent alone.
    count: u64,
    /// Those that no taken message has confirmed. Few: a delivery probes before there are many.
    standing: Vec<Standing>,
}

#[derive(Debug)]
struct Standing {
    moment: Moment,
    usage_type: UsageType,
    /// The text without its numbers.
    shape: String,
}

impl Refusals {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now: to be taken before a message is sent.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.seen().count)
    }

    /// A record was refused alone.
    pub(crate) fn refused(&self, usage_type: UsageType, reason: &str) -> Moment {
        let mut seen = self.seen();
        seen.count = seen.count.saturating_add(1);
        let moment = Moment(seen.count);
        seen.standing.push(Standing { moment, usage_type, shape: shape(reason) });
        moment
    }

    /// At least one record of a message was taken that was sent at that moment.
    pub(crate) fn taken(&self, usage_type: UsageType, sent: Moment) {
        self.seen().standing.retain(|standing| standing.usage_type != usage_type || standing.moment > sent);
    }

    /// True where a refusal still stands.
    pub(crate) fn stands(&self, moment: Moment) -> bool {
        self.seen().standing.iter().any(|standing| standing.moment == moment)
    }

    /// What looks wrong with the refusals of a type, if anything does.
    pub(crate) fn suspicion(&self, usage_type: UsageType) -> Option<String> {
        let seen = self.seen();
        let standing = seen.standing.iter().filter(|standing| standing.usage_type == usage_type);
        let texts: Vec<&str> = standing.map(|standing| standing.shape.as_str()).collect();
        let same = texts.iter().map(|text| texts.iter().filter(|other| *other == text).count()).max()?;
        if same >= SAME_TEXT {
            return Some(format!("{same} {usage_type} records were refused with one text"));
        }
        (texts.len() >= ANY_TEXT).then(|| format!("{} {usage_type} records were refused", texts.len()))
    }
}

/// A text without its numbers: `record 17 is bad` and `record 18 is bad` are one text.
fn shape(reason: &str) -> String {
    let mut shape = String::with_capacity(reason.len());
    for character in reason.chars() {
        if !character.is_ascii_digit() {
            shape.push(character);
        } else if !shape.ends_with('#') {
            shape.push('#');
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use UsageType::{Compute, Storage};

    #[test]
    fn five_of_one_text_or_twenty_of_any_are_suspicious() {
        let refusals = Refusals::default();
        for id in 0..4 {
            refusals.refused(Compute, &format!("record {id} is bad"));
        }
        assert_eq!(refusals.suspicion(Compute), None);
        refusals.refused(Storage, "record 5 is bad");
        assert_eq!(refusals.suspicion(Compute), None, "types are judged apart");
        refusals.refused(Compute, "record 1234 is bad");
        assert!(refusals.suspicion(Compute).is_some_and(|text| text.contains("one text")));
        assert_eq!(refusals.suspicion(Storage), None);

        let refusals = Refusals::default();
        for id in 0..ANY_TEXT {
            assert_eq!(refusals.suspicion(Compute), None, "{id}");
            refusals.refused(Compute, &"x".repeat(id));
        }
        assert!(refusals.suspicion(Compute).is_some());
    }

    #[test]
    fn only_a_message_that_was_sent_later_confirms() {
        let refusals = Refusals::default();
        let before = refusals.now();
        let first = refusals.refused(Compute, "bad");
        let between = refusals.now();
        let second = refusals.refused(Compute, "bad");
        refusals.taken(Compute, before);
        refusals.taken(Storage, refusals.now());
        assert!(refusals.stands(first) && refusals.stands(second));
        refusals.taken(Compute, between);
        assert!(!refusals.stands(first) && refusals.stands(second));
        refusals.taken(Compute, refusals.now());
        assert!(!refusals.stands(second));
    }
}

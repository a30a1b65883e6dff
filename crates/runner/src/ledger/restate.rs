//! What a record or a held run means for the row that the ledger already has: pure decisions, with their causes.
//!
//! A different payload under a known key is a restatement, and a restatement has a cause. What the *source* says
//! otherwise is sent again, except for the two changes that are known to be false, for charges below what was refunded, and
//! for readings and adjustments, which the service might add up. What *rules* or *tables* make of
//! the same source never re-prices silently: it is counted and noted, and a person restates.

use super::row::{Identity, Row, Wanted};
use super::{SourceFacts, State};
use amie_usage::{ComputeUsageRecord, Decimal, UsageType, wire};
use std::borrow::Cow;

/// Why a payload is another than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The source says something else.
    Source,
    /// The same source, priced otherwise.
    Rules,
    /// The same source, for another user or project.
    Mapping,
}

impl Cause {
    /// The word for it, in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Rules => "rules",
            Self::Mapping => "mapping",
        }
    }
}

/// Why the ledger itself holds a restatement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// It would change an identity under which the service holds something.
    IdentityChanged,
    /// A finished run that was requeued later: Slurm then rewrites the same row, and its end grows to that moment.
    GrownByRequeue,
    /// The repair of a "runaway" job: Slurm then writes an elapsed time of 0, whatever was used.
    RunawayRepair,
    /// Another reading or adjustment under an identity that was sent: nobody knows whether the service would replace
    /// the first or add to it.
    MayAdd,
    /// A charge below what refunds of the run give back.
    BelowRefund {
        /// How much they give back.
        refunded: Decimal,
    },
}

impl Suspicion {
    /// The reason code of the hold.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::IdentityChanged => "identity-changed",
            Self::GrownByRequeue => "grown-by-requeue",
            Self::RunawayRepair => "runaway-repair",
            Self::MayAdd => "may-add",
            Self::BelowRefund { .. } => BELOW_REFUND,
        }
    }
}

/// The reason code of a charge below what refunds of the run give back.
pub const BELOW_REFUND: &str = "below-refund";

/// The reason code of a record whose wire identity belongs to another key.
pub const COLLISION: &str = "collision";

/// The reason code of a run that is known under other times: charged, it would be charged twice.
pub const OTHER_TIMES: &str = "known-by-other-times";

/// The reason code of a record on its way to another identity: zero was sent under the old one, and must be settled
/// before the new one goes. Nobody is asked anything.
pub const MOVING: &str = "moving";

/// The reason code of a run of whose log a part is missing: what was read of it is not newer, it is less.
pub const LOG_INCOMPLETE: &str = "log-incomplete";

/// The reason code of records that a night held, because it charges far more than usual.
pub const NIGHT: &str = "above-usual-night";

/// The reason code of records that may have been sent before this ledger was put back from a backup, and that the service
/// might add up.
pub const RESTORED: &str = "restored";

/// A record that mapping offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Wire identity.
    pub identity: &'a Identity,
    /// AMIE login.
    pub username: &'a str,
    /// AMIE project.
    pub project: &'a str,
    /// Digest of the payload.
    pub digest: u128,
    /// Digest of what the source said.
    pub source_digest: u128,
    /// What restatements are judged by.
    pub facts: SourceFacts,
    /// A zero charge: wanted only where the service may hold another.
    pub only_if_sent: bool,
}

/// What to do with an offered record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No row yet: a new pending one.
    Insert,
    /// A zero charge of something that was never sent: nothing.
    Ignore,
    /// The same payload as the newest version. With `refresh`, what the source says changed without changing it.
    Unchanged {
        /// Note the new source digest and facts.
        refresh: bool,
    },
    /// A person waived exactly this: nothing.
    Waived,
    /// Not yet taken by the service: the newer version takes the place of the old one.
    Replace,
    /// Not yet taken by the service and zero now: nothing is wanted any more.
    Zero,
    /// Nothing was wanted, now it is again.
    Revive,
    /// It was held and maps now.
    Release,
    /// Sent, and the source says something else: a newer version, behind the sent one.
    Restate,
    /// Sent, and the change is one that a person must look at: the row stays as it is.
    Hold(Suspicion),
    /// Sent, and only rules or mapping changed: counted, noted once, not sent.
    Drift {
        /// Rules or mapping.
        cause: Cause,
    },
}

/// Decides about a record. `waived` is the source digest of a waiver for this key, where there is one; `repricing`
/// is true where a person approved that rule and mapping changes are sent too.
#[must_use]
pub fn decide(row: Option<&Row>, waived: Option<u128>, offer: &Offer<'_>, repricing: bool) -> Decision {
    let Some(row) = row else {
        return if offer.only_if_sent { Decision::Ignore } else { Decision::Insert };
    };
    let wanted = match (row.state, &row.wanted) {
        (State::Held, _) if offer.only_if_sent => return Decision::Zero,
        (State::Held, _) => return Decision::Release,
        (State::Superseded, _) if waived == Some(offer.source_digest) => return Decision::Waived,
        (State::Superseded, _) if offer.only_if_sent => return Decision::Ignore,
        (State::Superseded, _) | (_, None) => return Decision::Revive,
        (_, Some(wanted)) => wanted,
    };
    if wanted.digest == offer.digest {
        return Decision::Unchanged { refresh: row.source_digest != offer.source_digest };
    }
    if !row.frozen() {
        return if offer.only_if_sent { Decision::Zero } else { Decision::Replace };
    }
    if wanted.identity != *offer.identity {
        return Decision::Hold(Suspicion::IdentityChanged);
    }
    let cause = if row.source_digest != offer.source_digest {
        Cause::Source
    } else if *wanted.username != *offer.username || *wanted.project != *offer.project {
        Cause::Mapping
    } else {
        Cause::Rules
    };
    if cause == Cause::Source && row.usage_type != UsageType::Compute && row.state != State::Failed {
        return Decision::Hold(Suspicion::MayAdd);
    }
    if cause == Cause::Source {
        return known_false(wanted.facts, offer.facts).map_or(Decision::Restate, Decision::Hold);
    }
    // What the service refused or could not load is waiting for just such a change.
    if repricing || matches!(row.state, State::Rejected | State::Failed) {
        return Decision::Restate;
    }
    Decision::Drift { cause }
}

/// The two source changes that are known to be false.
fn known_false(old: SourceFacts, new: SourceFacts) -> Option<Suspicion> {
    let grown = new.elapsed > old.elapsed || new.end > old.end;
    if old.start == new.start && new.requeued && !old.requeued && grown {
        Some(Suspicion::GrownByRequeue)
    } else if old.elapsed > 0 && new.elapsed == 0 {
        Some(Suspicion::RunawayRepair)
    } else {
        None
    }
}

/// The record of a run that charges nothing under the identity by which the service knows it: `record` (the run's
/// record as it would be now, or a blank one) with resource, id, submit time, project and user of what was sent.
///
/// `None` where `record` is no compute record, or its times are none that a record can hold.
#[must_use]
pub fn zero_record(sent: &Wanted, record: &[u8]) -> Option<Vec<u8>> {
    let now: ComputeUsageRecord<'_> = serde_json::from_slice(record).ok()?;
    let zero = ComputeUsageRecord {
        username: Cow::Borrowed(&sent.username),
        local_project_id: Cow::Borrowed(&sent.project),
        local_record_id: Cow::Borrowed(&sent.identity.local_record_id),
        resource: Cow::Borrowed(&sent.identity.resource),
        submit_time: sent.identity.submit,
        charge: Decimal::ZERO,
        ..now
    };
    let mut out = Vec::with_capacity(record.len());
    wire::render_compute(&zero, &mut out).ok().map(|()| out)
}

/// What to do with a run that mapping holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldDecision {
    /// No row yet: a new held one.
    Insert,
    /// A person waived exactly this: nothing.
    Waived,
    /// The record that it would become is already the newest version (a brake that was approved).
    Unchanged,
    /// The row is held: note what is seen now.
    Refresh,
    /// The row is not held, and nothing was taken: it becomes held.
    Demote,
    /// The service may hold something, and the source says something else now: a hold beside the row.
    Beside,
    /// The service may hold something, and the source says the same: only rules or tables changed.
    Drift,
}

/// Decides about a held run. `waived` says that a waiver for this key has the same reason and source digest;
/// `candidate` is the digest of the record that it would become, where only an approval is missing.
#[must_use]
pub fn decide_held(
    row: Option<&Row>,
    waived: bool,
    candidate: Option<u128>,
    source_digest: u128,
) -> HeldDecision {
    let Some(row) = row else { return HeldDecision::Insert };
    if waived {
        return HeldDecision::Waived;
    }
    let newest = row.wanted.as_ref().map(|wanted| wanted.digest);
    match row.state {
        State::Held => HeldDecision::Refresh,
        State::Superseded => HeldDecision::Demote,
        _ if candidate.is_some() && candidate == newest => HeldDecision::Unchanged,
        State::Pending if !row.taken => HeldDecision::Demote,
        _ if row.frozen() && row.source_digest == source_digest => HeldDecision::Drift,
        _ => HeldDecision::Beside,
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::{pending, wanted};
    use super::super::{Event, RecordOutcome};
    use super::*;

    fn offer(identity: &Identity) -> Offer<'_> {
        Offer {
            identity,
            username: "alice",
            project: "TG-1",
            digest: 1,
            source_digest: 1,
            facts: wanted(1, 10).facts,
            only_if_sent: false,
        }
    }

    fn accepted() -> Row {
        let mut row = pending();
        row.lease(1, 50).unwrap();
        row.settle(&RecordOutcome::Accepted).unwrap();
        row
    }

    #[test]
    fn a_row_that_was_never_taken_follows_mapping() {
        let id = wanted(1, 10).identity;
        let other = Identity { local_record_id: "92".into(), ..id.clone() };
        let row = pending();
        for (row, offer, expected) in [
            (None, offer(&id), Decision::Insert),
            (None, Offer { only_if_sent: true, ..offer(&id) }, Decision::Ignore),
            (Some(&row), offer(&id), Decision::Unchanged { refresh: false }),
            (Some(&row), Offer { source_digest: 2, ..offer(&id) }, Decision::Unchanged { refresh: true }),
            (Some(&row), Offer { digest: 2, ..offer(&id) }, Decision::Replace),
            (Some(&row), Offer { digest: 2, ..offer(&other) }, Decision::Replace),
            (Some(&row), Offer { digest: 2, only_if_sent: true, ..offer(&id) }, Decision::Zero),
        ] {
            assert_eq!(decide(row, None, &offer, false), expected, "{offer:?}");
        }
    }

    #[test]
    fn after_a_send_only_the_source_restates() {
        let id = wanted(1, 10).identity;
        let other = Identity { submit: 1_001, ..id.clone() };
        let row = accepted();
        for (offer, expected) in [
            (Offer { digest: 2, source_digest: 2, ..offer(&id) }, Decision::Restate),
            (Offer { digest: 2, source_digest: 2, only_if_sent: true, ..offer(&id) }, Decision::Restate),
            (Offer { digest: 2, ..offer(&id) }, Decision::Drift { cause: Cause::Rules }),
            (Offer { digest: 2, project: "TG-2", ..offer(&id) }, Decision::Drift { cause: Cause::Mapping }),
            (Offer { digest: 2, username: "bob", ..offer(&id) }, Decision::Drift { cause: Cause::Mapping }),
            (Offer { digest: 2, ..offer(&other) }, Decision::Hold(Suspicion::IdentityChanged)),
            (
                Offer { digest: 2, source_digest: 2, ..offer(&other) },
                Decision::Hold(Suspicion::IdentityChanged),
            ),
        ] {
            assert_eq!(decide(Some(&row), None, &offer, false), expected, "{offer:?}");
        }
        let priced = Offer { digest: 2, ..offer(&id) };
        assert_eq!(decide(Some(&row), None, &priced, true), Decision::Restate, "a person approved");
    }

    #[test]
    fn the_two_false_changes_are_held() {
        let id = wanted(1, 10).identity;
        let row = accepted();
        let facts = wanted(1, 10).facts;
        let changed = |facts| Offer { digest: 2, source_digest: 2, facts, ..offer(&id) };
        // facts/slurm: a COMPLETED row of 2 s became REQUEUED with 9 s, same Start, same Submit.
        let grown = SourceFacts { end: facts.end + 7, elapsed: facts.elapsed + 7, requeued: true, ..facts };
        let repaired = SourceFacts { end: facts.start, elapsed: 0, ..facts };
        let hold = |suspicion| Decision::Hold(suspicion);
        assert_eq!(decide(Some(&row), None, &changed(grown), false), hold(Suspicion::GrownByRequeue));
        assert_eq!(decide(Some(&row), None, &changed(repaired), false), hold(Suspicion::RunawayRepair));
        // Near misses are honest: another start; requeued before already; not grown.
        for honest in [
            SourceFacts { start: facts.start + 1, ..grown },
            SourceFacts { requeued: false, ..grown },
            SourceFacts { requeued: true, elapsed: facts.elapsed - 1, end: facts.end - 1, ..facts },
        ] {
            assert_eq!(decide(Some(&row), None, &changed(honest), false), Decision::Restate, "{honest:?}");
        }
    }

    #[test]
    fn what_was_refused_may_change_in_any_way_and_what_failed_may_not_change_its_identity() {
        let id = wanted(1, 10).identity;
        let other = Identity { resource: "gpu.example".into(), ..id.clone() };
        let mut refused = pending();
        refused.lease(1, 50).unwrap();
        refused.settle(&RecordOutcome::Refused("no such resource".into())).unwrap();
        let mut failed = accepted();
        failed.fail("no allocation").unwrap();
        assert_eq!(
            decide(Some(&refused), None, &Offer { digest: 2, ..offer(&other) }, false),
            Decision::Replace
        );
        assert_eq!(
            decide(Some(&failed), None, &Offer { digest: 2, project: "TG-2", ..offer(&id) }, false),
            Decision::Restate
        );
        assert_eq!(
            decide(Some(&failed), None, &Offer { digest: 2, ..offer(&other) }, false),
            Decision::Hold(Suspicion::IdentityChanged)
        );
    }

    #[test]
    fn held_and_superseded_rows_come_back_unless_waived() {
        let id = wanted(1, 10).identity;
        let mut held = pending();
        held.step(Event::Held).unwrap();
        let mut gone = held.clone();
        gone.step(Event::Dropped).unwrap();
        let zero = Offer { only_if_sent: true, digest: 2, ..offer(&id) };
        assert_eq!(decide(Some(&held), None, &offer(&id), false), Decision::Release);
        assert_eq!(decide(Some(&held), None, &zero, false), Decision::Zero);
        assert_eq!(decide(Some(&gone), None, &offer(&id), false), Decision::Revive);
        assert_eq!(decide(Some(&gone), None, &zero, false), Decision::Ignore);
        assert_eq!(decide(Some(&gone), Some(1), &offer(&id), false), Decision::Waived);
        assert_eq!(decide(Some(&gone), Some(2), &offer(&id), false), Decision::Revive);
    }

    #[test]
    fn a_held_run_never_moves_what_the_service_may_hold() {
        let sent = accepted();
        assert_eq!(decide_held(None, false, None, 1), HeldDecision::Insert);
        assert_eq!(decide_held(Some(&pending()), false, None, 1), HeldDecision::Demote);
        assert_eq!(decide_held(Some(&pending()), false, Some(1), 1), HeldDecision::Unchanged);
        assert_eq!(decide_held(Some(&sent), false, Some(1), 9), HeldDecision::Unchanged);
        assert_eq!(decide_held(Some(&sent), false, None, 1), HeldDecision::Drift);
        assert_eq!(decide_held(Some(&sent), false, None, 2), HeldDecision::Beside);
        assert_eq!(decide_held(Some(&sent), true, None, 2), HeldDecision::Waived);
    }
}

//! What needs a person, gathered from the ledger: one item a reason, with examples and what to do.

use crate::ledger::{ADJUSTMENTS, Ledger, LedgerError, List};
use serde::Serialize;

/// Things with one reason that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// `held`, `rejected`, `failed`, `unknown`, `quarantined`.
    pub kind: &'static str,
    /// Reason code, or the service's own words.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<Example>,
    /// What to do about them.
    pub advice: String,
}

/// One of the things that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Ledger key, or file and line.
    pub what: String,
    /// What exactly is wrong.
    pub detail: String,
}

/// Gathers all items, with up to `examples` examples each.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn gather(ledger: &dyn Ledger, examples: usize) -> Result<Vec<Item>, LedgerError> {
    let mut items = Vec::new();
    for group in ledger.groups(List::Holds, 0)? {
        let holds = ledger.holds(Some(&group.reason), "", examples)?;
        items.push(Item {
            kind: "held",
            advice: hold_advice(&group.reason).to_owned(),
            examples: holds.into_iter().map(|hold| Example { what: hold.key, detail: hold.detail }).collect(),
            reason: group.reason,
            count: group.count,
        });
    }
    let troubled = [
        (List::Rejected, "rejected", REJECTED),
        (List::Failed, "failed", FAILED),
        (List::Unknown, "unknown", UNKNOWN),
    ];
    for (list, kind, advice) in troubled {
        for group in ledger.groups(list, examples)? {
            let given_up = group.examples.iter().any(|key| key.starts_with(ADJUSTMENTS)) && kind != "unknown";
            items.push(Item {
                kind,
                advice: format!("{advice}{}", if given_up { WITHDRAW } else { "" }),
                examples: group
                    .examples
                    .iter()
                    .map(|key| Example { what: key.clone(), detail: String::new() })
                    .collect(),
                reason: group.reason,
                count: group.count,
            });
        }
    }
    let quarantined = ledger.groups(List::Quarantine, 0)?;
    if !quarantined.is_empty() {
        let texts = ledger.quarantined(0, 1000)?;
        for group in quarantined {
            items.push(Item {
                kind: "quarantined",
                advice: QUARANTINED.to_owned(),
                examples: texts
                    .iter()
                    .filter(|text| text.reason == group.reason)
                    .take(examples)
                    .map(|text| Example {
                        what: format!("{}:{}", text.file, text.line),
                        detail: text.detail.clone(),
                    })
                    .collect(),
                reason: group.reason,
                count: group.count,
            });
        }
    }
    Ok(items)
}

const REJECTED: &str = "the service refused them: put right what it names (a user or project is usually missing in AMIE), \
     then `amie-runner held retry KEY --reason '...'`";
const FAILED: &str = "the service took them and could not load them: ask it about the allocation that it names, \
     then `amie-runner failed retry --error '...' --reason '...'`";
const WITHDRAW: &str = "; or give an adjustment up: `amie-runner adjust --withdraw KEY --reason '...'`";
const UNKNOWN: &str = "they may have arrived: compute records are sent again by the next run (the same bytes overwrite); \
     settle others by `amie-runner held settle KEY --outcome arrived|missing --reason '...'`";
const QUARANTINED: &str =
    "they could not be read: look at them in the file; a record that is cut off is read when it is complete";

/// What to do about a hold, by its reason.
fn hold_advice(reason: &str) -> &'static str {
    match reason {
        "unknown-project" => {
            "add the account to the project table, match it by a pattern, or skip it (`held` shows the row to add)"
        }
        "no-account" => {
            "the job ran without an account: waive it, or see that the scheduler enforces accounts"
        }
        "unknown-user" => "add the user to the user table (`held` shows the row to add)",
        "no-user" => "the scheduler no longer knows the job's user: waive it, or look it up by the job's UID",
        "unknown-resource" => "add a [[resource]] whose `when` covers these jobs",
        "no-rate" => "add a [[resource.rate]] for that time",
        "missing-quantity" => "add the missing column to the source, or write a formula that does without it",
        "phases" => {
            "nodes were released while it ran, and the rate's formula is not some amount times hours: charge it by hand, then waive it"
        }
        "above-max-charge" => {
            "look at the charge; then `amie-runner held approve KEY --reason '...'`, or waive it"
        }
        "above-max-cores" | "above-max-hours" => {
            "no run can have used that: look at the source's text; then `amie-runner held waive KEY --reason '...'`, or approve it"
        }
        "log-incomplete" => {
            "give the source the log's earlier days and read it again; or charge it by hand, then waive it"
        }
        "above-usual-night" => {
            "look at the rates and the largest jobs; then `amie-runner held approve --reason-code above-usual-night --resource NAME --all --reason '...'`, or waive"
        }
        "restored" => {
            "they may have been sent before the ledger was put back from a backup: look at the service; then `amie-runner held waive --all --reason-code restored --reason '...'` where it has them, or approve"
        }
        "moving" => {
            "zero was sent under the old identity, and the charge follows by itself under the new one when that is loaded. Where the zero is refused or failed: `amie-runner held retry KEY --reason '...'` when what the service names is put right, or put the mapping back and `amie-runner restate` its period"
        }
        "inconsistent" | "ambiguous-time" | "unknown-state" | "ended-twice" => {
            "look at it with `amie-runner explain ID`; put the source right, or waive it"
        }
        "node-release" => {
            "nodes were released while it ran, and the records of it do not fit together: look at them with `amie-runner explain ID`, charge it by hand, then waive it"
        }
        "forgeable" => "use a source that cannot be forged, or set forgeable = \"warn\"",
        "unknown-owner" => "add the owner to the storage table (`held` shows the row to add), or waive it",
        "service-treats-unset" => "set service_treats in [[storage]]",
        "collision" => "two runs have one identity on the wire: change local_record_id, or waive one",
        "known-by-other-times" => {
            "the same run seems to be known by other times: correct the `timezone` of the source, and waive it; approve it if it is another run"
        }
        "identity-changed" => {
            "a record that was sent would change its identity: undo the change of mapping, or `amie-runner restate` its period, or waive it"
        }
        "may-add" => {
            "a reading that was sent changed: correct the difference with the allocation service, then waive the change"
        }
        "below-refund" => {
            "it would be charged less than was refunded: approve it and take back the difference by a debit, or waive it"
        }
        "grown-by-requeue" | "runaway-repair" => {
            "a known false change of Slurm's accounting: the charge that was sent stays; waive the change, or have it corrected"
        }
        _ => {
            "look at it with `amie-runner explain ID`; put right what it names, or `amie-runner held waive KEY --reason '...'`"
        }
    }
}

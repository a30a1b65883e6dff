//! `held`: runs that wait for a person; and what the person decides.

use crate::cli::{self, Choice, Decision, Found, HeldAction};
use crate::present::{self, Failure, escape, say};
use amie_usage::Decimal;
use amie_usage::wire::read_record;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{Decided, Hold, HoldEnd, Ledger, LedgerError, Person, Retry};
use std::collections::BTreeMap;

pub(crate) fn held(args: &cli::Held) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    match &args.action {
        None => list(args, super::reader(&config)?.as_ref()),
        Some(action) => decide(action, &config),
    }
}

fn list(args: &cli::Held, ledger: &dyn Ledger) -> Result<Exit, Failure> {
    let mut after = String::new();
    let mut count = 0_u64;
    let mut rows = Vec::new();
    loop {
        let holds = ledger.holds(args.reason.as_deref(), &after, 1000)?;
        let Some(last) = holds.last() else { break };
        after.clone_from(&last.key);
        for hold in holds {
            count += 1;
            if args.json {
                println!("{}", json(&hold));
            } else {
                rows.push(vec![hold.key, hold.reason, hold.detail]);
            }
        }
    }
    if !args.json {
        if rows.is_empty() {
            println!("nothing is held");
        } else {
            print!("{}", present::table(&["key", "reason", "what to do"], &[], rows));
            say("release by putting right what is named; or: amie-runner held waive KEY --reason '...'");
        }
    }
    Ok(if count == 0 { Exit::Well } else { Exit::Attention })
}

fn json(hold: &Hold) -> serde_json::Value {
    let run: serde_json::Value = serde_json::from_str(&hold.run).unwrap_or_default();
    serde_json::json!({
        "key": hold.key,
        "usage_type": hold.usage_type,
        "reason": hold.reason,
        "detail": hold.detail,
        "first_seen": hold.first_seen,
        "last_seen": hold.last_seen,
        "file": hold.file,
        "line": hold.line,
        "run": run,
    })
}

fn decide(action: &HeldAction, config: &Config) -> Result<Exit, Failure> {
    let now = clock::now();
    match action {
        HeldAction::Waive(choice) => choose(choice, config, "waived", |ledger, keys, person| {
            let done = ledger.close_holds(keys, HoldEnd::Waived, person, now)?;
            Ok(Decided { done, ..Decided::default() })
        }),
        HeldAction::Approve(choice) => {
            choose(choice, config, "approved", |ledger, keys, person| ledger.approve(keys, person, now))
        }
        HeldAction::Reopen(decide) => {
            let (by, why) = super::decision(&decide.decision)?;
            let person = Person { by: &by, why: &why };
            let done = super::writer(config)?.reopen_holds(&decide.keys, person, now)?;
            println!("{done} open again");
            Ok(Exit::Well)
        }
        HeldAction::Retry(decide) => {
            let (by, why) = super::decision(&decide.decision)?;
            let person = Person { by: &by, why: &why };
            let done = super::writer(config)?.retry(&Retry::Keys(decide.keys.clone()), person, now)?;
            Ok(say_decided(done, "to be sent again", ""))
        }
        HeldAction::Settle { decide, outcome } => {
            let (by, why) = super::decision(&decide.decision)?;
            let person = Person { by: &by, why: &why };
            let mut ledger = super::writer(config)?;
            let settled = match outcome {
                Found::Arrived => ledger.resolve_unknown(&decide.keys, true, person, now),
                Found::Missing => ledger.resolve_unknown(&decide.keys, false, person, now),
                Found::Loaded => ledger.resolve_accepted(&decide.keys, true, person, now),
                Found::Lost => ledger.resolve_accepted(&decide.keys, false, person, now),
            }?;
            println!("{} settled", settled.done + settled.withheld);
            if settled.withheld > 0 {
                println!(
                    "{} of them ended before go-live, and are not sent (`amie-runner ledger go-live`)",
                    settled.withheld
                );
            }
            Ok(Exit::Well)
        }
    }
}

/// Holds that are decided upon together.
const PAGE: usize = 1000;

/// Does something to the holds that were chosen: by key all of them or none, of one reason page by page.
fn choose(
    choice: &Choice,
    config: &Config,
    done: &str,
    mut act: impl FnMut(&mut dyn Ledger, &[String], Person<'_>) -> Result<Decided, LedgerError>,
) -> Result<Exit, Failure> {
    if choice.dry_run {
        let ledger = super::reader(config)?;
        let mut chosen = Chosen::default();
        let mut after = String::new();
        while let Some(page) = page(ledger.as_ref(), choice, &mut after)? {
            chosen.add(&page)?;
        }
        println!("{} would be {done}{}", chosen.records, chosen.charges());
        return Ok(Exit::Well);
    }
    let decision = Decision { reason: choice.reason.clone(), by: choice.by.clone() };
    let (by, why) = super::decision(&decision)?;
    let person = Person { by: &by, why: &why };
    let mut ledger = super::writer(config)?;
    if !choice.all {
        return Ok(say_decided(act(ledger.as_mut(), &choice.keys, person)?, done, ""));
    }
    let mut chosen = Chosen::default();
    let mut sum = Decided::default();
    let mut after = String::new();
    while let Some(page) = page(ledger.as_ref(), choice, &mut after)? {
        let keys: Vec<String> = page.iter().map(|hold| hold.key.clone()).collect();
        sum.merge(act(ledger.as_mut(), &keys, person)?);
        chosen.add(&page)?;
    }
    Ok(say_decided(sum, done, &chosen.charges()))
}

/// Says what became of a decision, also where that is not what was decided.
pub(super) fn say_decided(decided: Decided, done: &str, charges: &str) -> Exit {
    println!("{} {done}{charges}", decided.done);
    if decided.withheld > 0 {
        println!(
            "{} not {done}: they ended before go-live, and are not sent (`amie-runner ledger go-live`)",
            decided.withheld
        );
    }
    if decided.asked_again == 0 {
        return Exit::Well;
    }
    println!(
        "{} not {done}: held for another reason now, known-by-other-times or below-refund (`amie-runner held`); approve or waive that",
        decided.asked_again
    );
    Exit::Attention
}

/// The next holds of a choice; none where there are no more.
fn page(ledger: &dyn Ledger, choice: &Choice, after: &mut String) -> Result<Option<Vec<Hold>>, LedgerError> {
    let mut holds = ledger.holds(choice.reason_code.as_deref(), after, PAGE)?;
    let Some(last) = holds.last() else { return Ok(None) };
    after.clone_from(&last.key);
    if let Some(resource) = choice.resource.as_deref() {
        holds.retain(|hold| record(hold).is_some_and(|(name, _)| name == resource));
    }
    Ok(Some(holds))
}

/// What a choice adds up to.
#[derive(Default)]
struct Chosen {
    records: u64,
    by_resource: BTreeMap<String, Decimal>,
}

impl Chosen {
    fn add(&mut self, holds: &[Hold]) -> Result<(), LedgerError> {
        for hold in holds {
            self.records += 1;
            if let Some((resource, charge)) = record(hold) {
                let sum = self.by_resource.entry(resource).or_insert(Decimal::ZERO);
                *sum = sum.checked_add(charge).ok_or(LedgerError::ChargeOverflow)?;
            }
        }
        Ok(())
    }

    fn charges(&self) -> String {
        let list: Vec<String> =
            self.by_resource.iter().map(|(name, sum)| format!("{sum} on {}", escape(name))).collect();
        if list.is_empty() { String::new() } else { format!(": {}", list.join(", ")) }
    }
}

/// Resource and charge of the record that a hold would become.
fn record(hold: &Hold) -> Option<(String, Decimal)> {
    let record = read_record(hold.usage_type, hold.candidate.as_deref()?)?;
    Some((record.resource?, record.charge?))
}

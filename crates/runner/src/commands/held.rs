//! `held`: runs that wait for a person; and what the person decides.

use crate::cli::{self, Decide, Found, HeldAction};
use crate::present::{self, Failure, say};
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::{Hold, HoldEnd, Ledger, Person, Retry, SqliteLedger};

pub(crate) fn held(args: &cli::Held) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    if !config.ledger.exists() {
        return Err(Failure::Usage(format!(
            "{}: there is no ledger yet; `amie-runner run` makes it",
            config.ledger.display()
        )));
    }
    let reader = SqliteLedger::open_reader(&config.ledger)?;
    match &args.action {
        None => list(args, &reader),
        Some(action) => {
            // A person decides about this ledger, whatever service it speaks for: nothing is sent here.
            let binding = reader.binding().clone();
            drop(reader);
            decide(action, &mut SqliteLedger::open(&config.ledger, &binding, clock::now())?)
        }
    }
}

fn list(args: &cli::Held, ledger: &SqliteLedger) -> Result<Exit, Failure> {
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

fn decide(action: &HeldAction, ledger: &mut SqliteLedger) -> Result<Exit, Failure> {
    let by = super::who();
    let person = |decide: &Decide| -> Result<String, Failure> {
        if decide.reason.trim().is_empty() {
            return Err(Failure::Usage("--reason must say why: it is kept in the ledger".to_owned()));
        }
        Ok(decide.reason.clone())
    };
    let now = clock::now();
    let (what, asked, done) = match action {
        HeldAction::Waive(decide) => {
            let why = person(decide)?;
            let done =
                ledger.close_holds(&decide.keys, HoldEnd::Waived, Person { by: &by, why: &why }, now)?;
            ("waived", decide.keys.len(), done)
        }
        HeldAction::Approve(decide) => {
            let why = person(decide)?;
            ("approved", decide.keys.len(), ledger.approve(&decide.keys, Person { by: &by, why: &why }, now)?)
        }
        HeldAction::Retry(decide) => {
            let why = person(decide)?;
            let keys = Retry::Keys(decide.keys.clone());
            ("to be sent again", decide.keys.len(), ledger.retry(&keys, Person { by: &by, why: &why }, now)?)
        }
        HeldAction::Settle { decide, outcome } => {
            let why = person(decide)?;
            let arrived = matches!(outcome, Found::Arrived);
            for key in &decide.keys {
                ledger.resolve_unknown(key, arrived, Person { by: &by, why: &why }, now)?;
            }
            ("settled", decide.keys.len(), decide.keys.len() as u64)
        }
    };
    println!("{done} {what}");
    if done < asked as u64 {
        say(format_args!(
            "{} of the keys were not waiting for that; see `amie-runner held` and `status`",
            asked as u64 - done
        ));
        return Ok(Exit::Attention);
    }
    Ok(Exit::Well)
}

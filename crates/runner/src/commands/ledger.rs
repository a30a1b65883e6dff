//! `ledger`: the ledger itself, for those who keep it: verified, exported, accepted after it was put back.

use crate::cli::{Decision, ExportForm, Exported, LedgerAction, LedgerArgs};
use crate::present::{self, Failure, escape, say};
use amie_usage::{CallError, Client, LoadedQuery, UsageType};
use chrono::NaiveDate;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::export::{ExportError, Form, Subject, export};
use runner::import::{TableError, each_record};
use runner::ledger::{Fault, GoLive, Imported, Ledger, LedgerError, Person, SentRecord};
use runner::nightly;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub(crate) fn ledger(args: &LedgerArgs) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    match &args.action {
        LedgerAction::Verify { json } => verify(&config, *json),
        LedgerAction::GoLive { resource: Some(resource), from: Some(from), decision, .. } => {
            go_live(&config, resource, *from, decision)
        }
        LedgerAction::Compact { keep_days, json } => compact(&config, *keep_days, *json),
        LedgerAction::ImportSent { table, since, decision, json, .. } => {
            import_sent(&config, table.as_deref(), *since, decision, *json)
        }
        LedgerAction::Restored { decision, json } => restored(&config, decision, *json),
        LedgerAction::GoLive { json, .. } => list_go_live(&config, *json),
        LedgerAction::Export { what, format, output } => write(&config, *what, *format, output.as_deref()),
    }
}

fn verify(config: &Config, json: bool) -> Result<Exit, Failure> {
    let ledger = super::reader(config)?;
    let faults = ledger.verify()?;
    let totals = ledger.totals()?;
    let rows: u64 = totals.states.values().sum();
    if json {
        let list: Vec<_> = faults
            .iter()
            .map(|Fault { about, what }| serde_json::json!({ "about": about, "what": what }))
            .collect();
        println!("{}", serde_json::json!({ "rows": rows, "sound": faults.is_empty(), "faults": list }));
    } else if faults.is_empty() {
        println!("{}: sound; {rows} rows, each with its history", config.ledger);
    } else {
        for Fault { about, what } in &faults {
            println!("{}: {}", escape(about), escape(what));
        }
    }
    if faults.is_empty() {
        return Ok(Exit::Well);
    }
    say(format_args!(
        "{}: {} fault(s). Stop, keep the file as it is, and restore a backup; or report it with what is above",
        config.ledger,
        faults.len()
    ));
    Ok(Exit::Attention)
}

/// What is in force for every resource that the configuration or the ledger names.
pub(super) fn go_lives(config: &Config, ledger: &dyn Ledger) -> Result<Vec<GoLive>, LedgerError> {
    let totals = ledger.totals()?;
    let known = totals.charges.iter().map(|total| total.resource.to_string());
    let resources: BTreeSet<String> = config.go_live.keys().cloned().chain(known).collect();
    let mut all = Vec::new();
    for resource in resources {
        let configured = config.go_live.get(&resource).copied();
        let in_force = ledger.go_live(&resource)?.filter(|time| *time != NEVER_EARLY);
        if configured.or(in_force).is_some() {
            let in_force = in_force.max(configured).unwrap_or(NEVER_EARLY);
            all.push(GoLive { resource, configured: configured.unwrap_or(NEVER_EARLY), in_force });
        }
    }
    Ok(all)
}

/// Before all time: nothing is too early.
const NEVER_EARLY: i64 = i64::MIN;

fn list_go_live(config: &Config, json: bool) -> Result<Exit, Failure> {
    let all = go_lives(config, super::reader(config)?.as_ref())?;
    let time = |epoch: i64| (epoch != NEVER_EARLY).then(|| clock::show(epoch));
    if json {
        let list: Vec<_> = all
            .iter()
            .map(|one| {
                serde_json::json!({
                    "resource": one.resource,
                    "configured": time(one.configured),
                    "in_force": time(one.in_force),
                })
            })
            .collect();
        println!("{}", serde_json::json!({ "go_live": list }));
    } else if all.is_empty() {
        println!("no resource has a go-live: everything is sent, however old");
    } else {
        let cell = |epoch| time(epoch).unwrap_or_else(|| "-".to_owned());
        let rows = all
            .iter()
            .map(|one| vec![one.resource.clone(), cell(one.configured), cell(one.in_force)])
            .collect();
        print!("{}", present::table(&["resource", "configured", "in force"], &[], rows));
    }
    for text in all.iter().filter_map(present::go_live_text) {
        say(escape(&text));
    }
    let behind = all.iter().any(|one| one.configured < one.in_force);
    Ok(if behind { Exit::Attention } else { Exit::Well })
}

fn go_live(config: &Config, resource: &str, from: NaiveDate, decision: &Decision) -> Result<Exit, Failure> {
    let (by, why) = super::decision(decision)?;
    let Some(time) = clock::day_begins(from, config.timezone) else {
        return Err(Failure::Usage(format!("{from} is no day in {}", config.timezone)));
    };
    if config.go_live.get(resource).is_some_and(|configured| *configured > time) {
        return Err(Failure::Usage(format!(
            "{}: go_live of {} is later than {from}, and the next run would go by it: change it first",
            config.path.display(),
            escape(resource)
        )));
    }
    let mut ledger = super::writer(config)?;
    ledger.set_go_live(resource, Some(time), Person { by: &by, why: &why }, clock::now())?;
    println!("what ended on {from} or later is sent when its source is read again");
    Ok(Exit::Well)
}

fn compact(config: &Config, keep_days: u32, json: bool) -> Result<Exit, Failure> {
    let size = || config.ledger.file_bytes();
    let mut ledger = super::writer(config)?;
    let bytes_before = size();
    let before = clock::now().saturating_sub(i64::from(keep_days).saturating_mul(86_400));
    let done = ledger.compact(before)?;
    let bytes_after = size();
    if json {
        println!(
            "{}",
            serde_json::json!({
                "holds": done.holds,
                "texts": done.texts,
                "files": done.files,
                "bytes_before": bytes_before,
                "bytes_after": bytes_after,
            })
        );
    } else {
        println!(
            "forgot the text of {} closed hold(s) and {} closed quarantined text(s), and how far {} file(s) were read; \
             {bytes_before} bytes before, {bytes_after} after",
            done.holds, done.texts, done.files
        );
    }
    Ok(Exit::Well)
}

/// Accepts an older ledger. What the configuration says to be sent again when its fate is unknown may be sent again here.
fn restored(config: &Config, decision: &Decision, json: bool) -> Result<Exit, Failure> {
    let (by, why) = super::decision(decision)?;
    let compute_overwrites = config.api.as_ref().is_none_or(|api| api.may_resend(UsageType::Compute));
    let mut might_add = vec![UsageType::Storage, UsageType::Adjustment];
    if !compute_overwrites {
        might_add.push(UsageType::Compute);
    }
    let binding = super::known(config)?.binding().clone();
    let mut ledger = config.ledger.open_restored(&binding, clock::now())?;
    let done = ledger.accept_restored(&might_add, Person { by: &by, why: &why }, clock::now())?;
    if json {
        println!("{}", serde_json::json!({ "held": done.held, "unknown": done.unknown }));
    } else {
        println!(
            "accepted; {} pending record(s) are held as restored, {} are of unknown fate now",
            done.held, done.unknown
        );
    }
    let compute =
        if compute_overwrites { "are sent again and overwrite" } else { "are held as restored, too" };
    say(format_args!(
        "Before the next run: `amie-runner ledger import-sent --from-service --since DAY --reason '...'` takes over what the \
         service has loaded since the backup.\nThen compute records that this ledger takes for new {compute}; storage records \
         of until now are held as restored: waive those that the service has, approve the others.\nAdjustments that were made \
         since the backup are not known: look at the service before they are asked for again.\nDecisions since the backup \
         (held, restate, ledger go-live) are to be made again."
    ));
    Ok(Exit::Well)
}

/// Records that are taken over in one transaction.
const TOGETHER: usize = 1_000;

fn import_sent(
    config: &Config,
    table: Option<&Path>,
    since: Option<NaiveDate>,
    decision: &Decision,
    json: bool,
) -> Result<Exit, Failure> {
    let (by, why) = super::decision(decision)?;
    let person = Person { by: &by, why: &why };
    let api = super::run::api(config)?;
    let open = || nightly::open_ledger(config, &api.url);
    let (sum, incomplete) = match table {
        Some(path) => {
            let opened = || File::open(path).map_err(|error| Failure::file(path, error));
            let named = |error: TableError| Failure::Usage(format!("{}: {error}", path.display()));
            // All of it is understood before any of it is taken over.
            each_record(opened()?, |_| {}).map_err(named)?;
            let mut ledger = open()?;
            let origin = path.display().to_string();
            let mut sum = Imported::default();
            let mut page = Vec::new();
            let mut failed = None;
            let mut take =
                |page: &mut Vec<SentRecord>| match ledger.import_sent(page, &origin, person, clock::now()) {
                    Ok(report) => {
                        sum.imported += report.imported;
                        sum.known += report.known;
                        page.clear();
                    }
                    Err(error) => failed = Some(error),
                };
            each_record(opened()?, |record| {
                page.push(record);
                if page.len() >= TOGETHER {
                    take(&mut page);
                    page.clear();
                }
            })
            .map_err(named)?;
            take(&mut page);
            match failed {
                Some(error) => return Err(error.into()),
                None => (sum, 0),
            }
        }
        None => {
            let since = since.and_then(|date| clock::day_begins(date, config.timezone));
            let key = nightly::api_key(&api.key).map_err(Failure::Usage)?;
            let client = nightly::client(config, api, key).map_err(Failure::Usage)?;
            super::runtime()?.block_on(from_service(&client, open()?.as_mut(), since, person))?
        }
    };
    if json {
        println!(
            "{}",
            serde_json::json!({ "imported": sum.imported, "known": sum.known, "incomplete": incomplete })
        );
    } else {
        println!("{} imported, {} known before", sum.imported, sum.known);
    }
    if incomplete > 0 {
        say(format_args!(
            "{incomplete} record(s) came without submit time or charge: they are not imported, and would be sent"
        ));
        return Ok(Exit::Attention);
    }
    Ok(Exit::Well)
}

/// Takes over everything that the service shows as loaded; and how many records it does not say enough of.
async fn from_service(
    client: &Client,
    ledger: &mut dyn Ledger,
    since: Option<i64>,
    person: Person<'_>,
) -> Result<(Imported, u64), Failure> {
    let mut pages = client.loaded_pages(LoadedQuery { min_loaded_time: since, ..LoadedQuery::default() });
    let (mut sum, mut incomplete) = (Imported::default(), 0);
    loop {
        let page = pages.next().await.map_err(|error| match error {
            CallError::KeyRefused { .. } => Failure::Usage(error.to_string()),
            error => Failure::Unreachable(format!("GET /usage/loaded: {error}; run again")),
        })?;
        let Some(page) = page else { return Ok((sum, incomplete)) };
        incomplete += page.unreadable;
        let mut records = Vec::with_capacity(page.records.len());
        for loaded in page.records {
            let (Some(submit), Some(charge)) = (loaded.submit_time, loaded.charge) else {
                incomplete += 1;
                continue;
            };
            records.push(SentRecord {
                usage_type: UsageType::Compute,
                resource: loaded.resource,
                local_record_id: loaded.local_record_id,
                submit,
                charge,
                charge_places: loaded.charge_places,
                username: String::new(),
                project: String::new(),
                loaded_at: loaded.loaded_time,
                line: 0,
            });
        }
        let report = ledger.import_sent(&records, "GET /usage/loaded", person, clock::now())?;
        sum.imported += report.imported;
        sum.known += report.known;
    }
}

fn write(
    config: &Config,
    what: Exported,
    format: ExportForm,
    output: Option<&Path>,
) -> Result<Exit, Failure> {
    let ledger = super::reader(config)?;
    let subject = match what {
        Exported::Rows => Subject::Rows,
        Exported::Events => Subject::Events,
        Exported::Quarantine => Subject::Quarantine,
    };
    let form = match format {
        ExportForm::Csv => Form::Csv,
        ExportForm::Ndjson => Form::Ndjson,
    };
    let failed = |error| match output {
        Some(path) => Failure::file(path, error),
        None => Failure::stdout(error),
    };
    let mut out: Box<dyn Write> = match output {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(failed)?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let lines = export(ledger.as_ref(), subject, form, &mut out).map_err(|error| match error {
        ExportError::Ledger(error) => Failure::Ledger(error),
        ExportError::Output(error) => failed(error),
    })?;
    if let Some(path) = output {
        say(format_args!("{}: {lines} line(s)", path.display()));
    }
    Ok(Exit::Well)
}

//! `demo`: the whole way, from real accounting files to the API and back, on this machine alone.

use crate::cli;
use crate::commands::run::{night_failure, stop_on_signal, write_report};
use crate::present::{self, Failure, say};
use runner::config::{Api, Config};
use runner::demo::{ENDPOINT, lay_out, sandbox};
use runner::exit::Exit;
use runner::nightly;
use runner::plan::plan;
use runner::summary::Summary;
use std::time::Duration;
use usage_sandbox::Sandbox;

/// How long the demo waits for its sandbox to load what was sent.
const WAIT: Duration = Duration::from_secs(20);

pub(crate) fn demo(args: &cli::Demo) -> Result<Exit, Failure> {
    lay_out(&args.folder).map_err(|error| Failure::file(&args.folder, error))?;
    let config = Config::load(&args.folder.join("config.toml"))?;
    let planned = plan(&config, None, &[])?;
    let api = super::run::api(&config)?;
    let key = nightly::api_key(&api.key).map_err(Failure::Usage)?;
    let mut ledger = nightly::open_ledger(&config, ENDPOINT)?;
    let night = super::runtime()?.block_on(async {
        let service = Sandbox::start(sandbox(&args.folder, &config.site))
            .await
            .map_err(|error| Failure::Unreachable(format!("the sandbox does not start: {error}")))?;
        let api = Api { url: service.base_url(), ..api.clone() };
        let client = nightly::client(&config, &api, key).map_err(Failure::Usage)?;
        println!("sandbox of the Usage API: {}", api.url);
        let cancel = stop_on_signal();
        let night = nightly::night(&config, &planned, &api, &client, ledger.as_mut(), WAIT, &cancel).await;
        service.stop().await;
        night.map_err(night_failure)
    })?;
    print!("{}", present::night(&night));
    let report = args.folder.join("report.html");
    write_report(&report, &config, ENDPOINT, &night)?;
    let summary = args.summary.clone().unwrap_or_else(|| args.folder.join("summary.json"));
    Summary::new(&config, &night.collected.tally, Some(&night.totals))
        .write(&summary)
        .map_err(|error| Failure::file(&summary, error))?;
    println!("report   {}", report.display());
    println!("summary  {}", summary.display());
    let program = std::env::args().next().unwrap_or_else(|| "amie-runner".to_owned());
    println!("explain  {program} explain --config {}/config.toml 91.pbssrv", args.folder.display());
    ledger.mark_reported(&night.news)?;
    match night.exit() {
        // The demo shows on purpose what needs a person: that is not a failure of the demo.
        Exit::Attention | Exit::Well => Ok(Exit::Well),
        exit => {
            say("the demo did not go all the way");
            Ok(exit)
        }
    }
}

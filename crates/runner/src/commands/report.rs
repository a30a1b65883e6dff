//! `report`: the page that people look at, from the ledger, at any time.

use crate::cli;
use crate::present::Failure;
use runner::attention::gather;
use runner::clock;
use runner::config::Config;
use runner::exit::Exit;
use runner::ledger::Ledger;
use runner::report::Report;
use runner::summary::write_whole;

pub(crate) fn report(args: &cli::ReportPage) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    let ledger = super::reader(&config)?;
    let (totals, items) = (ledger.totals()?, gather(&ledger, 10)?);
    let now = clock::now();
    let report = Report {
        site: &config.site,
        endpoint: &ledger.binding().endpoint,
        at: now,
        tally: None,
        totals: &totals,
        items: &items,
        remarks: &config.old_tables(now),
        tables: &config.tables,
    };
    write_whole(&args.file, report.html().as_bytes()).map_err(|error| Failure::file(&args.file, error))?;
    Ok(Exit::Well)
}

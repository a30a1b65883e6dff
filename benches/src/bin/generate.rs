//! Writes generated accounting to standard output: `generate sacct --bytes 200MB --seed 1 --truth truth.json > file`.

use anyhow::{Context, Result, bail};
use benches::{Columns, PbsOptions, SacctOptions, Times, pbs, sacct};
use chrono_tz::Tz;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Generates accounting of an imagined centre. The same arguments give the same bytes on every machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    format: Format,
}

#[derive(Subcommand)]
enum Format {
    /// Text as `sacct -D -P` prints it.
    Sacct {
        #[command(flatten)]
        common: Common,
        /// How times are printed.
        #[arg(long, value_enum, default_value_t = TimeFormat::Epoch)]
        times: TimeFormat,
        /// Zone of local times.
        #[arg(long, default_value = "America/New_York")]
        timezone: Tz,
        /// Which columns.
        #[arg(long, value_enum, default_value_t = ColumnSet::Usual)]
        columns: ColumnSet,
        /// Between fields; anything but | stands behind the last field, too.
        #[arg(long, default_value = "|")]
        delimiter: String,
        /// Also rows of steps.
        #[arg(long)]
        steps: bool,
        /// Also job names with | and newlines.
        #[arg(long)]
        hostile: bool,
    },
    /// The accounting log of a PBS server.
    Pbs {
        #[command(flatten)]
        common: Common,
        /// The server's zone.
        #[arg(long, default_value = "America/Denver")]
        timezone: Tz,
    },
}

#[derive(Args)]
struct Common {
    /// Size: bytes, or with KB, MB, GB (powers of 1000), KiB, MiB, GiB.
    #[arg(long, value_parser = size)]
    bytes: u64,
    /// Another seed gives another file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write what the file contains, as JSON.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TimeFormat {
    Epoch,
    Local,
}

#[derive(Clone, Copy, ValueEnum)]
enum ColumnSet {
    Usual,
    Collect,
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("unknown unit {other:?}: KB, MB, GB, KiB, MiB, GiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("no number in {text:?}"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))
}

fn main() -> Result<()> {
    let mut out = io::stdout().lock();
    let (written, truth) = match Arguments::parse().format {
        Format::Sacct { common, times, timezone, columns, delimiter, steps, hostile } => {
            if delimiter.is_empty() || delimiter.contains('\n') {
                bail!("the delimiter is empty or holds a newline");
            }
            let times = match times {
                TimeFormat::Epoch => Times::Epoch,
                TimeFormat::Local => Times::Local(timezone),
            };
            let columns = match columns {
                ColumnSet::Usual => Columns::Usual,
                ColumnSet::Collect => Columns::Collect,
            };
            let options = SacctOptions {
                seed: common.seed,
                bytes: common.bytes,
                times,
                columns,
                delimiter,
                steps,
                hostile,
            };
            (sacct(&options, &mut out), common.truth)
        }
        Format::Pbs { common, timezone } => {
            let options = PbsOptions { seed: common.seed, bytes: common.bytes, zone: timezone };
            (pbs(&options, &mut out), common.truth)
        }
    };
    let counted = match written {
        // as with `| head`: whoever read has enough
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other.context("standard output")?,
    };
    if let Some(path) = truth {
        let mut json = serde_json::to_vec_pretty(&counted)?;
        json.push(b'\n');
        fs::write(&path, json).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

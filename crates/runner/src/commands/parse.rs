//! `parse`: accounting files in, one JSON object a line out.

use crate::cli;
use crate::present::{Failure, escape, reasons, say};
use parsers::quota;
use runner::exit::Exit;
use runner::input::{InputError, expand};
use runner::pipeline::format::Format;
use runner::pipeline::parsing::{ParseWork, Unreadable};
use runner::pipeline::{self, Emitted, quota::read_report};
use runner::tally::Tally;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What `--format` names.
enum Chosen {
    Jobs(Format),
    Quota(quota::Format),
}

pub(crate) fn parse(args: &cli::Parse) -> Result<Exit, Failure> {
    let chosen = format(args)?;
    let files: Vec<String> = args
        .files
        .iter()
        .map(|path| {
            if path == Path::new("-") { "/dev/stdin".to_owned() } else { path.to_string_lossy().into_owned() }
        })
        .collect();
    // What a shell leaves unexpanded is taken as it stands.
    let files = expand(Path::new(""), &files)?.files;
    let mut quarantine = match &args.quarantine {
        None => None,
        Some(path) => Some(BufWriter::new(File::create(path).map_err(|error| Failure::file(path, error))?)),
    };
    let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let mut tally = Tally::default();
    let mut shown = 0_u64;
    let mut set_aside = |list: Vec<Unreadable>| -> Result<(), Failure> {
        for bad in list {
            if shown < 20 {
                say(format_args!("{}:{}: quarantined: {}", escape(&bad.file), bad.line, escape(&bad.reason)));
            }
            shown += 1;
            if let (Some(file), Some(path)) = (&mut quarantine, &args.quarantine) {
                serde_json::to_writer(&mut *file, &bad)
                    .map_err(io::Error::from)
                    .and_then(|()| file.write_all(b"\n"))
                    .map_err(|error| Failure::file(path, error))?;
            }
        }
        Ok(())
    };
    let problems = match chosen {
        Chosen::Jobs(format) => {
            let remarks = pipeline::run(&format, &files, None, None, &ParseWork, |emitted| {
                if let Emitted::Output(_, parsed, _) = emitted {
                    tally.merge(&parsed.tally);
                    set_aside(parsed.quarantined)?;
                    out.write_all(&parsed.lines).map_err(Failure::stdout)?;
                }
                Ok::<_, Failure>(())
            })?;
            if !remarks.unknown_columns.is_empty() {
                say(format_args!(
                    "note: columns that are not known: {}",
                    escape(&remarks.unknown_columns.join(", "))
                ));
            }
            for (file, warning) in &remarks.warnings {
                say(format_args!("note: {}: the document warns: {}", escape(file), escape(warning)));
            }
            remarks.problems
        }
        Chosen::Quota(format) => quota_reports(format, &files, &mut tally, &mut out, &mut set_aside)?,
    };
    out.flush().map_err(Failure::stdout)?;
    if shown > 20 {
        say(format_args!("... and {} more quarantined; use --quarantine FILE for all", shown - 20));
    }
    if let (Some(mut file), Some(path)) = (quarantine, &args.quarantine) {
        file.flush().map_err(|error| Failure::file(path, error))?;
    }
    tally.check()?;
    say(format_args!(
        "{} frames: {} runs, {} informational ({}), {} quarantined",
        tally.frames,
        tally.contributing,
        tally.informational.values().sum::<u64>(),
        reasons(&tally.informational),
        tally.quarantined
    ));
    for problem in &problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    Ok(if tally.quarantined > 0 || !problems.is_empty() { Exit::Attention } else { Exit::Well })
}

fn quota_reports(
    format: quota::Format,
    files: &[PathBuf],
    tally: &mut Tally,
    out: &mut impl Write,
    set_aside: &mut dyn FnMut(Vec<Unreadable>) -> Result<(), Failure>,
) -> Result<Vec<InputError>, Failure> {
    let mut problems = Vec::new();
    for file in files {
        let text = match read_report(file) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match pipeline::quota::parse_lines(format, file, &text) {
            Ok(parsed) => {
                tally.merge(&parsed.tally);
                set_aside(parsed.quarantined)?;
                out.write_all(&parsed.lines).map_err(Failure::stdout)?;
            }
            Err(problem) => problems.push(problem),
        }
    }
    Ok(problems)
}

fn format(args: &cli::Parse) -> Result<Chosen, Failure> {
    let zone = args.timezone.parse().map_err(|_| {
        Failure::Usage(format!(
            "--timezone: \"{}\" is not an IANA time zone like America/Denver",
            escape(&args.timezone)
        ))
    })?;
    match args.format.as_str() {
        "sacct" => {
            let mut options = parsers::sacct::Options {
                zone,
                columns: args.columns.clone(),
                read_steps: true,
                ..parsers::sacct::Options::default()
            };
            if let Some(delimiter) = &args.delimiter {
                options.delimiter = delimiter.clone().into_bytes();
            }
            if args.counted {
                options.framing = parsers::sacct::Framing::Counted;
            }
            let guess_delimiter = args.delimiter.is_none() && args.columns.is_none();
            Ok(Chosen::Jobs(Format::Sacct { options, guess_delimiter, lenient: true }))
        }
        "pbs" => Ok(Chosen::Jobs(Format::Pbs { reader: parsers::pbs::Reader::default() })),
        "sacct-json" => Ok(Chosen::Jobs(Format::SacctJson)),
        other => match other.strip_prefix("quota:") {
            Some(name) => {
                name.parse().map(Chosen::Quota).map_err(|error| Failure::Usage(format!("--format: {error}")))
            }
            None => Err(Failure::Usage(format!(
                "--format: \"{}\" is not known; use sacct, sacct-json, pbs or quota:repquota-csv",
                escape(other)
            ))),
        },
    }
}

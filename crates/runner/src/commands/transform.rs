//! `transform`: accounting in, usage records out as JSON lines; or, with `--bench`, how fast.

use crate::cli;
use crate::present::{self, Failure, escape, say};
use runner::clock::Stopwatch;
use runner::config::Config;
use runner::engine::{self, Collected};
use runner::exit::Exit;
use runner::plan::plan;
use runner::summary::Summary;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

pub(crate) fn transform(args: &cli::Transform) -> Result<Exit, Failure> {
    let config = Config::load(&args.config.config)?;
    for warning in &config.warnings {
        say(format_args!("warning: {}", escape(warning)));
    }
    let planned = plan(&config, args.source.as_deref(), &args.paths)?;
    for planned in &planned {
        for pattern in &planned.files.empty_patterns {
            say(format_args!("note: {}: no file matches {}", planned.source.name, escape(pattern)));
        }
    }
    if args.bench {
        return bench(args, &config, &planned);
    }
    let mut held = create(args.held.as_ref())?;
    let mut quarantine = create(args.quarantine.as_ref())?;
    let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let mut set_aside = 0_u64;
    let collected = engine::transform(&config, &planned, |lines| {
        for bad in &lines.quarantined {
            if set_aside < 20 {
                say(format_args!("{}:{}: quarantined: {}", escape(&bad.file), bad.line, escape(&bad.reason)));
            }
            set_aside += 1;
            json_line(&mut quarantine, bad)?;
        }
        for run in &lines.held {
            json_line(&mut held, run)?;
        }
        out.write_all(&lines.lines).map_err(Failure::stdout)
    })?;
    out.flush().map_err(Failure::stdout)?;
    finish(held)?;
    finish(quarantine)?;
    let Collected { tally, remarks } = collected;
    tally.check()?;
    say(present::laws(&tally).trim_end());
    for problem in &remarks.problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    present::column_remarks(&remarks);
    if let Some(path) = &args.summary {
        Summary::new(&config, &tally, None).write(path).map_err(|error| Failure::file(path, error))?;
    }
    let attention = tally.quarantined > 0 || !tally.held.is_empty() || !remarks.problems.is_empty();
    Ok(if attention { Exit::Attention } else { Exit::Well })
}

type Output = Option<(PathBuf, BufWriter<File>)>;

fn create(path: Option<&PathBuf>) -> Result<Output, Failure> {
    match path {
        None => Ok(None),
        Some(path) => {
            let file = File::create(path).map_err(|error| Failure::file(path, error))?;
            Ok(Some((path.clone(), BufWriter::new(file))))
        }
    }
}

fn json_line(output: &mut Output, value: &impl serde::Serialize) -> Result<(), Failure> {
    let Some((path, file)) = output else { return Ok(()) };
    serde_json::to_writer(&mut *file, value)
        .map_err(io::Error::from)
        .and_then(|()| file.write_all(b"\n"))
        .map_err(|error| Failure::file(path, error))
}

fn finish(output: Output) -> Result<(), Failure> {
    match output {
        None => Ok(()),
        Some((path, mut file)) => file.flush().map_err(|error| Failure::file(&path, error)),
    }
}

/// Reads, parses, maps and renders everything, keeps nothing, and says how long it took.
fn bench(
    args: &cli::Transform,
    config: &Config,
    planned: &[runner::plan::Planned<'_>],
) -> Result<Exit, Failure> {
    let watch = Stopwatch::start();
    let Ok(collected) = engine::count(config, planned);
    let (seconds, cpu_seconds) = (watch.seconds(), watch.cpu_seconds());
    collected.tally.check()?;
    let bytes = collected.remarks.bytes;
    let rate = |seconds: f64| if seconds > 0.0 { bytes as f64 / 1e6 / seconds } else { 0.0 };
    if args.json {
        let value = serde_json::json!({
            "bytes": bytes,
            "frames": collected.tally.frames,
            "runs": collected.tally.runs,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "mb_per_second": rate(seconds),
            "mb_per_cpu_second": rate(cpu_seconds),
        });
        println!("{value}");
    } else {
        println!(
            "{bytes} bytes, {} frames, {} runs in {seconds:.3} s ({cpu_seconds:.3} CPU seconds): {:.0} MB/s, {:.0} MB/s a core",
            collected.tally.frames,
            collected.tally.runs,
            rate(seconds),
            rate(cpu_seconds)
        );
    }
    for problem in &collected.remarks.problems {
        say(format_args!("amie-runner: {}", escape(&problem.to_string())));
    }
    Ok(if collected.remarks.problems.is_empty() { Exit::Well } else { Exit::Attention })
}

//! Prints what is understood of a file of `sacct -P` or `-p`: `cargo run -p parsers --example dump -- FILE`.

use parsers::Frame;
use parsers::sacct::{Layout, Options, guess_delimiter};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read(std::env::args().nth(1).ok_or("which file?")?)?;
    let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = guess_delimiter(header).ok_or("no sacct columns in the first line")?;
    let layout = Layout::lenient(header, &Options { delimiter, ..Options::default() })?;
    let mut lines = Vec::new();
    layout.read(&text, 0..text.len(), true, |frame| {
        lines.push(match frame {
            Frame::Run(run) => format!(
                "{} {} {:?} elapsed {:?} cores {:?} gpus {:?} {:?}",
                run.job_id, run.state_text, run.submit, run.elapsed, run.cores, run.gpus, run.finding
            ),
            Frame::Note(note) => format!("# {}", note.kind),
            Frame::Quarantined(bad) => format!("! line {}: {}", bad.place.line + 1, bad.reason),
        });
    });
    Ok(writeln!(std::io::stdout(), "{}", lines.join("\n"))?)
}

//! Frames as JSON lines, for `parse`: what was understood, one object a line, in input order.

use super::{File, Frames, Work};
use crate::input::blocks::{Block, TooLong};
use crate::tally::Tally;
use bstr::BStr;
use parsers::{Frame, Kind, Phase, Quarantined, Run, State};
use serde::Serialize;

/// What the parsing of one block gives.
#[derive(Debug, Default)]
pub struct Parsed {
    /// JSON objects, one a line.
    pub lines: Vec<u8>,
    /// Quarantined frames.
    pub quarantined: Vec<Unreadable>,
    /// Counts. Mapping does not take place: all runs count as mapped.
    pub tally: Tally,
}

/// A frame that could not be read, with its place.
#[derive(Debug, Clone, Serialize)]
pub struct Unreadable {
    /// The file.
    pub file: String,
    /// Its first line, from 1.
    pub line: u64,
    /// Why, in words.
    pub reason: String,
    /// The text; what is not UTF-8 is replaced.
    pub text: String,
    /// The reason's code.
    pub code: String,
}

/// Most of a quarantined text that is kept, bytes.
const KEPT_TEXT: usize = 64 << 10;

impl Unreadable {
    /// The text and reason of a quarantined frame of a file.
    pub(super) fn new(bad: &Quarantined<'_>, file: &str, line: u64) -> Self {
        Self {
            file: file.to_owned(),
            line,
            reason: bad.reason.to_string(),
            text: String::from_utf8_lossy(bad.text.get(..KEPT_TEXT).unwrap_or(bad.text)).into_owned(),
            code: bad.reason.code().to_owned(),
        }
    }
}

/// Renders frames as JSON lines.
#[derive(Debug)]
pub struct ParseWork;

impl Work for ParseWork {
    type Output = Parsed;

    fn block(&self, file: &File, block: &Block, frames: Frames<'_>) -> Parsed {
        let mut parsed = Parsed::default();
        frames.visit(|frame| {
            parsed.tally.frames += 1;
            match frame {
                Frame::Run(run) => {
                    count(&mut parsed.tally, &run);
                    let line = block.line + run.place.line as u64 + 1;
                    render(&run, &file.path, line, &mut parsed.lines);
                }
                Frame::Note(note) => parsed.tally.inform(&note.kind.to_string(), 1),
                Frame::Quarantined(bad) => {
                    parsed.tally.quarantine(bad.reason.code());
                    let line = block.line + bad.place.line as u64 + 1;
                    parsed.quarantined.push(Unreadable::new(&bad, &file.path, line));
                }
            }
        });
        parsed
    }

    fn too_long(&self, file: &File, skipped: &TooLong) -> Parsed {
        let mut parsed = Parsed::default();
        parsed.tally.frames = 1;
        let unreadable = too_long(file, skipped);
        parsed.tally.quarantine(&unreadable.code);
        parsed.quarantined.push(unreadable);
        parsed
    }
}

/// The quarantined frame that a skipped, too long one is.
pub(super) fn too_long(file: &File, skipped: &TooLong) -> Unreadable {
    Unreadable {
        file: file.path.to_string(),
        line: skipped.line + 1,
        reason: format!("{}: {} bytes", parsers::Reason::TooLong, skipped.len),
        text: String::from_utf8_lossy(&skipped.text).into_owned(),
        code: parsers::Reason::TooLong.code().to_owned(),
    }
}

/// Counts an understood frame: runs contribute, steps and parents inform.
pub(super) fn count(tally: &mut Tally, run: &Run<'_>) {
    match run.kind {
        Kind::Run => {
            tally.contributing += 1;
            tally.runs += 1;
            tally.mapped += 1;
        }
        Kind::Step => tally.inform("step", 1),
        Kind::Parent => tally.inform("array-parent", 1),
        Kind::Other => tally.inform("other", 1),
    }
}

/// One line of `parse`'s output.
#[derive(Serialize)]
struct Line<'a> {
    job_id: Text<'a>,
    raw_id: Text<'a>,
    cluster: Option<Text<'a>>,
    user: Option<Text<'a>>,
    account: Option<Text<'a>>,
    partition: Option<Text<'a>>,
    qos: Option<Text<'a>>,
    name: Option<Text<'a>>,
    state: Text<'a>,
    submit: Option<i64>,
    eligible: Option<i64>,
    start: Option<i64>,
    end: Option<i64>,
    elapsed: Option<u64>,
    suspended: Option<u64>,
    nodes: Option<u64>,
    cores: Option<u64>,
    gpus: Option<u64>,
    mem_bytes: Option<u64>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    kind: &'static str,
    file: &'a str,
    line: u64,
    group: Option<Text<'a>>,
    project: Option<Text<'a>>,
    run_count: Option<u32>,
    finding: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    phases: Vec<PhaseLine>,
}

/// A part of a run in which its allocation stayed as it was.
#[derive(Serialize)]
struct PhaseLine {
    seconds: u64,
    nodes: Option<u64>,
    cores: Option<u64>,
    gpus: Option<u64>,
    mem_bytes: Option<u64>,
}

impl PhaseLine {
    fn of(phase: &Phase) -> Self {
        let Phase { seconds, nodes, cores, gpus, mem_bytes, assigned: _ } = *phase;
        Self { seconds, nodes, cores, gpus, mem_bytes }
    }
}

/// Bytes as JSON text; what is not UTF-8 is replaced.
struct Text<'a>(&'a BStr);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_str(&String::from_utf8_lossy(self.0)),
        }
    }
}

/// Renders one understood frame as a line.
fn render(run: &Run<'_>, file: &str, line: u64, out: &mut Vec<u8>) {
    let state = match run.state {
        State::Unknown => Text(run.state_text),
        known => Text(BStr::new(known.as_str())),
    };
    let line = Line {
        job_id: Text(run.job_id),
        raw_id: Text(run.raw_id),
        cluster: run.cluster.map(Text),
        user: run.user.map(Text),
        account: run.account.map(Text),
        partition: run.partition.map(Text),
        qos: run.qos.map(Text),
        name: run.name.map(Text),
        state,
        submit: run.submit,
        eligible: run.eligible,
        start: run.start,
        end: run.end,
        elapsed: run.elapsed,
        suspended: run.suspended,
        nodes: run.nodes,
        cores: run.cores,
        gpus: run.gpus,
        mem_bytes: run.mem_bytes,
        exit_code: run.exit_code,
        signal: run.signal,
        kind: run.kind.as_str(),
        file,
        line,
        group: run.group.map(Text),
        project: run.project.map(Text),
        run_count: run.run_count,
        finding: run.finding.map(parsers::Finding::code),
        phases: run.phases.iter().map(PhaseLine::of).collect(),
    };
    // Writing to memory cannot fail, and the struct holds nothing that JSON cannot say.
    if serde_json::to_writer(&mut *out, &line).is_ok() {
        out.push(b'\n');
    }
}

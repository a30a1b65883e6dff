//! Writes the text that `sacct -D -P` prints of an imagined centre, of any size.

use crate::clock::{BEGIN, Clock, number};
use crate::random::Random;
use crate::site::{Owner, Partition, Site, Size};
use crate::truth::Truth;
use chrono_tz::Tz;
use std::io::{self, Write};

/// How times are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Epoch seconds, as with `SLURM_TIME_FORMAT=%s`.
    Epoch,
    /// Local time of a zone, as sacct does by default.
    Local(Tz),
}

/// Which columns are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// The 27 columns that a site's own script would ask for, the job's name last.
    Usual,
    /// The 21 columns that are safe to collect: nothing in them is written by users.
    Collect,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SacctOptions {
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// The text ends with the first row that reaches this size.
    pub bytes: u64,
    /// How times are printed.
    pub times: Times,
    /// Which columns.
    pub columns: Columns,
    /// Between two fields. Anything but `|` also stands behind the last one, as with `-p --delimiter`.
    pub delimiter: String,
    /// Also write rows of steps.
    pub steps: bool,
    /// Also write job names that hold `|` or a newline (only where there is a column for the name).
    pub hostile: bool,
}

impl Default for SacctOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            bytes: 1 << 20,
            times: Times::Epoch,
            columns: Columns::Usual,
            delimiter: "|".to_owned(),
            steps: false,
            hostile: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    JobIdRaw,
    JobId,
    DbIndex,
    Cluster,
    User,
    Uid,
    Account,
    Partition,
    Qos,
    State,
    Submit,
    Eligible,
    Start,
    End,
    ElapsedRaw,
    Suspended,
    CpuTimeRaw,
    AllocCpus,
    ReqCpus,
    NNodes,
    AllocTres,
    ReqTres,
    ReqMem,
    Timelimit,
    TimelimitRaw,
    ExitCode,
    Flags,
    Reservation,
    NodeList,
    JobName,
}

const USUAL: &[(Column, &str)] = &[
    (Column::JobIdRaw, "JobIDRaw"),
    (Column::JobId, "JobID"),
    (Column::DbIndex, "DBIndex"),
    (Column::Cluster, "Cluster"),
    (Column::User, "User"),
    (Column::Uid, "UID"),
    (Column::Account, "Account"),
    (Column::Partition, "Partition"),
    (Column::Qos, "QOS"),
    (Column::State, "State"),
    (Column::Submit, "Submit"),
    (Column::Eligible, "Eligible"),
    (Column::Start, "Start"),
    (Column::End, "End"),
    (Column::ElapsedRaw, "ElapsedRaw"),
    (Column::CpuTimeRaw, "CPUTimeRAW"),
    (Column::AllocCpus, "AllocCPUS"),
    (Column::ReqCpus, "ReqCPUS"),
    (Column::NNodes, "NNodes"),
    (Column::AllocTres, "AllocTRES"),
    (Column::ReqTres, "ReqTRES"),
    (Column::ReqMem, "ReqMem"),
    (Column::Timelimit, "Timelimit"),
    (Column::ExitCode, "ExitCode"),
    (Column::Flags, "Flags"),
    (Column::NodeList, "NodeList"),
    (Column::JobName, "JobName"),
];

const COLLECT: &[(Column, &str)] = &[
    (Column::JobIdRaw, "JobIDRaw"),
    (Column::JobId, "JobID"),
    (Column::Cluster, "Cluster"),
    (Column::User, "User"),
    (Column::Uid, "UID"),
    (Column::Account, "Account"),
    (Column::Partition, "Partition"),
    (Column::Qos, "QOS"),
    (Column::State, "State"),
    (Column::Submit, "Submit"),
    (Column::Eligible, "Eligible"),
    (Column::Start, "Start"),
    (Column::End, "End"),
    (Column::ElapsedRaw, "ElapsedRaw"),
    (Column::Suspended, "Suspended"),
    (Column::NNodes, "NNodes"),
    (Column::AllocTres, "AllocTRES"),
    (Column::ReqTres, "ReqTRES"),
    (Column::TimelimitRaw, "TimelimitRaw"),
    (Column::Reservation, "Reservation"),
    (Column::NodeList, "NodeList"),
];

/// What stays the same over the runs and tasks of one submission.
#[derive(Debug, Clone)]
struct Job {
    owner: Owner,
    qos: &'static str,
    size: Size,
    /// Whether the allocation's GPUs are listed by type beside their total.
    typed: bool,
    limit_minutes: u64,
    reservation: &'static str,
    name: Vec<u8>,
    first_node: u64,
}

/// One row.
#[derive(Debug)]
struct Row<'a> {
    job: &'a Job,
    raw_id: u64,
    id: &'a [u8],
    step: Option<&'static str>,
    state: &'static str,
    by: Option<u64>,
    submit: u64,
    eligible: u64,
    start: Option<u64>,
    end: Option<u64>,
    elapsed: u64,
    suspended: u64,
    allocated: bool,
    exit: (u64, u64),
}

/// A word that Slurm does not have: a reader must hold such a run.
const UNKNOWN_STATE: &str = "HIBERNATED";

const QOS: &[&str] = &["normal", "normal", "normal", "normal", "high", "preemptible", "debug"];

/// The words of what ended rows print, in thousandths of the started ones.
const ENDS: &[(u64, &str, (u64, u64))] = &[
    (790, "COMPLETED", (0, 0)),
    (80, "FAILED", (1, 0)),
    (10, "FAILED", (127, 0)),
    (55, "CANCELLED by", (0, 0)),
    (5, "CANCELLED", (0, 15)),
    (40, "TIMEOUT", (0, 0)),
    (10, "OUT_OF_MEMORY", (0, 125)),
    (5, "NODE_FAIL", (1, 0)),
    (3, "PREEMPTED", (0, 15)),
    (1, "DEADLINE", (0, 15)),
    (1, "BOOT_FAIL", (1, 0)),
];

/// Writes sacct text and returns what is in it.
///
/// ```
/// let mut text = Vec::new();
/// let options = benches::SacctOptions { bytes: 10_000, ..Default::default() };
/// let truth = benches::sacct(&options, &mut text)?;
/// assert_eq!(truth.bytes, text.len() as u64);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What writing to `out` gives.
pub fn sacct(options: &SacctOptions, out: &mut impl Write) -> io::Result<Truth> {
    let mut writer = Writer::new(options, out);
    writer.header()?;
    while !writer.full() {
        writer.submission()?;
    }
    writer.flush()?;
    Ok(writer.truth)
}

struct Writer<'o, W> {
    options: &'o SacctOptions,
    columns: &'static [(Column, &'static str)],
    trailing: bool,
    clock: Clock,
    random: Random,
    site: Site,
    out: &'o mut W,
    buffer: Vec<u8>,
    truth: Truth,
    now: u64,
    next_id: u64,
    next_index: u64,
}

impl<'o, W: Write> Writer<'o, W> {
    fn new(options: &'o SacctOptions, out: &'o mut W) -> Self {
        let mut random = Random::new(options.seed);
        let site = Site::new(&mut random);
        Self {
            options,
            columns: match options.columns {
                Columns::Usual => USUAL,
                Columns::Collect => COLLECT,
            },
            trailing: options.delimiter != "|",
            clock: Clock::new(match options.times {
                Times::Epoch => Tz::UTC,
                Times::Local(zone) => zone,
            }),
            random,
            site,
            out,
            buffer: Vec::with_capacity(80 << 10),
            truth: Truth { format: "sacct", seed: options.seed, ..Truth::default() },
            now: BEGIN,
            next_id: 4_000_000,
            next_index: 9_000_000,
        }
    }

    fn full(&self) -> bool {
        self.truth.bytes >= self.options.bytes
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }

    /// What every row and the header end with: counts, and hands full buffers on.
    fn end_of_record(&mut self, from: usize) -> io::Result<()> {
        self.buffer.push(b'\n');
        let newlines = self.buffer[from..].iter().filter(|byte| **byte == b'\n').count();
        self.truth.lines += newlines as u64;
        self.truth.bytes += (self.buffer.len() - from) as u64;
        self.truth.records += 1;
        if self.buffer.len() >= 64 << 10 {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<()> {
        let from = self.buffer.len();
        for (i, (_, name)) in self.columns.iter().enumerate() {
            if i > 0 {
                self.buffer.extend_from_slice(self.options.delimiter.as_bytes());
            }
            self.buffer.extend_from_slice(name.as_bytes());
        }
        if self.trailing {
            self.buffer.extend_from_slice(self.options.delimiter.as_bytes());
        }
        self.end_of_record(from)
    }

    /// One thing that a user submitted: a job, an array, a job of several components, one that is run again.
    fn submission(&mut self) -> io::Result<()> {
        let job = self.job();
        let usual = self.options.columns == Columns::Usual;
        match self.random.below(1000) {
            0..=59 => self.array(&job),
            60..=69 => self.heterogeneous(&job),
            70..=89 => self.run_again(&job),
            90..=129 => self.never_started(&job),
            130 if usual => self.live(&job),
            131 => self.cancelled_array(&job),
            _ => {
                let id = self.take_ids(1);
                self.run(&job, id, id.to_string().as_bytes())
            }
        }
    }

    fn job(&mut self) -> Job {
        let random = &mut self.random;
        let owner = self.site.owner(random);
        let mut name = Vec::new();
        Site::name(random, &mut name);
        if self.options.hostile && random.one_in(200) {
            name = random.pick(&[&b"a|b"[..], b"intel|amd run", b"line one\nline two", b"x\n|y"]).to_vec();
        }
        let size = owner.partition.size(random);
        Job {
            owner,
            qos: QOS[random.below(QOS.len() as u64) as usize],
            size,
            typed: !random.one_in(4),
            limit_minutes: *random.pick(&[10, 30, 60, 120, 240, 720, 1440, 2880, 10_080]),
            reservation: if random.one_in(100) { "maint_2026" } else { "" },
            name,
            first_node: random.between(1, owner.partition.nodes - size.nodes + 1),
        }
    }

    fn take_ids(&mut self, n: u64) -> u64 {
        let first = self.next_id;
        self.next_id += n + self.random.below(2);
        first
    }

    /// A run that ended about now.
    fn run(&mut self, job: &Job, raw_id: u64, id: &[u8]) -> io::Result<()> {
        self.now += self.random.below(4);
        let wait = self.random.duration() / 8;
        let end = self.now - self.random.below(120);
        let elapsed = self.random.duration();
        let suspended = if self.random.one_in(500) { self.random.between(1, 7200) } else { 0 };
        let start = end - elapsed - suspended;
        let (state, exit) = self.end_state();
        let by = (state == "CANCELLED by").then(|| match self.random.below(4) {
            0 => 0,
            _ => self.site.users[job.owner.user].uid,
        });
        let row = Row {
            job,
            raw_id,
            id,
            step: None,
            state,
            by,
            submit: start - wait,
            eligible: start - wait / 2,
            start: Some(start),
            end: Some(end),
            elapsed,
            suspended,
            allocated: true,
            exit,
        };
        self.with_steps(&row)
    }

    fn end_state(&mut self) -> (&'static str, (u64, u64)) {
        if self.random.one_in(50_000) {
            return (UNKNOWN_STATE, (0, 0));
        }
        let mut at = self.random.below(1000);
        for (weight, state, exit) in ENDS {
            if at < *weight {
                return (state, *exit);
            }
            at -= weight;
        }
        ("COMPLETED", (0, 0))
    }

    /// Tasks with one name and owner, which ended one after another. The last task bears the array's own number.
    fn array(&mut self, job: &Job) -> io::Result<()> {
        let tasks = match self.random.below(10) {
            0..=6 => self.random.between(2, 30),
            _ => self.random.between(31, 400),
        };
        let array = self.take_ids(tasks);
        let mut id = Vec::new();
        for task in 1..=tasks {
            if self.full() {
                break;
            }
            id.clear();
            number(array, &mut id);
            id.push(b'_');
            number(task, &mut id);
            self.run(job, if task == tasks { array } else { array + task }, &id)?;
        }
        Ok(())
    }

    /// Components of one job in different partitions: `66+0`, `66+1`.
    fn heterogeneous(&mut self, job: &Job) -> io::Result<()> {
        let components = self.random.between(2, 4);
        let first = self.take_ids(components);
        let mut id = Vec::new();
        for component in 0..components {
            let mut part = job.clone();
            if component > 0 {
                let partition: &'static Partition = self.site.owner(&mut self.random).partition;
                part.owner.partition = partition;
                part.size = partition.size(&mut self.random);
                part.first_node = self.random.between(1, partition.nodes - part.size.nodes + 1);
            }
            id.clear();
            number(first, &mut id);
            id.push(b'+');
            number(component, &mut id);
            self.run(&part, first + component, &id)?;
        }
        Ok(())
    }

    /// One job that ran two or three times: the same number, another submit time.
    fn run_again(&mut self, job: &Job) -> io::Result<()> {
        let id = self.take_ids(1);
        let text = id.to_string();
        let runs = self.random.between(2, 3);
        let mut submit = self.now - self.random.duration() / 8;
        for run in 1..=runs {
            let wait = self.random.below(200);
            let elapsed = self.random.below(40_000);
            let start = submit + wait;
            let end = start + elapsed;
            self.now = self.now.max(end.min(self.now + 600));
            let (state, exit) = if run == runs {
                ("COMPLETED", (0, 0))
            } else {
                *self.random.pick(&[("REQUEUED", (0, 0)), ("PREEMPTED", (0, 15)), ("NODE_FAIL", (0, 0))])
            };
            let row = Row {
                job,
                raw_id: id,
                id: text.as_bytes(),
                step: None,
                state,
                by: None,
                submit,
                eligible: start,
                start: Some(start),
                end: Some(end),
                elapsed,
                suspended: 0,
                allocated: true,
                exit,
            };
            self.with_steps(&row)?;
            submit = end + 1; // slurmctld: another second where it would be the same, so that the rows differ
        }
        Ok(())
    }

    /// Cancelled, or past its deadline, before it was given anything.
    fn never_started(&mut self, job: &Job) -> io::Result<()> {
        let id = self.take_ids(1);
        let cancelled = !self.random.one_in(20);
        let wait = self.random.duration();
        let text = id.to_string();
        let row = Row {
            job,
            raw_id: id,
            id: text.as_bytes(),
            step: None,
            state: if cancelled { "CANCELLED by" } else { "DEADLINE" },
            by: cancelled.then_some(self.site.users[job.owner.user].uid),
            submit: self.now - wait,
            eligible: self.now - wait,
            start: None,
            end: Some(self.now),
            elapsed: 0,
            suspended: 0,
            allocated: false,
            exit: (0, 0),
        };
        self.row(&row)
    }

    /// A whole array that was cancelled while pending: one row for all its tasks.
    fn cancelled_array(&mut self, job: &Job) -> io::Result<()> {
        let id = self.take_ids(1);
        let text = format!("{id}_[1-{}%4]", self.random.between(2, 500));
        let row = Row {
            job,
            raw_id: id,
            id: text.as_bytes(),
            step: None,
            state: "CANCELLED by",
            by: Some(0),
            submit: self.now - 3600,
            eligible: self.now - 3600,
            start: None,
            end: Some(self.now),
            elapsed: 0,
            suspended: 0,
            allocated: false,
            exit: (0, 0),
        };
        self.row(&row)
    }

    /// Pending or running when sacct was called.
    fn live(&mut self, job: &Job) -> io::Result<()> {
        let id = self.take_ids(1);
        let running = self.random.one_in(2);
        let elapsed = if running { self.random.duration() } else { 0 };
        let text = id.to_string();
        let row = Row {
            job,
            raw_id: id,
            id: text.as_bytes(),
            step: None,
            state: if running { "RUNNING" } else { "PENDING" },
            by: None,
            submit: self.now - elapsed - 60,
            eligible: self.now - elapsed - 60,
            start: running.then_some(self.now - elapsed),
            end: None,
            elapsed,
            suspended: 0,
            allocated: running,
            exit: (0, 0),
        };
        self.row(&row)
    }

    /// The row of a run, and its steps where they are wanted.
    fn with_steps(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.row(row)?;
        if !self.options.steps {
            return Ok(());
        }
        for step in ["batch", "extern", "0"] {
            if self.full() {
                break;
            }
            let submit = row.start.unwrap_or(row.submit);
            self.row(&Row {
                step: Some(step),
                state: if step == "extern" { "COMPLETED" } else { row.state },
                by: None,
                submit,
                eligible: submit,
                ..*row
            })?;
        }
        Ok(())
    }

    fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.count(row);
        let from = self.buffer.len();
        if row.step.is_none() {
            self.next_index += 1;
        }
        for (i, (column, _)) in self.columns.iter().enumerate() {
            if i > 0 {
                self.buffer.extend_from_slice(self.options.delimiter.as_bytes());
            }
            self.cell(*column, row);
        }
        if self.trailing {
            self.buffer.extend_from_slice(self.options.delimiter.as_bytes());
        }
        self.end_of_record(from)
    }

    fn count(&mut self, row: &Row<'_>) {
        let size = row.job.size;
        let named = self.options.columns == Columns::Usual;
        let odd = row.job.name.iter().any(|byte| matches!(byte, b'|' | b'\n')) && row.step.is_none();
        if named && odd {
            self.truth.torn += 1;
            if self.options.delimiter == "|" {
                return;
            }
        }
        if row.step.is_some() {
            self.truth.steps += 1;
        } else if row.id.ends_with(b"]") {
            self.truth.parents += 1;
        } else if row.end.is_none() {
            self.truth.live += 1;
        } else if !row.allocated {
            self.truth.never_started += 1;
        } else if row.state == UNKNOWN_STATE {
            self.truth.unknown_states += 1;
        } else {
            self.truth.run(row.elapsed, size.cores, size.gpus, size.nodes);
            self.truth.kind(row.state.trim_end_matches(" by"));
        }
    }

    fn cell(&mut self, column: Column, row: &Row<'_>) {
        let job = row.job;
        let user = &self.site.users[job.owner.user];
        let is_job = row.step.is_none();
        let out = &mut self.buffer;
        match column {
            Column::JobIdRaw => {
                number(row.raw_id, out);
                step(row.step, out);
            }
            Column::JobId => {
                out.extend_from_slice(row.id);
                step(row.step, out);
            }
            Column::DbIndex => number(self.next_index, out),
            Column::Cluster => out.extend_from_slice(b"testhpc"),
            Column::User if is_job => out.extend_from_slice(user.name.as_bytes()),
            Column::Uid if is_job => number(user.uid, out),
            Column::Account => out.extend_from_slice(self.site.accounts[job.owner.account].as_bytes()),
            Column::Partition if is_job => out.extend_from_slice(job.owner.partition.name.as_bytes()),
            Column::Qos if is_job => out.extend_from_slice(job.qos.as_bytes()),
            Column::State => {
                out.extend_from_slice(row.state.as_bytes());
                if let Some(uid) = row.by {
                    out.push(b' ');
                    number(uid, out);
                } else if row.state == "CANCELLED by" {
                    out.truncate(out.len() - " by".len()); // steps do not say by whom
                }
            }
            Column::Submit => self.time(row.submit),
            Column::Eligible => self.time(row.eligible),
            Column::Start => match row.start {
                Some(start) => self.time(start),
                None => out.extend_from_slice(if row.end.is_some() { b"None" } else { b"Unknown" }),
            },
            Column::End => match row.end {
                Some(end) => self.time(end),
                None => out.extend_from_slice(b"Unknown"),
            },
            Column::ElapsedRaw => number(row.elapsed, out),
            Column::Suspended => crate::clock::hours(row.suspended, out),
            Column::CpuTimeRaw => number(row.elapsed * job.size.cores, out),
            Column::AllocCpus | Column::ReqCpus => number(job.size.cores, out),
            Column::NNodes => number(job.size.nodes, out),
            Column::AllocTres if row.allocated => {
                tres(job, row.step != Some("batch") && row.step != Some("0"), job.typed, self.options, out);
            }
            Column::ReqTres if is_job => tres(job, true, false, self.options, out),
            Column::ReqMem if is_job => memory(job.size.mem_mib, self.options, out),
            Column::Timelimit if is_job => limit(job.limit_minutes, out),
            Column::TimelimitRaw if is_job => number(job.limit_minutes, out),
            Column::ExitCode => {
                number(row.exit.0, out);
                out.push(b':');
                number(row.exit.1, out);
            }
            Column::Flags if is_job => {
                if row.start.is_some() {
                    out.extend_from_slice(if row.raw_id.is_multiple_of(3) {
                        b"SchedBackfill,"
                    } else {
                        b"SchedMain,"
                    });
                }
                out.extend_from_slice(b"StartReceived");
            }
            Column::Reservation if is_job => out.extend_from_slice(job.reservation.as_bytes()),
            Column::NodeList if row.allocated => nodes(job, out),
            Column::NodeList => out.extend_from_slice(b"None assigned"),
            Column::JobName => match row.step {
                None => out.extend_from_slice(&job.name),
                Some("0") => out.extend_from_slice(b"hydra_bstrap_proxy"),
                Some(other) => out.extend_from_slice(other.as_bytes()),
            },
            _ => {} // a step has nothing there
        }
    }

    fn time(&mut self, epoch: u64) {
        match self.options.times {
            Times::Epoch => number(epoch, &mut self.buffer),
            Times::Local(_) => self.clock.iso(epoch, &mut self.buffer),
        }
    }
}

fn step(step: Option<&str>, out: &mut Vec<u8>) {
    if let Some(step) = step {
        out.push(b'.');
        out.extend_from_slice(step.as_bytes());
    }
}

/// `billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=16G,node=1`: sorted as Slurm does, no zeros.
fn tres(job: &Job, billing: bool, typed: bool, options: &SacctOptions, out: &mut Vec<u8>) {
    let size = job.size;
    if billing {
        out.extend_from_slice(b"billing=");
        number(size.cores.max(size.mem_mib / 4096) + 10 * size.gpus, out);
        out.push(b',');
    }
    out.extend_from_slice(b"cpu=");
    number(size.cores, out);
    if size.gpus > 0 {
        if typed {
            out.extend_from_slice(b",gres/gpu:");
            out.extend_from_slice(job.owner.partition.gpu_type.as_bytes());
            out.push(b'=');
            number(size.gpus, out);
        }
        out.extend_from_slice(b",gres/gpu=");
        number(size.gpus, out);
    }
    out.extend_from_slice(b",mem=");
    memory(size.mem_mib, options, out);
    out.extend_from_slice(b",node=");
    number(size.nodes, out);
}

/// MiB as Slurm prints them: the unit goes up while half units are exact (`4G`, `2.50G`, `4000M`), with
/// `--noconvert`, which belongs to collecting, never.
fn memory(mib: u64, options: &SacctOptions, out: &mut Vec<u8>) {
    let mut halves = mib * 2;
    let mut unit = 0;
    while options.columns == Columns::Usual && unit < 2 && halves >= 2048 && halves.is_multiple_of(1024) {
        halves /= 1024;
        unit += 1;
    }
    number(halves / 2, out);
    if halves % 2 == 1 {
        out.extend_from_slice(b".50");
    }
    out.push([b'M', b'G', b'T'][unit]);
}

/// `[D-]HH:MM:00`.
fn limit(minutes: u64, out: &mut Vec<u8>) {
    let days = minutes / 1440;
    if days > 0 {
        number(days, out);
        out.push(b'-');
    }
    crate::clock::hours(minutes % 1440 * 60, out);
}

/// `c0007`, `c[0007-0012]`.
fn nodes(job: &Job, out: &mut Vec<u8>) {
    let (first, last) = (job.first_node, job.first_node + job.size.nodes - 1);
    out.extend_from_slice(job.owner.partition.node_prefix.as_bytes());
    let text = if first == last { format!("{first:04}") } else { format!("[{first:04}-{last:04}]") };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(mib: u64, columns: Columns) -> String {
        let mut out = Vec::new();
        memory(mib, &SacctOptions { columns, ..Default::default() }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn memory_is_printed_as_slurm_does() {
        // facts of Slurm 22.05: 4096M prints as 4G, 2560M as 2.50G, 4000M stays
        assert_eq!(printed(4096, Columns::Usual), "4G");
        assert_eq!(printed(2560, Columns::Usual), "2.50G");
        assert_eq!(printed(4000, Columns::Usual), "4000M");
        assert_eq!(printed(1_572_864, Columns::Usual), "1.50T");
        assert_eq!(printed(4096, Columns::Collect), "4096M");
    }

    #[test]
    fn limits_have_days() {
        let mut out = Vec::new();
        limit(2881, &mut out);
        assert_eq!(out, b"2-00:01:00");
    }
}

//! What a record of an accounting source says, in one shape for every scheduler.
//!
//! A [`Frame`] is one line or record of the input. Every frame is exactly one of: something that was understood
//! as a [`Run`] (of some [`Kind`]), a [`Note`] that carries no usage by itself, or a [`Quarantined`] text that could
//! not be read. Nothing is dropped: readers hand out as many frames as there are in the input.
//!
//! All text is borrowed from the input and is bytes: job names and accounts need not be UTF-8.

use crate::tres;
use bstr::BStr;
use std::borrow::Cow;
use std::fmt;

/// One line or record of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Understood: a run that can be charged, or a step or array parent (see [`Run::kind`]).
    Run(Run<'a>),
    /// Understood, and no usage by itself: a header, a PBS letter other than `E` and `R`.
    Note(Note<'a>),
    /// Not understood: set aside with its place and the reason.
    Quarantined(Quarantined<'a>),
}

/// Which family of schedulers a run comes from; it decides how the run is identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheduler {
    /// Slurm: a run is (cluster, raw job id, submit time).
    Slurm,
    /// OpenPBS, PBS Pro, TORQUE: a run is (server, job id, submit time, run count or start time).
    Pbs,
}

/// What a row or record stands for. Only [`Kind::Run`] can be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One run of a job: from its start to its end, requeue or kill.
    Run,
    /// A job step (`123.batch`, `123.0`): part of a run, never charged beside it.
    Step,
    /// A whole array: a pending `62_[1-9]` of Slurm, `123[].server` of PBS.
    Parent,
    /// Neither: for example a record of a reservation.
    Other,
}

impl Kind {
    /// The word used in JSON and summaries: `run`, `step`, `parent`, `other`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Step => "step",
            Self::Parent => "parent",
            Self::Other => "other",
        }
    }
}

/// Where a run stands, in the words of Slurm; PBS runs get the nearest of them (see `pbs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the words are Slurm's own: job_state_string() in slurm_protocol_defs.c
pub enum State {
    Pending,
    Running,
    Suspended,
    Completing,
    Configuring,
    StageOut,
    Signaling,
    Stopped,
    Requeue,
    Completed,
    Cancelled,
    Failed,
    Timeout,
    NodeFail,
    Preempted,
    BootFail,
    Deadline,
    OutOfMemory,
    Requeued,
    Resizing,
    Revoked,
    SpecialExit,
    /// A word that this version does not know: held, never guessed. The text is in [`Run::state_text`].
    Unknown,
}

impl State {
    /// The state of a word as Slurm prints it (`job_state_string()` in `slurm_protocol_defs.c`, 17.11 to 26.05);
    /// [`State::Unknown`] for any other.
    #[must_use]
    #[inline]
    pub fn from_word(word: &[u8]) -> Self {
        match word {
            b"COMPLETED" => Self::Completed,
            b"FAILED" => Self::Failed,
            b"CANCELLED" => Self::Cancelled,
            b"TIMEOUT" => Self::Timeout,
            b"NODE_FAIL" => Self::NodeFail,
            b"PREEMPTED" => Self::Preempted,
            b"BOOT_FAIL" => Self::BootFail,
            b"DEADLINE" => Self::Deadline,
            b"OUT_OF_MEMORY" => Self::OutOfMemory,
            b"REQUEUED" => Self::Requeued,
            b"RESIZING" => Self::Resizing,
            b"REVOKED" => Self::Revoked,
            b"SPECIAL_EXIT" => Self::SpecialExit,
            b"PENDING" | b"RESV_DEL_HOLD" | b"EXPEDITING" => Self::Pending,
            b"RUNNING" => Self::Running,
            b"SUSPENDED" => Self::Suspended,
            b"COMPLETING" => Self::Completing,
            b"CONFIGURING" => Self::Configuring,
            b"STAGE_OUT" => Self::StageOut,
            b"SIGNALING" => Self::Signaling,
            b"STOPPED" => Self::Stopped,
            b"REQUEUE_FED" | b"REQUEUE_HOLD" => Self::Requeue,
            _ => Self::Unknown,
        }
    }

    /// The word, as Slurm prints it; where two words are one state, the first of them.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Suspended => "SUSPENDED",
            Self::Completing => "COMPLETING",
            Self::Configuring => "CONFIGURING",
            Self::StageOut => "STAGE_OUT",
            Self::Signaling => "SIGNALING",
            Self::Stopped => "STOPPED",
            Self::Requeue => "REQUEUE_FED",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::NodeFail => "NODE_FAIL",
            Self::Preempted => "PREEMPTED",
            Self::BootFail => "BOOT_FAIL",
            Self::Deadline => "DEADLINE",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::Requeued => "REQUEUED",
            Self::Resizing => "RESIZING",
            Self::Revoked => "REVOKED",
            Self::SpecialExit => "SPECIAL_EXIT",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// True for a row that still changes in the ordinary course: it is reported when it has ended.
    /// `Requeued`, `Preempted` and `Resizing` are ends of a run that consumed resources.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Pending
                | Self::Running
                | Self::Suspended
                | Self::Completing
                | Self::Configuring
                | Self::StageOut
                | Self::Signaling
                | Self::Stopped
                | Self::Requeue
        )
    }
}

/// What makes an otherwise readable run unfit to be charged without a person's look. Mapping holds such runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Finding {
    /// The run started before it was submitted: Slurm 22.05 writes this for the second part of a resized job,
    /// whose elapsed time then contains the first part's.
    StartBeforeSubmit,
    /// Elapsed is longer than from start to end (beyond 2 s, or 1 h at a change of the clock).
    ElapsedBeyondSpan,
    /// `AllocTRES` contradicts `AllocCPUS` or `NNodes`.
    TresDisagree,
    /// The end lies before the start.
    EndBeforeStart,
    /// The local submit time is one that occurred twice, and nothing tells which.
    AmbiguousSubmit,
    /// A local start or end that occurred twice, and elapsed does not tell which.
    AmbiguousTime,
    /// The state is a word that this version does not know.
    UnknownState,
    /// PBS released nodes of this job while it ran, and the log does not say for certain which, when, and from what.
    NodeRelease,
    /// PBS: the record's date and its `end` are too far apart to have been written by the server.
    DateDisagrees,
    /// PBS: what the record says was used is less than from its start to its end, and the log does not reach back to say why.
    LogIncomplete,
    /// PBS: another record of the same run, with other numbers, came before.
    EndedTwice,
}

impl Finding {
    /// The reason's name in summaries and in the held list.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::StartBeforeSubmit
            | Self::ElapsedBeyondSpan
            | Self::TresDisagree
            | Self::EndBeforeStart
            | Self::DateDisagrees => "inconsistent",
            Self::AmbiguousSubmit | Self::AmbiguousTime => "ambiguous-time",
            Self::UnknownState => "unknown-state",
            Self::NodeRelease => "node-release",
            Self::LogIncomplete => "log-incomplete",
            Self::EndedTwice => "ended-twice",
        }
    }

    /// What is wrong with the times of a run that has ended, `slack` seconds allowed for. Honest rows pass: times have a
    /// resolution of a second, and local ones may be off by an hour where the configured zone has other rules than the cluster's.
    pub(crate) fn of_times(
        submit: Option<i64>,
        start: Option<i64>,
        end: Option<i64>,
        elapsed: Option<u64>,
        slack: i128,
    ) -> Option<Self> {
        let (start, end) = (start?, end?);
        if end < start {
            return Some(Self::EndBeforeStart);
        }
        if submit.is_some_and(|submit| start < submit) {
            return Some(Self::StartBeforeSubmit);
        }
        let span = i128::from(end) - i128::from(start);
        elapsed.is_some_and(|elapsed| i128::from(elapsed) > span + slack).then_some(Self::ElapsedBeyondSpan)
    }

    /// One sentence for people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::StartBeforeSubmit => {
                "the run starts before it was submitted (a resized job: its elapsed time repeats the first part's)"
            }
            Self::ElapsedBeyondSpan => "elapsed is longer than from start to end",
            Self::TresDisagree => "AllocTRES contradicts AllocCPUS or NNodes",
            Self::EndBeforeStart => "the run ends before it starts",
            Self::AmbiguousSubmit => {
                "the local submit time occurred twice that night, and nothing tells which it was"
            }
            Self::AmbiguousTime => {
                "a local time occurred twice that night, and the elapsed time does not tell which it was"
            }
            Self::UnknownState => "the state is not one that this version knows",
            Self::NodeRelease => {
                "nodes were released while the job ran, and its u, c and e records do not fit together: some are missing, or made up"
            }
            Self::DateDisagrees => "the record's date and its end time are too far apart",
            Self::LogIncomplete => {
                "less was used than from start to end, and the log does not show why: records of this run are missing"
            }
            Self::EndedTwice => "another record of this run, with other numbers, came before",
        }
    }
}

/// What was asked for, where the source says it. Units as in [`Run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requested {
    /// Processor cores.
    pub cores: Option<u64>,
    /// Nodes.
    pub nodes: Option<u64>,
    /// GPUs of all types.
    pub gpus: Option<u64>,
    /// Memory in bytes.
    pub mem_bytes: Option<u64>,
}

/// What PBS took from other jobs for this one (`resource_assigned.*` of `S` and `c` records): whole nodes where the placement is
/// exclusive, however little of them the job asked for. Units as in [`Run`].
///
/// Only known where the record that started the run was seen (see `pbs::Fold`); all `None` otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assigned {
    /// `resource_assigned.ncpus`.
    pub cores: Option<u64>,
    /// Hosts of the allocation, those that it only keeps free of others included.
    pub nodes: Option<u64>,
    /// `resource_assigned` of the resources that count GPUs; `Some(0)` where others are listed and none of these.
    pub gpus: Option<u64>,
    /// `resource_assigned.mem` in bytes.
    pub mem_bytes: Option<u64>,
}

/// A part of a run in which its allocation stayed as it was. Units as in [`Run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phase {
    /// How long it lasted, without suspension.
    pub seconds: u64,
    /// Allocated processor cores.
    pub cores: Option<u64>,
    /// Allocated nodes (distinct hosts).
    pub nodes: Option<u64>,
    /// Allocated GPUs of all types.
    pub gpus: Option<u64>,
    /// Allocated memory in bytes.
    pub mem_bytes: Option<u64>,
    /// What was taken from other jobs.
    pub assigned: Assigned,
}

/// Where a frame stands, counted from the start of the text given to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Byte offset of the frame's first byte.
    pub offset: usize,
    /// Length in bytes, without the final newline.
    pub len: usize,
    /// Lines before this frame: 0 for the first line.
    pub line: usize,
}

/// One run, step or array parent. What the source does not say is `None`, never 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<'a> {
    /// The family of schedulers.
    pub scheduler: Scheduler,
    /// Run, step, array parent or other.
    pub kind: Kind,
    /// The id that users see: `123`, `123_4`, `66+1`, `123.batch`; PBS `91.pbssrv`, `91[4].pbssrv`.
    pub job_id: &'a BStr,
    /// The scheduler's own number: Slurm `JobIDRaw` (or `job_id` where that column is absent); PBS as `job_id`.
    pub raw_id: &'a BStr,
    /// Slurm cluster; PBS: the server part of the id, short (`pbssrv` of `91.pbssrv.example.org`).
    pub cluster: Option<&'a BStr>,
    /// Login of the job's owner. Slurm: empty (`None`) where the Unix user is gone.
    pub user: Option<&'a BStr>,
    /// Slurm account; PBS `account` without its quotes. Slurm folds accounts to lower case.
    pub account: Option<&'a BStr>,
    /// PBS Unix group.
    pub group: Option<&'a BStr>,
    /// PBS project (`-P`). `_pbs_project_default` is what it says where none was given.
    pub project: Option<&'a BStr>,
    /// Slurm partition; PBS queue.
    pub partition: Option<&'a BStr>,
    /// Slurm quality of service.
    pub qos: Option<&'a BStr>,
    /// Reservation, where one is named.
    pub reservation: Option<&'a BStr>,
    /// Job name: written by users, any bytes.
    pub name: Option<&'a BStr>,
    /// How it stands or ended.
    pub state: State,
    /// The state as the source prints it (`CANCELLED by 20005`); PBS: the record letter, `E` or `R`.
    pub state_text: &'a BStr,
    /// Submit time, epoch seconds. For a requeued Slurm run: when it was requeued. PBS: `ctime`, shared by all runs of a job.
    pub submit: Option<i64>,
    /// When it became eligible, epoch seconds.
    pub eligible: Option<i64>,
    /// Start, epoch seconds; `None` where it never started.
    pub start: Option<i64>,
    /// End, epoch seconds; `None` while it runs.
    pub end: Option<i64>,
    /// Seconds of wall time that are charged: without suspension. PBS: `resources_used.walltime`, else end - start.
    pub elapsed: Option<u64>,
    /// Seconds suspended, where the source says so.
    pub suspended: Option<u64>,
    /// Allocated nodes (distinct hosts). Where there are [`phases`](Self::phases): at its start, like cores, GPUs and memory.
    pub nodes: Option<u64>,
    /// Allocated processor cores, as the scheduler counts them.
    pub cores: Option<u64>,
    /// Allocated GPUs of all types. `Some(0)` where the source lists the allocation and no GPU is in it.
    pub gpus: Option<u64>,
    /// Allocated memory in bytes; requested memory where only that is known.
    pub mem_bytes: Option<u64>,
    /// Slurm's `billing` TRES; `Some(0)` where `AllocTRES` is given and billing is not in it (Slurm prints no zeros).
    pub billing: Option<u64>,
    /// What was allocated, as Slurm lists it: `AllocTRES`, or as much of it as names types of GPUs (see [`Run::gpus_of_type`]).
    pub tres: Option<&'a BStr>,
    /// The hosts, as the scheduler lists them (see [`Run::each_host`]): Slurm `NodeList`, PBS `exec_host`.
    pub node_list: Option<&'a BStr>,
    /// False where the source shows that nothing was allocated: it never started.
    pub allocated: bool,
    /// What was asked for.
    pub requested: Requested,
    /// What was taken from other jobs: more than was allocated where the placement is exclusive.
    pub assigned: Assigned,
    /// The parts of a run that gave nodes back while it ran, in their order; empty for all others.
    ///
    /// The charge of such a run is the exact sum over its phases, each by its own counts and its own seconds; `elapsed` is the sum
    /// of their seconds.
    pub phases: Vec<Phase>,
    /// PBS: the `Resource_List.*` part of the record, as it stands; else empty. See [`Run::resource`].
    pub resources: &'a BStr,
    /// Exit code of the job, 0 to 255; PBS: as printed where it is negative (the server's own reasons).
    pub exit_code: Option<i32>,
    /// Signal that ended it; PBS: `Exit_status` above 256, less 256.
    pub signal: Option<i32>,
    /// PBS `run_count` (or TORQUE `start_count`): which run of the job this is, from 1.
    pub run_count: Option<u32>,
    /// Why a person should look before it is charged.
    pub finding: Option<Finding>,
    /// The record's own text, without the final newline.
    pub text: &'a BStr,
    /// Where it stands.
    pub place: Place,
}

impl<'a> Run<'a> {
    /// What a PBS job asked for of any resource (`Resource_List.NAME`), without quotes: `job_priority`, `walltime`, `select`, a
    /// site's own. `None` where it did not, or where the record says it twice: then a user's text may stand for one of them.
    ///
    /// It is looked for in the record's text at each call, with no allocation.
    ///
    /// ```
    /// # use parsers::{Frame, pbs};
    /// let log = b"11/23/2026 02:29:41;E;0.s;user=a group=g jobname=j queue=q ctime=1795426177 start=1795426177 exec_vnode=(n:ncpus=2) \
    ///     Resource_List.job_priority=premium Resource_List.note=\"a b\" session=2 end=1795426181 Exit_status=0\n";
    /// # let mut events = pbs::Events::default();
    /// pbs::Reader::default().frames(log, 0..log.len(), true, &mut events, &mut |frame| {
    ///     let Frame::Run(run) = frame else { panic!("{frame:?}") };
    ///     assert_eq!(run.resource(b"job_priority").unwrap(), "premium");
    ///     assert_eq!(run.resource(b"note").unwrap(), "a b");
    ///     assert_eq!(run.resource(b"ncpus"), None);
    /// });
    /// ```
    #[must_use]
    pub fn resource(&self, name: &[u8]) -> Option<&'a BStr> {
        crate::pbs::resource(self.resources, name).map(BStr::new)
    }

    /// The same in bytes, where it is a size as PBS writes them: `10gb`, `512b`, `2kw`, `1024`. A unit is 1024 times the one before,
    /// a word 8 bytes.
    #[must_use]
    pub fn resource_size(&self, name: &[u8]) -> Option<u64> {
        crate::pbs::size(self.resource(name)?)
    }
}

impl Run<'_> {
    /// Allocated GPUs of one type, `a100` of Slurm's `gres/gpu:a100=2`. `None` where the source does not say: PBS, a list
    /// without types, or one whose types do not add up to all GPUs, so that some are of a type that is not accounted.
    ///
    /// ```
    /// # fn example(run: &parsers::Run<'_>) {
    /// // AllocTRES: cpu=8,gres/gpu:a100=2,gres/gpu=2,node=1
    /// assert_eq!(run.gpus_of_type(b"a100"), Some(2));
    /// assert_eq!(run.gpus_of_type(b"h100"), Some(0));
    /// # }
    /// ```
    #[must_use]
    pub fn gpus_of_type(&self, wanted: &[u8]) -> Option<u64> {
        let mut of_types: u64 = 0;
        let mut found = None;
        for (name, count) in self.gpu_types() {
            of_types = of_types.saturating_add(count);
            if name == wanted {
                found = Some(count);
            }
        }
        found.or_else(|| (self.gpus? == of_types).then_some(0))
    }

    /// The types of GPUs that were allocated, each with its number, in the order of the source's list.
    pub fn gpu_types(&self) -> impl Iterator<Item = (&[u8], u64)> {
        tres::gpu_types(self.tres.map_or(&[][..], |list| list))
    }
}

/// A frame without usage of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    /// What it is.
    pub kind: NoteKind,
    /// The record's own text, without the final newline.
    pub text: &'a BStr,
    /// Where it stands.
    pub place: Place,
}

/// What a frame without usage of its own is. `Display` gives the name used in summaries (`informational`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NoteKind {
    /// The header line of sacct, or its repetition where files were joined.
    Header,
    /// An empty line.
    Blank,
    /// A job step that was not read further (see the reader's options).
    Step,
    /// A record of a whole array.
    Parent,
    /// A PBS record with this letter; its name is the letter.
    Letter(u8),
    /// A PBS `R` without usage (TORQUE writes it empty).
    EmptyRerun,
    /// A PBS `E` or `R` of something that is no job: a reservation.
    Reservation,
    /// A PBS `E` or `R` that was read before, whole and identical.
    Repeated,
    /// The header of a quota report.
    QuotaHeader,
}

impl fmt::Display for NoteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header | Self::QuotaHeader => f.write_str("header"),
            Self::Blank => f.write_str("blank"),
            Self::Step => f.write_str("step"),
            Self::Parent => f.write_str("array-parent"),
            Self::Letter(letter) => write!(f, "{}", letter.escape_ascii()),
            Self::EmptyRerun => f.write_str("rerun-without-usage"),
            Self::Reservation => f.write_str("reservation"),
            Self::Repeated => f.write_str("repeated"),
        }
    }
}

/// A text that could not be read, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined<'a> {
    /// Why. Whole sentences are made by [`fmt::Display`] of the reason.
    pub reason: Reason,
    /// The text as it stands, without the final newline.
    pub text: &'a BStr,
    /// Where it stands.
    pub place: Place,
}

/// Why a text could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The line has another number of fields than the header.
    FieldCount {
        /// Fields in the header.
        expected: usize,
        /// Fields in the line.
        found: usize,
    },
    /// The frame beside it is torn: this one may be part of the same text.
    BesideTorn,
    /// A value is not of its column's or key's form.
    Value {
        /// Column or key.
        field: Cow<'static, str>,
        /// The offending text, at most 64 bytes of it.
        found: Vec<u8>,
        /// What is expected there.
        expected: &'static str,
    },
    /// A column or key that is always there is not.
    Missing {
        /// Column or key.
        field: &'static str,
    },
    /// The local time does not exist in the zone: the clock was put forward over it.
    NoSuchTime {
        /// Column.
        field: &'static str,
    },
    /// The file ends in the middle of this record: no newline. It is read when it is complete.
    CutOff,
    /// The line is longer than a record can be.
    TooLong,
    /// The line does not begin like a record of this format, and does not continue one.
    NotARecord,
    /// A quote is not closed: the record is torn.
    OpenQuote {
        /// Key whose value begins with the quote.
        field: &'static str,
    },
    /// An element of a JSON list that is not one of a job, in the words of the JSON reader.
    Json {
        /// What is wrong, and where in the element.
        problem: String,
    },
}

impl Reason {
    /// A short stable name for counting: `field-count`, `beside-torn`, `value`, ...
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::FieldCount { .. } => "field-count",
            Self::BesideTorn => "beside-torn",
            Self::Value { .. } => "value",
            Self::Missing { .. } => "missing",
            Self::NoSuchTime { .. } => "no-such-time",
            Self::CutOff => "cut-off",
            Self::TooLong => "too-long",
            Self::NotARecord => "not-a-record",
            Self::OpenQuote { .. } => "open-quote",
            Self::Json { .. } => "json",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldCount { expected, found } => write!(
                f,
                "{found} fields where the header has {expected}: the record is torn, or a name holds the delimiter or a newline"
            ),
            Self::BesideTorn => {
                f.write_str("the record beside it is torn, and this one may belong to the same text")
            }
            Self::Value { field, found, expected } => {
                write!(f, "{field}: expected {expected}, found \"{}\"", found.escape_ascii())
            }
            Self::Missing { field } => write!(f, "{field} is missing"),
            Self::NoSuchTime { field } => {
                write!(
                    f,
                    "{field}: this local time does not exist, the clock was put forward over it; check the source's timezone"
                )
            }
            Self::CutOff => {
                f.write_str("the file ends in the middle of this record; it is read when it is complete")
            }
            Self::TooLong => f.write_str("longer than any record"),
            Self::NotARecord => {
                f.write_str("does not begin like a record, and there is none that it continues")
            }
            Self::OpenQuote { field } => write!(f, "{field}: the quote is not closed, the record is torn"),
            Self::Json { problem } => write!(f, "not a job as sacct --json writes it: {problem}"),
        }
    }
}

/// At most 64 bytes of an offending text, for [`Reason::Value`].
#[must_use]
pub fn bounded(text: &[u8]) -> Vec<u8> {
    text.get(..64).unwrap_or(text).to_vec()
}

//! What a site's configuration says, as plain data: compiled by [`Rules::compile`](crate::Rules::compile).
//!
//! Names follow the configuration file. Numbers that take part in charges are text here: they are read exactly,
//! never as floating point.

use chrono::NaiveDate;
use chrono_tz::Tz;
use std::collections::BTreeMap;

/// Everything that decides what a run is charged, to whom.
#[derive(Debug, Clone)]
pub struct RulesSpec {
    /// `site.timezone`: dates in rates and tables begin at midnight there.
    pub timezone: Tz,
    /// Rows of the project table, in order. The first that fits decides.
    pub projects: Vec<ProjectRow>,
    /// `projects.match`, tried in order after the table.
    pub project_patterns: Vec<ProjectPattern>,
    /// `projects.skip`, tried after the patterns.
    pub skip: Vec<SkipRule>,
    /// Rows of the user table; `None` where no table is configured: the scheduler's user is the AMIE login.
    pub users: Option<Vec<UserRow>>,
    /// `users.pi_fallback`: service accounts, whose runs are the PI's of the project where the user table does not name them.
    pub pi_fallback: Vec<String>,
    /// `[[node_type]]`, in order. The first that fits decides.
    pub node_types: Vec<NodeTypeSpec>,
    /// `[[resource]]`, in order. The first that fits decides.
    pub resources: Vec<ResourceSpec>,
    /// `[[storage]]`.
    pub storage: Vec<StorageSpec>,
    /// `[policy]`.
    pub policy: PolicySpec,
}

/// account -> project, where the optional conditions hold.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the columns of the table
pub struct ProjectRow {
    pub account: String,
    pub project: String,
    pub cluster: Option<String>,
    pub partition: Option<String>,
    pub qos: Option<String>,
    pub user: Option<String>,
    /// Inclusive, midnight in the site's zone, by submit time.
    pub from: Option<NaiveDate>,
    /// Exclusive.
    pub until: Option<NaiveDate>,
    /// AMIE login of the project's PI, for [`RulesSpec::pi_fallback`].
    pub pi: Option<String>,
    /// Line in the table, from 1, for messages.
    pub line: u64,
}

/// An account pattern, anchored at both ends.
#[derive(Debug, Clone, Default)]
pub struct ProjectPattern {
    /// Regular expression.
    pub account: String,
    /// The project; `$1` and `$0` stand for groups and the whole match.
    pub project: String,
    /// Whether the project is turned to upper case.
    pub upper: bool,
    /// Only on this cluster.
    pub cluster: Option<String>,
}

/// Accounts that are not reported.
#[derive(Debug, Clone, Default)]
pub struct SkipRule {
    /// Regular expression, anchored at both ends.
    pub account: String,
    /// Only on this cluster.
    pub cluster: Option<String>,
}

/// scheduler user -> AMIE login, where the optional conditions hold.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the columns of the table
pub struct UserRow {
    pub user: String,
    pub username: String,
    pub cluster: Option<String>,
    pub from: Option<NaiveDate>,
    pub until: Option<NaiveDate>,
    /// Line in the table, from 1, for messages.
    pub line: u64,
}

/// A type of nodes: by partition, by the names of hosts, or by both.
#[derive(Debug, Clone, Default)]
pub struct NodeTypeSpec {
    /// What `factor.node_type` looks up.
    pub name: String,
    /// Only on these clusters; an empty list is no condition.
    pub cluster: Vec<String>,
    /// Only in these partitions or queues; an empty list is no condition.
    pub partition: Vec<String>,
    /// Regular expressions, anchored at both ends, one of which each host must match; an empty list: every host.
    pub hosts: Vec<String>,
    /// Cores of a node.
    pub cores: Option<u64>,
    /// GPUs of a node.
    pub gpus: Option<u64>,
}

/// A charge that the site has computed itself.
#[derive(Debug, Clone, Default)]
pub struct SuppliedRow {
    /// As users see it: `123`, `61_5`, `91.pbssrv`.
    pub job_id: String,
    /// A decimal number.
    pub charge: String,
    /// Only of this cluster.
    pub cluster: Option<String>,
    /// Only the run submitted then, epoch seconds.
    pub submit: Option<i64>,
    /// Only the run started then, epoch seconds.
    pub start: Option<i64>,
    /// Line in the table, from 1, for messages.
    pub line: u64,
}

/// What no run can have used: one that seems to have is held until a person approves it. An unset limit is none.
#[derive(Debug, Clone, Default)]
pub struct LimitsSpec {
    /// Largest charge of one record: a decimal number.
    pub max_charge: Option<String>,
    /// Cores of the whole cluster.
    pub max_cores: Option<u64>,
    /// Longest allowed wall time, in hours: a decimal number.
    pub max_hours: Option<String>,
}

/// One AMIE resource.
#[derive(Debug, Clone, Default)]
pub struct ResourceSpec {
    /// The AMIE resource name.
    pub name: String,
    /// Which runs it covers. An empty list is no condition.
    pub when: When,
    /// Its rates, each with its validity.
    pub rates: Vec<RateSpec>,
    /// Cores of a node whose type does not say.
    pub cores_per_node: Option<u64>,
    /// GPUs of a node whose type does not say.
    pub gpus_per_node: Option<u64>,
    /// Charges that formulas name `supplied`; `None` where no table is configured.
    pub supplied: Option<Vec<SuppliedRow>>,
    /// Each limit that is set here stands in place of the one in `[policy]`.
    pub limits: LimitsSpec,
}

/// Which runs: each non-empty list must contain the run's value.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct When {
    pub cluster: Vec<String>,
    pub partition: Vec<String>,
    pub qos: Vec<String>,
    pub account: Vec<String>,
    pub user: Vec<String>,
}

/// By which of a run's times a rate is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum RateBy {
    #[default]
    Submit,
    Start,
    End,
}

/// How a charge is rounded, once, at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounding {
    /// Digits behind the point, at most 18.
    pub places: u8,
    /// What happens to ties and rests.
    pub mode: RoundingMode,
}

impl Default for Rounding {
    fn default() -> Self {
        Self { places: 6, mode: RoundingMode::HalfEven }
    }
}

/// What happens to ties and rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RoundingMode {
    HalfEven,
    HalfUp,
    Up,
    Down,
}

/// One formula for a period.
#[derive(Debug, Clone)]
pub struct RateSpec {
    /// Inclusive, midnight in the site's zone.
    pub from: NaiveDate,
    /// Exclusive; open where absent.
    pub until: Option<NaiveDate>,
    /// Which time decides.
    pub rate_by: RateBy,
    /// The formula.
    pub charge: String,
    /// Rounding.
    pub round: Rounding,
    /// Least charge of a run that is charged at all: a decimal number.
    pub minimum: Option<String>,
    /// Least seconds that a run is charged for.
    pub minimum_seconds: Option<u64>,
    /// Factor tables: name (`qos`, `queue`, `node_type`, ...) -> value -> number. `default` is the value for all others.
    pub factors: BTreeMap<String, BTreeMap<String, String>>,
}

/// How readings of one source are charged.
#[derive(Debug, Clone)]
pub struct StorageSpec {
    /// The source's name.
    pub source: String,
    /// The AMIE resource name.
    pub resource: String,
    /// Whether the service replaces or adds repeated readings; readings are held while this is not known.
    pub service_treats: Option<ServiceTreats>,
    /// The formula.
    pub charge: String,
    /// Rounding.
    pub round: Rounding,
    /// Days from one reading to the next.
    pub interval_days: u64,
    /// `Disk`, `Tape`, ...
    pub media_type: Option<String>,
    /// Copies that the system keeps.
    pub system_copies: Option<u64>,
    /// owner -> project and login.
    pub owners: Vec<OwnerRow>,
}

/// Whether the service replaces or adds repeated readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ServiceTreats {
    Level,
    Sum,
}

/// owner -> project and login.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // the columns of the table
pub struct OwnerRow {
    pub owner: String,
    pub project: String,
    pub username: String,
    /// Line in the table, from 1, for messages.
    pub line: u64,
}

/// Charge a kind of end, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Charged {
    #[default]
    Charge,
    Zero,
}

/// `[policy]`.
#[derive(Debug, Clone, Default)]
pub struct PolicySpec {
    /// Send zero charges too (else they are sent only to overwrite an earlier charge).
    pub send_zero: bool,
    /// Runs that ended as NODE_FAIL.
    pub node_fail: Charged,
    /// Runs that ended as BOOT_FAIL.
    pub boot_fail: Charged,
    /// Runs that ended as PREEMPTED.
    pub preempted: Charged,
    /// Runs that ended as REQUEUED, and PBS `R` records.
    pub requeued: Charged,
    /// Parts of runs whose allocation was resized (RESIZING).
    pub resizing: Charged,
    /// Runs that ended as FAILED.
    pub failed: Charged,
    /// For every resource that does not set its own, and for storage.
    pub limits: LimitsSpec,
}

/// How one source's runs are mapped.
#[derive(Debug, Clone, Default)]
pub struct SourceSpec {
    /// The source's name.
    pub name: String,
    /// The cluster, where the records do not say.
    pub cluster: Option<String>,
    /// PBS: where the project comes from, tried in order. Slurm: always the account.
    pub project_from: Vec<ProjectFrom>,
    /// Whether accounts are compared without regard to case. Default: those of Slurm are, since it folds them to lower case.
    pub fold_accounts: Option<bool>,
    /// Template of `LocalRecordID`: text with `{job_id}`, `{raw_id}`, `{cluster}`, `{partition}`, `{user}`, `{submit}`,
    /// `{start}`. Default: `{job_id}`.
    pub local_record_id: Option<String>,
    /// Template of `ParentRecordID`, for array tasks and components of heterogeneous jobs: the same, and `{parent}`.
    /// Default: none is sent.
    pub parent_record_id: Option<String>,
    /// Hold the runs of texts in which users could have forged rows.
    pub hold_forgeable: bool,
    /// Add the job's name to the record.
    pub send_job_name: bool,
}

/// Where a PBS job's project comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProjectFrom {
    Account,
    Project,
    Group,
}

/// Which table a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RulePlace {
    ProjectRow {
        line: u64,
    },
    ProjectPattern {
        index: usize,
    },
    SkipRule {
        index: usize,
    },
    UserRow {
        line: u64,
    },
    NodeType {
        index: usize,
    },
    SuppliedRow {
        resource: usize,
        line: u64,
    },
    Resource {
        index: usize,
    },
    Rate {
        resource: usize,
        rate: usize,
    },
    /// `offset` is the byte in the formula.
    Formula {
        resource: usize,
        rate: usize,
        offset: usize,
        len: usize,
    },
    Factor {
        resource: usize,
        rate: usize,
    },
    Storage {
        index: usize,
    },
    StorageFormula {
        index: usize,
        offset: usize,
        len: usize,
    },
    OwnerRow {
        storage: usize,
        line: u64,
    },
    Policy,
    Source,
}

/// A rule that cannot be used, or (as a warning) one that does not do what it seems to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// Where.
    pub place: RulePlace,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

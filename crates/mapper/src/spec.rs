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

/// One AMIE resource.
#[derive(Debug, Clone, Default)]
pub struct ResourceSpec {
    /// The AMIE resource name.
    pub name: String,
    /// Which runs it covers. An empty list is no condition.
    pub when: When,
    /// Its rates, each with its validity.
    pub rates: Vec<RateSpec>,
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
    /// Factor tables: name (`qos`, `queue`, ...) -> value -> number. `default` is the value for all others.
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
    /// Runs that ended as FAILED.
    pub failed: Charged,
    /// One record above this is held: a decimal number.
    pub max_charge: Option<String>,
}

/// How one source's runs are mapped.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The source's name.
    pub name: String,
    /// The cluster, where the records do not say.
    pub cluster: Option<String>,
    /// PBS: where the project comes from, tried in order. Slurm: always the account.
    pub project_from: Vec<ProjectFrom>,
    /// Template of `LocalRecordID`: `{job_id}`, `{raw_id}`, `{cluster}`. Default per scheduler.
    pub local_record_id: Option<String>,
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

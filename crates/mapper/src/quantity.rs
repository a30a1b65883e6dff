//! The quantities that formulas may name, and where their values come from.

use crate::number::Number;
use parsers::{Assigned, Phase, Reading, Run};
use std::borrow::Cow;

/// A quantity of a formula.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Quantity {
    Cores,
    Nodes,
    Gpus,
    /// `gpus.a100`: those of one type.
    GpusOfType(Box<str>),
    MemGb,
    MemGib,
    Billing,
    Seconds,
    Hours,
    SuspendedHours,
    CoreHours,
    NodeHours,
    GpuHours,
    /// Of the run's nodes, as the configuration has them.
    CoresPerNode,
    GpusPerNode,
    /// All of the run's nodes, whatever was asked of them.
    ExclusiveCores,
    ExclusiveGpus,
    /// What PBS took from other jobs for this one.
    AssignedCores,
    AssignedNodes,
    AssignedGpus,
    AssignedMemGb,
    AssignedMemGib,
    /// `resource.NAME`: what was asked for of any resource of PBS.
    Resource(Box<str>),
    /// What the site has computed itself.
    Supplied,
    RequestedCores,
    RequestedNodes,
    RequestedGpus,
    RequestedMemGb,
    RequestedMemGib,
    StoredGb,
    StoredGib,
    AllocatedGb,
    AllocatedGib,
    Files,
    IntervalDays,
}

/// What a formula charges: it decides which quantities there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Run,
    Reading,
}

/// Name, quantity, power of time.
const OF_RUNS: [(&str, Quantity, i32); 27] = [
    ("cores", Quantity::Cores, 0),
    ("nodes", Quantity::Nodes, 0),
    ("gpus", Quantity::Gpus, 0),
    ("mem_gb", Quantity::MemGb, 0),
    ("mem_gib", Quantity::MemGib, 0),
    ("billing", Quantity::Billing, 0),
    ("seconds", Quantity::Seconds, 1),
    ("hours", Quantity::Hours, 1),
    ("suspended_hours", Quantity::SuspendedHours, 1),
    ("core_hours", Quantity::CoreHours, 1),
    ("node_hours", Quantity::NodeHours, 1),
    ("gpu_hours", Quantity::GpuHours, 1),
    ("cores_per_node", Quantity::CoresPerNode, 0),
    ("gpus_per_node", Quantity::GpusPerNode, 0),
    ("exclusive.cores", Quantity::ExclusiveCores, 0),
    ("exclusive.gpus", Quantity::ExclusiveGpus, 0),
    ("assigned.cores", Quantity::AssignedCores, 0),
    ("assigned.nodes", Quantity::AssignedNodes, 0),
    ("assigned.gpus", Quantity::AssignedGpus, 0),
    ("assigned.mem_gb", Quantity::AssignedMemGb, 0),
    ("assigned.mem_gib", Quantity::AssignedMemGib, 0),
    ("supplied", Quantity::Supplied, 1),
    ("requested.cores", Quantity::RequestedCores, 0),
    ("requested.nodes", Quantity::RequestedNodes, 0),
    ("requested.gpus", Quantity::RequestedGpus, 0),
    ("requested.mem_gb", Quantity::RequestedMemGb, 0),
    ("requested.mem_gib", Quantity::RequestedMemGib, 0),
];

/// What stands before the name of a type or of a resource.
const GPUS_OF: &str = "gpus.";
pub(crate) const RESOURCE: &str = "resource.";

const OF_READINGS: [(&str, Quantity, i32); 6] = [
    ("stored_gb", Quantity::StoredGb, 0),
    ("stored_gib", Quantity::StoredGib, 0),
    ("allocated_gb", Quantity::AllocatedGb, 0),
    ("allocated_gib", Quantity::AllocatedGib, 0),
    ("files", Quantity::Files, 0),
    ("interval_days", Quantity::IntervalDays, 0),
];

impl Subject {
    fn table(self) -> &'static [(&'static str, Quantity, i32)] {
        match self {
            Self::Run => &OF_RUNS,
            Self::Reading => &OF_READINGS,
        }
    }

    /// The quantity of this name, and the power of time in it.
    pub(crate) fn quantity(self, name: &str) -> Option<(Quantity, i32)> {
        if let Some((_, quantity, power)) = self.table().iter().find(|(known, ..)| *known == name) {
            return Some((quantity.clone(), *power));
        }
        let behind = |front| name.strip_prefix(front).filter(|rest| self == Self::Run && !rest.is_empty());
        let of_type = behind(GPUS_OF).map(|kind| Quantity::GpusOfType(kind.into()));
        let named = of_type.or_else(|| behind(RESOURCE).map(|name| Quantity::Resource(name.into())));
        named.map(|quantity| (quantity, 0))
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        self.table().iter().map(|(name, ..)| *name)
    }
}

impl Quantity {
    /// As formulas name it.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        match self {
            Self::GpusOfType(kind) => return Cow::Owned(format!("{GPUS_OF}{kind}")),
            Self::Resource(name) => return Cow::Owned(format!("{RESOURCE}{name}")),
            _ => {}
        }
        let tables = OF_RUNS.iter().chain(&OF_READINGS);
        let name = tables.into_iter().find(|(_, quantity, _)| quantity == self);
        Cow::Borrowed(name.map_or("quantity", |(name, ..)| name))
    }

    /// True for what depends on the type of the run's nodes.
    pub(crate) fn is_of_nodes(&self) -> bool {
        matches!(self, Self::CoresPerNode | Self::GpusPerNode | Self::ExclusiveCores | Self::ExclusiveGpus)
    }

    /// The power of time in it.
    pub(crate) fn power(&self) -> i32 {
        let mut tables = OF_RUNS.iter().chain(&OF_READINGS);
        tables.find(|(_, quantity, _)| quantity == self).map_or(0, |(.., power)| *power)
    }

    /// True for what exclusive placement took, which PBS says where a run begins.
    pub(crate) fn is_assigned(&self) -> bool {
        matches!(
            self,
            Self::AssignedCores
                | Self::AssignedNodes
                | Self::AssignedGpus
                | Self::AssignedMemGb
                | Self::AssignedMemGib
        )
    }

    /// True for what is said of a run as a whole: each of its phases would repeat it.
    pub(crate) fn is_of_whole_run(&self) -> bool {
        matches!(self, Self::Supplied | Self::SuspendedHours)
    }

    /// Where a source would say it, for the message that it does not.
    pub(crate) fn where_from(&self) -> &'static str {
        match self {
            Self::Cores | Self::CoreHours | Self::Gpus | Self::GpuHours | Self::MemGb | Self::MemGib => {
                "sacct gives it in AllocTRES, PBS in exec_vnode or Resource_List"
            }
            Self::GpusOfType(_) => {
                "sacct gives types of GPUs in AllocTRES where AccountingStorageTRES names each of them (gres/gpu:a100); PBS has no types"
            }
            Self::Nodes | Self::NodeHours => {
                "sacct gives it in NNodes or AllocTRES, PBS in exec_host or Resource_List"
            }
            Self::Billing => "sacct gives it in AllocTRES; PBS has none",
            Self::Seconds | Self::Hours => "sacct gives it in ElapsedRaw, PBS in resources_used.walltime",
            Self::SuspendedHours => "sacct gives it in Suspended; PBS has none",
            Self::CoresPerNode | Self::ExclusiveCores => {
                "`cores` of the node's [[node_type]] gives it, or cores_per_node of the [[resource]], and sacct (NNodes) or PBS (exec_host) the nodes"
            }
            Self::GpusPerNode | Self::ExclusiveGpus => {
                "`gpus` of the node's [[node_type]] gives it, or gpus_per_node of the [[resource]], and sacct (NNodes) or PBS (exec_host) the nodes"
            }
            Self::AssignedCores
            | Self::AssignedNodes
            | Self::AssignedGpus
            | Self::AssignedMemGb
            | Self::AssignedMemGib => {
                "PBS gives it in resource_assigned of the record that started the run: let the source reach back to it; sacct has none"
            }
            Self::Resource(_) => {
                "PBS gives it in Resource_List, as a number or a size; a text can only be looked up in a factor table; sacct has none"
            }
            Self::Supplied => "the table `supplied` of the [[resource]] gives it",
            Self::RequestedCores
            | Self::RequestedNodes
            | Self::RequestedGpus
            | Self::RequestedMemGb
            | Self::RequestedMemGib => "sacct gives it in ReqTRES, PBS in Resource_List",
            Self::AllocatedGb | Self::AllocatedGib => "the owner has no hard limit in this report",
            Self::Files => "this report does not count files",
            Self::StoredGb | Self::StoredGib | Self::IntervalDays => "it is always there",
        }
    }
}

/// The values of one subject.
pub(crate) trait Values {
    /// `None` where the source does not say.
    fn value(&self, quantity: &Quantity) -> Option<Number>;
}

const GB: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;

fn bytes(value: Option<u64>, unit: u64) -> Option<Number> {
    value.map(|bytes| Number::ratio(bytes, unit))
}

/// What a run used, as far as charges depend on it. What the source does not say is `None`, never 0.
///
/// ```
/// use mapper::Measures;
/// let measures = Measures { seconds: Some(3600), cores: Some(8), ..Measures::default() };
/// assert_eq!(measures.nodes, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures<'a> {
    /// Seconds of wall time without suspension.
    pub seconds: Option<u64>,
    /// Allocated nodes.
    pub nodes: Option<u64>,
    /// Allocated cores.
    pub cores: Option<u64>,
    /// Allocated GPUs.
    pub gpus: Option<u64>,
    /// Allocated memory in bytes.
    pub mem_bytes: Option<u64>,
    /// Slurm's `billing` TRES.
    pub billing: Option<u64>,
    /// What was asked for.
    pub requested: parsers::Requested,
    /// What was taken from other jobs.
    pub assigned: Assigned,
    /// The run, for what only some formulas look up: types of GPUs and nodes, supplied charges, suspension.
    pub run: Option<&'a Run<'a>>,
}

impl<'a> Measures<'a> {
    /// What `run` used.
    #[must_use]
    pub fn of(run: &'a Run<'a>) -> Self {
        Self {
            seconds: run.elapsed,
            nodes: run.nodes,
            cores: run.cores,
            gpus: run.gpus,
            mem_bytes: run.mem_bytes,
            billing: run.billing,
            requested: run.requested,
            assigned: run.assigned,
            run: Some(run),
        }
    }

    /// What `run` used in each of its phases; empty where it has none. What was asked for is that of the whole run.
    #[must_use]
    pub fn of_phases(run: &'a Run<'a>) -> Vec<Self> {
        let of = |phase: &Phase| Self {
            seconds: Some(phase.seconds),
            nodes: phase.nodes,
            cores: phase.cores,
            gpus: phase.gpus,
            mem_bytes: phase.mem_bytes,
            assigned: phase.assigned,
            ..Self::of(run)
        };
        run.phases.iter().map(of).collect()
    }

    /// Charged for at least `seconds`; a run that took no time is not lifted.
    pub(crate) fn at_least(self, seconds: u64) -> Self {
        let charged = self.seconds.map(|used| if used == 0 { 0 } else { used.max(seconds) });
        Self { seconds: charged, ..self }
    }

    /// The same for a run in phases, which together are charged for at least `seconds`: the last one that took time is lengthened,
    /// since that is what the run still had at its end.
    pub(crate) fn phases_at_least(phases: &mut [Self], seconds: u64) {
        let used = phases.iter().filter_map(|phase| phase.seconds).fold(0, u64::saturating_add);
        let Some(last) =
            phases.iter_mut().rev().find(|phase| phase.seconds.is_some_and(|seconds| seconds > 0))
        else {
            return;
        };
        last.seconds = last.seconds.map(|own| own.saturating_add(seconds.saturating_sub(used)));
    }

    /// `count` for the time of the run, in hours.
    fn hours_of(&self, count: Option<u64>) -> Option<Number> {
        let (count, seconds) = (count?, self.seconds?);
        match count.checked_mul(seconds) {
            Some(product) => Some(Number::ratio(product, 3600)),
            None => Some(Number::integer(count).multiply(&Number::ratio(seconds, 3600))),
        }
    }
}

impl Values for Measures<'_> {
    fn value(&self, quantity: &Quantity) -> Option<Number> {
        match quantity {
            Quantity::Cores => self.cores.map(Number::integer),
            Quantity::Nodes => self.nodes.map(Number::integer),
            Quantity::Gpus => self.gpus.map(Number::integer),
            Quantity::GpusOfType(kind) => self.run?.gpus_of_type(kind.as_bytes()).map(Number::integer),
            Quantity::MemGb => bytes(self.mem_bytes, GB),
            Quantity::MemGib => bytes(self.mem_bytes, GIB),
            Quantity::Billing => self.billing.map(Number::integer),
            Quantity::Seconds => self.seconds.map(Number::integer),
            Quantity::Hours => self.seconds.map(|seconds| Number::ratio(seconds, 3600)),
            Quantity::SuspendedHours => self.run?.suspended.map(|seconds| Number::ratio(seconds, 3600)),
            Quantity::CoreHours => self.hours_of(self.cores),
            Quantity::NodeHours => self.hours_of(self.nodes),
            Quantity::GpuHours => self.hours_of(self.gpus),
            Quantity::RequestedCores => self.requested.cores.map(Number::integer),
            Quantity::RequestedNodes => self.requested.nodes.map(Number::integer),
            Quantity::RequestedGpus => self.requested.gpus.map(Number::integer),
            Quantity::RequestedMemGb => bytes(self.requested.mem_bytes, GB),
            Quantity::RequestedMemGib => bytes(self.requested.mem_bytes, GIB),
            Quantity::AssignedCores => self.assigned.cores.map(Number::integer),
            Quantity::AssignedNodes => self.assigned.nodes.map(Number::integer),
            Quantity::AssignedGpus => self.assigned.gpus.map(Number::integer),
            Quantity::AssignedMemGb => bytes(self.assigned.mem_bytes, GB),
            Quantity::AssignedMemGib => bytes(self.assigned.mem_bytes, GIB),
            Quantity::Resource(name) => {
                let (run, name) = (self.run?, name.as_bytes());
                let text = run.resource(name)?;
                let number = std::str::from_utf8(text).ok().and_then(Number::decimal);
                number.or_else(|| run.resource_size(name).map(Number::integer))
            }
            // Rules add these to what was measured: see `terms`.
            Quantity::CoresPerNode
            | Quantity::GpusPerNode
            | Quantity::ExclusiveCores
            | Quantity::ExclusiveGpus
            | Quantity::Supplied => None,
            Quantity::StoredGb
            | Quantity::StoredGib
            | Quantity::AllocatedGb
            | Quantity::AllocatedGib
            | Quantity::Files
            | Quantity::IntervalDays => None,
        }
    }
}

/// A reading with the interval that it stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) reading: &'a Reading<'a>,
    pub(crate) interval_days: u64,
}

impl Values for Stored<'_> {
    fn value(&self, quantity: &Quantity) -> Option<Number> {
        match quantity {
            Quantity::StoredGb => bytes(Some(self.reading.bytes), GB),
            Quantity::StoredGib => bytes(Some(self.reading.bytes), GIB),
            Quantity::AllocatedGb => bytes(self.reading.bytes_limit, GB),
            Quantity::AllocatedGib => bytes(self.reading.bytes_limit, GIB),
            Quantity::Files => self.reading.files.map(Number::integer),
            Quantity::IntervalDays => Some(Number::integer(self.interval_days)),
            _ => None,
        }
    }
}

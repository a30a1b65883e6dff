//! The columns of `sacct`: which are read, which are only known, and which hold text that users write.

/// A column that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    JobId,
    JobIdRaw,
    JobName,
    Cluster,
    User,
    Uid,
    Account,
    Partition,
    Qos,
    Reservation,
    State,
    ExitCode,
    Submit,
    Eligible,
    Start,
    End,
    ElapsedRaw,
    Elapsed,
    Suspended,
    AllocTres,
    AllocCpus,
    NCpus,
    NNodes,
    NodeList,
    AllocNodes,
    ReqTres,
    ReqCpus,
    ReqMem,
}

impl Column {
    /// Every column that is read, with Slurm's name for it, in the order of declaration.
    pub(super) const ALL: [(Self, &'static str); 28] = [
        (Self::JobId, "JobID"),
        (Self::JobIdRaw, "JobIDRaw"),
        (Self::JobName, "JobName"),
        (Self::Cluster, "Cluster"),
        (Self::User, "User"),
        (Self::Uid, "UID"),
        (Self::Account, "Account"),
        (Self::Partition, "Partition"),
        (Self::Qos, "QOS"),
        (Self::Reservation, "Reservation"),
        (Self::State, "State"),
        (Self::ExitCode, "ExitCode"),
        (Self::Submit, "Submit"),
        (Self::Eligible, "Eligible"),
        (Self::Start, "Start"),
        (Self::End, "End"),
        (Self::ElapsedRaw, "ElapsedRaw"),
        (Self::Elapsed, "Elapsed"),
        (Self::Suspended, "Suspended"),
        (Self::AllocTres, "AllocTRES"),
        (Self::AllocCpus, "AllocCPUS"),
        (Self::NCpus, "NCPUS"),
        (Self::NNodes, "NNodes"),
        (Self::NodeList, "NodeList"),
        (Self::AllocNodes, "AllocNodes"),
        (Self::ReqTres, "ReqTRES"),
        (Self::ReqCpus, "ReqCPUS"),
        (Self::ReqMem, "ReqMem"),
    ];

    pub(super) const COUNT: usize = Self::ALL.len();

    /// Slurm's name for it.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.get(self as usize).map_or("", |(_, name)| name)
    }

    /// The column of this name; case does not matter.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(column, _)| *column)
    }
}

/// True for a column that any Slurm from 17.11 to 26.05 has (`src/sacct/sacct.c:fields[]`).
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// True for a column whose text users choose freely, newlines and delimiters included, or may choose: also for one that is not known.
///
/// `Account` is not among them: where associations are not enforced it is as free as a name, and a row torn by it is
/// found by its number of fields and by the types of its columns.
pub(super) fn is_user_written(name: &str) -> bool {
    !is_known(name) || USER_WRITTEN.iter().any(|written| written.eq_ignore_ascii_case(name))
}

const USER_WRITTEN: [&str; 17] = [
    "AdminComment",
    "Comment",
    "Constraints",
    "Container",
    "Extra",
    "FailedNode",
    "JobName",
    "Licenses", // `-L a|b` is ordinary use from 25.05 on
    "McsLabel",
    "Reason",
    "StdErr",
    "StdIn",
    "StdOut",
    "SubmitLine",
    "SystemComment",
    "WCKey",
    "WorkDir",
];

/// All known names.
#[rustfmt::skip]
pub(super) const KNOWN: [&str; 128] = [
    "Account", "AdminComment", "AllocCPUS", "AllocGRES", "AllocNodes", "AllocTRES", "AssocID", "AveCPU", "AveCPUFreq",
    "AveDiskRead", "AveDiskWrite", "AvePages", "AveRSS", "AveVMSize", "BlockID", "Cluster", "Comment", "Constraints",
    "ConsumedEnergy", "ConsumedEnergyRaw", "Container", "CPUTime", "CPUTimeRAW", "DBIndex", "DerivedExitCode",
    "Elapsed", "ElapsedRaw", "Eligible", "End", "Exclusive", "ExitCode", "Extra", "FailedNode", "Flags", "GID", "Group",
    "JobID", "JobIDRaw", "JobName", "Layout", "Licenses", "MaxDiskRead", "MaxDiskReadNode", "MaxDiskReadTask",
    "MaxDiskWrite", "MaxDiskWriteNode", "MaxDiskWriteTask", "MaxPages", "MaxPagesNode", "MaxPagesTask", "MaxRSS",
    "MaxRSSNode", "MaxRSSTask", "MaxVMSize", "MaxVMSizeNode", "MaxVMSizeTask", "McsLabel", "MinCPU", "MinCPUNode",
    "MinCPUTask", "NCPUS", "NNodes", "NodeList", "NTasks", "OriginalSLUID", "OverSubscribe", "Partition", "Planned",
    "PlannedCPU", "PlannedCPURAW", "Priority", "QOS", "QOSRAW", "QOSREQ", "Reason", "ReqCPUFreq", "ReqCPUFreqGov",
    "ReqCPUFreqMax", "ReqCPUFreqMin", "ReqCPUS", "ReqGRES", "ReqMem", "ReqNodes", "ReqReservation", "ReqTRES",
    "Reservation", "ReservationId", "Reserved", "Restarts", "ResvCPU", "ResvCPURAW", "SegmentSize", "SLUID", "Start",
    "State", "StdErr", "StdIn", "StdOut", "Submit", "SubmitLine", "Suspended", "SystemComment", "SystemCPU",
    "Timelimit", "TimelimitRaw", "TotalCPU", "TRESUsageInAve", "TRESUsageInMax", "TRESUsageInMaxNode",
    "TRESUsageInMaxTask", "TRESUsageInMin", "TRESUsageInMinNode", "TRESUsageInMinTask", "TRESUsageInTot",
    "TRESUsageOutAve", "TRESUsageOutMax", "TRESUsageOutMaxNode", "TRESUsageOutMaxTask", "TRESUsageOutMin",
    "TRESUsageOutMinNode", "TRESUsageOutMinTask", "TRESUsageOutTot", "UID", "User", "UserCPU", "WCKey", "WCKeyID",
    "WorkDir",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_listed_in_the_order_of_their_numbers() {
        for (index, (column, name)) in Column::ALL.iter().enumerate() {
            assert_eq!((*column as usize, column.name(), Column::of(name)), (index, *name, Some(*column)));
        }
    }

    #[test]
    fn what_is_read_or_user_written_is_known() {
        for name in Column::ALL.iter().map(|(_, name)| name).chain(&USER_WRITTEN) {
            assert!(is_known(name), "{name}");
        }
    }

    #[test]
    fn names_are_compared_without_case() {
        assert_eq!(Column::of("jobidraw"), Some(Column::JobIdRaw));
        assert!(is_known("RESERVED") && is_known("planned") && is_known("AllocGRES"));
    }

    #[test]
    fn an_unknown_column_may_be_user_written() {
        assert!(is_user_written("NewColumn") && is_user_written("jobname") && !is_user_written("Account"));
    }
}

//! The keys of a message in the order in which the servers write them.

#[cfg(test)]
use nom::{
    IResult, Parser, bytes::complete::take_while1, character::complete::char, combinator::map_opt,
    sequence::terminated,
};

/// The known keys. Their order is that of `E` records: OpenPBS and PBS Pro (`acct_job`, `account_jobend` in accounting.c) and TORQUE
/// agree in what they share, so one order holds for all. What is declared later is written later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Gridname,
    User,
    Group,
    Account,
    Project,
    AccountingId,
    Jobname,
    Queue,
    ResvName,
    ResvId,
    ResvJobId,
    Ctime,
    Qtime,
    Etime,
    /// TORQUE 6.
    StartCount,
    Start,
    /// TORQUE.
    Owner,
    Depend,
    ArrayIndices,
    ExecHost,
    ExecVnode,
    /// TORQUE on Cray.
    LoginNode,
    /// `Resource_List.NAME`.
    Requested,
    /// TORQUE: `Resource_Request_2.0`, what `-L` asked for.
    Request2,
    /// TORQUE: `x`, the job's `-x` or `-W x=`.
    Extension,
    /// `resource_assigned.NAME`, in `S` only.
    Assigned,
    Session,
    AltId,
    /// TORQUE: `total_execution_slots`.
    Slots,
    /// TORQUE: `unique_node_count`.
    UniqueNodes,
    End,
    ExitStatus,
    /// `resources_used.NAME`.
    Used,
    EligibleTime,
    RunCount,
    /// No server writes these behind the end of a record; sites' own scripts do.
    AppendedAccount,
    /// `session_id`, likewise.
    AppendedSession,
}

/// Where a record has what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `E`, `R`, and all that has none: before `eligible_time` and `run_count`.
    Run,
    /// `u` and `e`: at the end, without an end and a status (`concat_rescused_to_buffer` in req_jobobit.c).
    Part,
}

impl Key {
    /// How many keys there are.
    pub(super) const COUNT: usize = Self::AppendedSession as usize + 1;

    /// As the servers write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gridname => "gridname",
            Self::User => "user",
            Self::Group => "group",
            Self::Account | Self::AppendedAccount => "account",
            Self::Project => "project",
            Self::AccountingId => "accounting_id",
            Self::Jobname => "jobname",
            Self::Queue => "queue",
            Self::ResvName => "resvname",
            Self::ResvId => "resvID",
            Self::ResvJobId => "resvjobID",
            Self::Ctime => "ctime",
            Self::Qtime => "qtime",
            Self::Etime => "etime",
            Self::StartCount => "start_count",
            Self::Start => "start",
            Self::Owner => "owner",
            Self::Depend => "depend",
            Self::ArrayIndices => "array_indices",
            Self::ExecHost => "exec_host",
            Self::ExecVnode => "exec_vnode",
            Self::LoginNode => "login_node",
            Self::Requested => "Resource_List",
            Self::Request2 => "Resource_Request_2.0",
            Self::Extension => "x",
            Self::Assigned => "resource_assigned",
            Self::Session => "session",
            Self::AltId => "alt_id",
            Self::Slots => "total_execution_slots",
            Self::UniqueNodes => "unique_node_count",
            Self::End => "end",
            Self::ExitStatus => "Exit_status",
            Self::Used => "resources_used",
            Self::EligibleTime => "eligible_time",
            Self::RunCount => "run_count",
            Self::AppendedSession => "session_id",
        }
    }

    fn of(name: &[u8]) -> Option<(Self, &[u8])> {
        let key = match name {
            b"gridname" => Self::Gridname,
            b"user" => Self::User,
            b"group" => Self::Group,
            b"account" => Self::Account,
            b"project" => Self::Project,
            b"accounting_id" => Self::AccountingId,
            b"jobname" => Self::Jobname,
            b"queue" => Self::Queue,
            b"resvname" => Self::ResvName,
            b"resvID" => Self::ResvId,
            b"resvjobID" => Self::ResvJobId,
            b"ctime" => Self::Ctime,
            b"qtime" => Self::Qtime,
            b"etime" => Self::Etime,
            b"start_count" => Self::StartCount,
            b"start" => Self::Start,
            b"owner" => Self::Owner,
            b"depend" => Self::Depend,
            b"array_indices" => Self::ArrayIndices,
            b"exec_host" => Self::ExecHost,
            b"exec_vnode" => Self::ExecVnode,
            b"login_node" => Self::LoginNode,
            b"Resource_Request_2.0" => Self::Request2,
            b"x" => Self::Extension,
            b"session" => Self::Session,
            b"alt_id" => Self::AltId,
            b"total_execution_slots" => Self::Slots,
            b"unique_node_count" => Self::UniqueNodes,
            b"end" => Self::End,
            b"Exit_status" => Self::ExitStatus,
            b"eligible_time" => Self::EligibleTime,
            b"run_count" => Self::RunCount,
            b"session_id" => Self::AppendedSession,
            _ => return Self::with_resource(name),
        };
        Some((key, &[]))
    }

    fn with_resource(name: &[u8]) -> Option<(Self, &[u8])> {
        [
            (Self::Requested, &b"Resource_List."[..]),
            (Self::Used, b"resources_used."),
            (Self::Assigned, b"resource_assigned."),
        ]
        .into_iter()
        .find_map(|(key, prefix)| {
            Some((key, name.strip_prefix(prefix).filter(|resource| !resource.is_empty())?))
        })
    }

    /// True for keys that stand once for every resource.
    fn repeats(self) -> bool {
        matches!(self, Self::Requested | Self::Assigned | Self::Used)
    }

    /// Its place in the order.
    fn rank(self, order: Order) -> u8 {
        match (self, order) {
            (Self::Used, Order::Part) => (Self::RunCount as u8).saturating_mul(2).saturating_add(1),
            (key, _) => (key as u8).saturating_mul(2),
        }
    }

    /// The first key behind this one that every record has: nothing beyond it can follow this one directly. Without it,
    /// `-A 'z end=1'` of TORQUE, which quotes nothing, would end the account at ` end=`.
    fn next_certain(self, order: Order) -> Self {
        match self {
            Self::Gridname => Self::User,
            Self::User => Self::Group,
            Self::Group | Self::Account | Self::Project | Self::AccountingId => Self::Jobname,
            Self::Jobname => Self::Queue,
            key if order == Order::Part && key < Self::Session => Self::Session,
            key if order == Order::Part && key < Self::RunCount && key != Self::Used => Self::RunCount,
            key if order == Order::Run && key < Self::End => Self::End,
            _ => Self::AppendedSession,
        }
    }

    /// True where `next` may follow this key's value directly.
    pub(super) fn admits(self, next: Self, order: Order) -> bool {
        (next.rank(order) > self.rank(order) || (next == self && self.repeats()))
            && next.rank(order) <= self.next_certain(order).rank(order)
    }

    /// True for `next` where this key's value is followed by nothing of the kind: it was written before. If it shows up
    /// again, a user's text imitates the record, and there are two ways to cut it.
    ///
    /// Keys that are words of every day (`user`, `owner`, `x`) are left out: other keys always stand between them and what counts.
    pub(super) fn excludes(self, next: Self, order: Order) -> bool {
        match next {
            Self::Project
            | Self::Jobname
            | Self::Queue
            | Self::Ctime
            | Self::Start
            | Self::ExecHost
            | Self::ExecVnode
            | Self::Session
            | Self::Slots
            | Self::UniqueNodes
            | Self::End
            | Self::ExitStatus
            | Self::RunCount => next.rank(order) <= self.rank(order),
            Self::Requested | Self::Used => next.rank(order) < self.rank(order),
            _ => false,
        }
    }

    /// True where the server puts quotes around this key's value, always or where it has a space.
    pub(super) fn quoted_with(self, quote: u8) -> bool {
        match self {
            Self::Gridname | Self::Account | Self::Project | Self::AccountingId | Self::AppendedAccount => {
                quote == b'"'
            }
            Self::Requested | Self::Assigned => matches!(quote, b'"' | b'\''),
            _ => false,
        }
    }
}

/// What follows a key, the key, and the name of its resource (else empty).
type Found<'a> = (&'a [u8], (Key, &'a [u8]));

/// `KEY=` or `Resource_List.NAME=`: what follows it, the key, and the name of its resource (else empty).
///
/// This is tried at every space of a message. It says what [`grammar`] says.
#[inline]
pub(super) fn key(input: &[u8]) -> Option<Found<'_>> {
    let end = input.iter().position(|byte| !KEY_BYTES[usize::from(*byte)])?;
    let (name, [b'=', rest @ ..]) = input.split_at_checked(end)? else { return None };
    // Half of all keys are one of these.
    let found =
        if name.len() > 14 { Key::with_resource(name).or_else(|| Key::of(name)) } else { Key::of(name) };
    Some((rest, found?))
}

/// The grammar of [`key`].
#[cfg(test)]
fn grammar(input: &[u8]) -> IResult<&[u8], (Key, &[u8])> {
    map_opt(terminated(take_while1(is_key_byte), char('=')), Key::of).parse(input)
}

const fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// [`is_key_byte`] as a table.
static KEY_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = is_key_byte(byte);
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_up_to_its_equals_sign() {
        assert_eq!(key(b"user=x y"), Some((&b"x y"[..], (Key::User, &b""[..]))));
        assert_eq!(key(b"Resource_List.foo_str=a=b"), Some((&b"a=b"[..], (Key::Requested, &b"foo_str"[..]))));
        assert_eq!(key(b"resources_used.walltime=1"), Some((&b"1"[..], (Key::Used, &b"walltime"[..]))));
        assert_eq!(key(b"Resource_Request_2.0=-L t"), Some((&b"-L t"[..], (Key::Request2, &b""[..]))));
        for other in
            ["unheard=1", "user", "user =1", "=1", "", "Resource_List.=1", "Resource_List=1", "users=1"]
        {
            assert!(key(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn the_shortcut_agrees_with_the_grammar_at_every_byte_of_the_real_logs() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pbs");
        for path in ["openpbs/20261123", "openpbs/20261101", "torque/20261123"] {
            let log = std::fs::read(root.join(path)).unwrap();
            for line in log.split(|byte| *byte == b'\n') {
                for at in 0..line.len() {
                    assert_eq!(key(&line[at..]), grammar(&line[at..]).ok(), "{}", line[at..].escape_ascii());
                }
            }
        }
    }

    #[test]
    fn every_name_is_that_of_its_key() {
        for text in [
            "gridname",
            "user",
            "group",
            "account",
            "project",
            "accounting_id",
            "jobname",
            "queue",
            "resvname",
            "resvID",
            "resvjobID",
            "ctime",
            "qtime",
            "etime",
            "start_count",
            "start",
            "owner",
            "depend",
            "array_indices",
            "exec_host",
            "exec_vnode",
            "login_node",
            "Resource_Request_2.0",
            "x",
            "session",
            "alt_id",
            "total_execution_slots",
            "unique_node_count",
            "end",
            "Exit_status",
            "eligible_time",
            "run_count",
            "session_id",
        ] {
            assert_eq!(Key::of(text.as_bytes()).map(|(key, _)| key.name()), Some(text));
        }
    }

    #[test]
    fn what_was_written_before_is_not_written_again() {
        assert!(Key::Queue.excludes(Key::Queue, Order::Run) && Key::End.excludes(Key::Ctime, Order::Run));
        assert!(
            Key::EligibleTime.excludes(Key::Used, Order::Run) && !Key::Used.excludes(Key::Used, Order::Run)
        );
        assert!(
            Key::Extension.excludes(Key::Requested, Order::Run)
                && !Key::Requested.excludes(Key::Requested, Order::Run)
        );
        assert!(!Key::Account.excludes(Key::User, Order::Run), "an account may hold ` user=root`");
        assert!(!Key::Account.excludes(Key::End, Order::Run), "nor does it matter what is still to come");
    }

    #[test]
    fn what_a_part_of_a_run_used_stands_at_its_end() {
        let order = Order::Part;
        assert!(Key::RunCount.admits(Key::Used, order) && Key::Used.admits(Key::Used, order));
        assert!(
            Key::Session.admits(Key::EligibleTime, order) && Key::EligibleTime.admits(Key::RunCount, order)
        );
        assert!(!Key::Session.admits(Key::Used, order), "run_count comes before");
        assert!(!Key::ExecVnode.admits(Key::RunCount, order), "session comes before");
        assert!(!Key::RunCount.excludes(Key::Used, order) && Key::Used.excludes(Key::RunCount, order));
    }

    #[test]
    fn keys_follow_in_the_order_of_the_servers_and_never_past_a_certain_one() {
        assert!(Key::User.admits(Key::Group, Order::Run));
        assert!(Key::Group.admits(Key::Account, Order::Run) && Key::Group.admits(Key::Jobname, Order::Run));
        assert!(
            Key::Requested.admits(Key::Requested, Order::Run)
                && Key::Requested.admits(Key::Session, Order::Run)
        );
        assert!(
            Key::ExitStatus.admits(Key::RunCount, Order::Run)
                && Key::RunCount.admits(Key::AppendedAccount, Order::Run)
        );
        assert!(!Key::Group.admits(Key::User, Order::Run), "already passed");
        assert!(!Key::Account.admits(Key::End, Order::Run), "jobname and queue come before");
        assert!(!Key::Requested.admits(Key::Used, Order::Run), "end comes before");
        assert!(!Key::Queue.admits(Key::Queue, Order::Run), "once only");
    }
}

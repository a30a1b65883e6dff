//! Records of jobs: an `E` or `R` as a [`Run`], and what those of a run under way say of it.

use super::counts::{Allocation, Request, assigned};
use super::key::{Key, Order};
use super::message::{GpuNames, Message, Tokens, unquote};
use super::record::Record;
use super::value::{A_NUMBER, SECONDS, date_of, duration, epoch, refused, whole};
use crate::run::{Assigned, Finding, Kind, Place, Reason, Run, Scheduler, State};
use bstr::{BStr, ByteSlice};
use memchr::memmem;
use nom::character::complete::{i32 as int, u32 as count};
use std::sync::LazyLock;
use xxhash_rust::xxh3::Xxh3;

/// Zones lie within 14 hours of UTC; the server's clock of this pass may lag by seconds, an admin's step by minutes.
const FARTHEST_ZONE: i64 = 14 * 3600 + 300;

/// An `E` or `R`, and what of it only the fold needs.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) run: Run<'a>,
    /// The leading date: seconds on the server's wall clock.
    pub(super) date: i64,
    /// `resources_used.walltime`.
    pub(super) walltime: Option<u64>,
    /// Digest of `exec_host` and `exec_vnode`.
    pub(super) placed: u64,
    /// Written by a server that may know how to release nodes.
    pub(super) may_release: bool,
}

/// Reads the message of `record`.
///
/// # Errors
/// Why it is no whole and certain record of a job.
pub(super) fn run<'a>(
    record: &Record<'a>,
    kind: Kind,
    server: Option<&'a [u8]>,
    text: &'a [u8],
    place: Place,
    gpus: &GpuNames,
) -> Result<Ended<'a>, Reason> {
    let message = Message::read(record.message, gpus)?;
    let date = date_of(record.date).ok_or_else(|| refused("date", record.date, "MM/DD/YYYY HH:MM:SS"))?;
    let user = word(&message, Key::User)?;
    let queue = word(&message, Key::Queue)?;
    let start = whole(Key::Start.name(), message.required(Key::Start)?, epoch, SECONDS)?;
    let end = whole(Key::End.name(), message.required(Key::End)?, epoch, SECONDS)?;
    let submit = message.optional(Key::Ctime, epoch, SECONDS)?;
    let eligible = message.optional(Key::Etime, epoch, SECONDS)?.filter(|&time| time > 0);
    let status = message.optional(Key::ExitStatus, int, A_NUMBER)?;
    if record.letter == b'E' && status.is_none() {
        return Err(Reason::Missing { field: Key::ExitStatus.name() });
    }
    let start = Some(start).filter(|&time| time > 0);
    let span = start.and_then(|start| end.checked_sub(start));
    let walltime = message.used_walltime()?;
    let run_count = match message.get(Key::RunCount) {
        Some(text) => Some(whole(Key::RunCount.name(), text, count, A_NUMBER)?),
        None => message.optional(Key::StartCount, count, A_NUMBER)?,
    };
    let requested = Request::read(&message)?;
    let allocation = match kind {
        // An array as a whole says what one subjob asked for, and has been given nothing itself.
        Kind::Parent => Allocation::default(),
        _ => Allocation::read(&message, &requested, gpus)?,
    };
    let finding = if date_disagrees(date, end) {
        Some(Finding::DateDisagrees)
    } else if span.is_some_and(|span| span < 0) {
        Some(Finding::EndBeforeStart)
    } else {
        None
    };
    let reservation = message.get(Key::ResvId).or_else(|| message.get(Key::ResvName));
    let run = Run {
        scheduler: Scheduler::Pbs,
        kind,
        job_id: record.id.as_bstr(),
        raw_id: record.id.as_bstr(),
        cluster: server.map(BStr::new),
        user: given(Some(user)),
        account: given(account(&message)),
        group: given(message.get(Key::Group)),
        project: given(project(&message)?),
        partition: given(Some(queue)),
        qos: None,
        reservation: given(reservation),
        name: given(message.get(Key::Jobname)),
        state: state(record.letter, status, is_torque(&message)),
        state_text: if record.letter == b'R' { "R".into() } else { "E".into() },
        submit,
        eligible,
        start,
        end: Some(end),
        elapsed: walltime.or_else(|| span.and_then(|span| u64::try_from(span).ok())),
        suspended: None,
        nodes: allocation.nodes,
        cores: allocation.cores,
        gpus: allocation.gpus,
        mem_bytes: allocation.mem_bytes,
        billing: None,
        tres: None,
        node_list: given(message.get(Key::ExecHost)),
        allocated: start.is_some(),
        requested: requested.as_requested(),
        assigned: Assigned::default(),
        phases: Vec::new(),
        resources: message.resources().as_bstr(),
        exit_code: status.filter(|&status| status <= 256),
        signal: status.filter(|&status| status > 256).and_then(|status| status.checked_sub(256)),
        run_count,
        finding,
        text: text.as_bstr(),
        place,
    };
    Ok(Ended {
        run,
        date,
        walltime,
        placed: placed(message.get(Key::ExecHost), message.get(Key::ExecVnode)),
        may_release: message.get(Key::ExecVnode).is_some() && message.get(Key::RunCount).is_some(),
    })
}

/// Digest of where a run is placed.
fn placed(hosts: Option<&[u8]>, vnodes: Option<&[u8]>) -> u64 {
    let mut digest = Xxh3::new();
    digest.update(hosts.unwrap_or_default());
    digest.update(b" ");
    digest.update(vnodes.unwrap_or_default());
    digest.digest()
}

/// What an `S` or `s` says: a run began, or lost nodes before it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Started {
    pub(super) start: i64,
    pub(super) submit: Option<i64>,
    /// TORQUE's `start_count`.
    pub(super) number: Option<u32>,
    /// Digest of `exec_host` and `exec_vnode`.
    pub(super) placed: u64,
    /// The walltime that it may use, seconds.
    pub(super) limit: Option<u64>,
    /// Read only where it is asked for.
    pub(super) assigned: Assigned,
}

/// Reads the message of an `S` or `s`, no more of it than is needed.
pub(super) fn started(message: &[u8], gpus: &GpuNames, with_assigned: bool) -> Result<Started, Reason> {
    let mut found = [None; 5];
    let [start, submit, number, hosts, vnodes] = &mut found;
    for token in Tokens::new(message) {
        let token = token?;
        match token.key {
            Key::Start => *start = Some(token.value),
            Key::Ctime => *submit = Some(token.value),
            Key::StartCount => *number = Some(token.value),
            Key::ExecHost => *hosts = Some(token.value),
            Key::ExecVnode => *vnodes = Some(token.value),
            // Behind the hosts nothing stands that has to be certain.
            key if key >= Key::Requested => break,
            _ => {}
        }
    }
    let [start, submit, number, hosts, vnodes] = found;
    let start = start.ok_or(Reason::Missing { field: Key::Start.name() })?;
    Ok(Started {
        start: whole(Key::Start.name(), start, epoch, SECONDS)?,
        submit: submit.map(|text| whole(Key::Ctime.name(), text, epoch, SECONDS)).transpose()?,
        number: number.map(|text| whole(Key::StartCount.name(), text, count, A_NUMBER)).transpose()?,
        placed: placed(hosts, vnodes),
        limit: limit(message),
        assigned: if with_assigned { part(message, Order::Run, gpus)?.assigned } else { Assigned::default() },
    })
}

/// `Resource_List.walltime`, searched for: all that hangs on it is when a run that never ended is called lost.
fn limit(message: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b" Resource_List.walltime=";
    static FINDER: LazyLock<memmem::FinderRev<'static>> = LazyLock::new(|| memmem::FinderRev::new(KEY));
    let value = message.get(FINDER.rfind(message)?.checked_add(KEY.len())?..)?;
    duration(value).ok().map(|(_, seconds)| seconds)
}

/// What a `u`, `c` or `e` says of a part of a run: `u` and `e` of the one that ended, `c` of the one that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: i64,
    pub(super) submit: Option<i64>,
    /// `resources_used.walltime`, in `u` and `e`.
    pub(super) walltime: Option<u64>,
    pub(super) placed: u64,
    pub(super) allocation: Allocation,
    pub(super) assigned: Assigned,
}

/// Reads the message of a `c` ([`Order::Run`]), `u` or `e` ([`Order::Part`]).
pub(super) fn part(message: &[u8], order: Order, gpus: &GpuNames) -> Result<Part, Reason> {
    let message = Message::in_order(message, order, gpus)?;
    let allocation = Allocation::read(&message, &Request::read(&message)?, gpus)?;
    Ok(Part {
        start: whole(Key::Start.name(), message.required(Key::Start)?, epoch, SECONDS)?,
        submit: message.optional(Key::Ctime, epoch, SECONDS)?,
        walltime: message.used_walltime()?,
        placed: placed(message.get(Key::ExecHost), message.get(Key::ExecVnode)),
        allocation,
        assigned: assigned(&message, &allocation)?,
    })
}

fn given(text: Option<&[u8]>) -> Option<&BStr> {
    text.filter(|text| !text.is_empty()).map(BStr::new)
}

/// A value that never has a space: otherwise a key that is not known stands in it.
fn word<'a>(message: &Message<'a>, key: Key) -> Result<&'a [u8], Reason> {
    let value = message.required(key)?;
    if value.contains(&b' ') { Err(refused(key.name(), value, "one word")) } else { Ok(value) }
}

/// The project without its quotes, which it has only if it has a space. The server lets no quote into a project's name.
fn project<'a>(message: &Message<'a>) -> Result<Option<&'a [u8]>, Reason> {
    let Some(value) = message.get(Key::Project) else { return Ok(None) };
    // TORQUE knows no projects: a user's account that begins with a quote would pass for one and a project.
    if [Key::StartCount, Key::Owner, Key::Slots].into_iter().any(|key| message.get(key).is_some()) {
        return Err(refused(Key::Project.name(), value, "no project in a record of TORQUE"));
    }
    let name = unquote(Key::Project, value);
    if name.contains(&b'"') {
        return Err(refused(Key::Project.name(), value, "a project without quotes in its name"));
    }
    Ok(Some(name))
}

/// The account without its quotes; one behind the end of the record, where a site's script put it, is one word or in quotes.
fn account<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    if let Some(value) = message.get(Key::Account) {
        return Some(unquote(Key::Account, value));
    }
    let value = message.get(Key::AppendedAccount)?;
    let name = unquote(Key::AppendedAccount, value);
    (!value.contains(&b' ') || name.len() < value.len()).then_some(name)
}

/// Only TORQUE writes these. Old releases write none of them, but no `exec_vnode` either.
fn is_torque(message: &Message<'_>) -> bool {
    message.get(Key::ExecVnode).is_none()
}

/// The nearest of Slurm's words. The codes below 0 are the server's own (PBS Pro `job.h`, TORQUE `pbs_job.h`), and -11 means two
/// things: the walltime limit in TORQUE, a rerun in PBS Pro, whose walltime limit is -29.
fn state(letter: u8, status: Option<i32>, torque: bool) -> State {
    match (letter, status) {
        (b'R', _) => State::Requeued,
        (_, Some(0)) => State::Completed,
        (_, Some(-29)) if !torque => State::Timeout,
        (_, Some(-11)) if torque => State::Timeout,
        _ => State::Failed,
    }
}

/// True if no zone explains the difference between the local time at the head of the record and its end: both are "now" to the server.
fn date_disagrees(written: i64, end: i64) -> bool {
    end.checked_sub(written).is_none_or(|ahead| !(-FARTHEST_ZONE..=FARTHEST_ZONE).contains(&ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> GpuNames {
        GpuNames(vec![(*b"ngpus").into()])
    }

    fn message(text: &str) -> Message<'_> {
        Message::read(text.as_bytes(), &gpus()).unwrap()
    }

    #[test]
    fn states_are_the_nearest_of_slurms() {
        assert_eq!(state(b'E', Some(0), false), State::Completed);
        assert_eq!(state(b'E', Some(1), false), State::Failed);
        assert_eq!(state(b'E', Some(271), true), State::Failed);
        assert_eq!(state(b'E', Some(-29), false), State::Timeout);
        assert_eq!(state(b'E', Some(-29), true), State::Failed);
        assert_eq!(state(b'E', Some(-11), true), State::Timeout);
        assert_eq!(state(b'E', Some(-11), false), State::Failed);
        assert_eq!(state(b'R', Some(0), false), State::Requeued);
        assert_eq!(state(b'R', None, true), State::Requeued);
    }

    #[test]
    fn a_date_may_be_14_hours_from_its_end_and_5_minutes() {
        let limit = 14 * 3600 + 300;
        assert!(!date_disagrees(0, limit) && !date_disagrees(limit, 0));
        assert!(date_disagrees(0, limit + 1) && date_disagrees(limit + 1, 0));
        assert!(date_disagrees(i64::MIN, i64::MAX), "no overflow");
    }

    #[test]
    fn projects_are_unquoted_and_hold_no_quotes() {
        let of = |text: &str| {
            let text = format!("user=u group=g project={text} jobname=j queue=q");
            project(&message(&text)).map(|project| project.map(<[u8]>::to_vec))
        };
        assert_eq!(of("climate.2026"), Ok(Some(b"climate.2026".to_vec())));
        assert_eq!(of("\"proj with space\""), Ok(Some(b"proj with space".to_vec())));
        assert_eq!(of("it's"), Ok(Some(b"it's".to_vec())));
        assert_eq!(of("victim\"").unwrap_err().code(), "value");
        let torque = "user=u group=g account=\"a\" project=b jobname=j queue=q start=1 owner=u@h";
        assert_eq!(project(&message(torque)).unwrap_err().code(), "value");
    }

    const S: &str = "user=a group=g account=\"x start=9 exec_host=z/0\" jobname=j queue=q ctime=1 qtime=2 etime=3 start=4 \
                     exec_host=n1/0*2 exec_vnode=(n1:ncpus=2) Resource_List.ncpus=2 Resource_List.walltime=01:00:30 \
                     resource_assigned.ncpus=8";

    #[test]
    fn a_start_is_read_as_far_as_it_is_needed() {
        let read = started(S.as_bytes(), &gpus(), true).unwrap();
        assert_eq!((read.start, read.submit, read.number, read.limit), (4, Some(1), None, Some(3630)));
        assert_eq!(read.placed, placed(Some(b"n1/0*2"), Some(b"(n1:ncpus=2)")));
        assert_eq!(read.assigned.cores, Some(8));
        assert_eq!(started(S.as_bytes(), &gpus(), false).unwrap().assigned, Assigned::default());
        let torque = S.replace(" start=4", " start_count=2 start=4");
        assert_eq!(started(torque.as_bytes(), &gpus(), false).unwrap().number, Some(2));
        for broken in ["", "user=a group=g account=\"x", "user=a group=g jobname=j queue=q ctime=1"] {
            assert!(started(broken.as_bytes(), &gpus(), false).is_err(), "{broken}");
        }
        assert!(started(S.replace(" start=4", " start=soon").as_bytes(), &gpus(), false).is_err());
    }

    #[test]
    fn where_a_run_is_placed_is_known_by_hosts_and_vnodes() {
        let both = placed(Some(b"a"), Some(b"b"));
        assert_eq!(both, placed(Some(b"a"), Some(b"b")));
        assert!(
            both != placed(Some(b"ab"), None)
                && both != placed(None, Some(b"ab"))
                && both != placed(Some(b"b"), Some(b"a"))
        );
    }

    #[test]
    fn a_part_of_a_run_has_its_own_allocation() {
        let read = part(S.as_bytes(), Order::Run, &gpus()).unwrap();
        assert_eq!((read.start, read.allocation.cores, read.allocation.nodes), (4, Some(2), Some(1)));
        assert_eq!(read.assigned.cores, Some(8));
        assert_eq!(read.walltime, None);
        let ended = S.replace(
            "resource_assigned.ncpus=8",
            "session=7 eligible_time=00:00:01 run_count=1  resources_used.cput=00:00:00 resources_used.walltime=00:00:42",
        );
        assert_eq!(part(ended.as_bytes(), Order::Part, &gpus()).unwrap().walltime, Some(42));
        assert!(part(b"user=a group=g jobname=j queue=q", Order::Part, &gpus()).is_err());
    }
}

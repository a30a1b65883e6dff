//! An `E` or `R` record as a [`Run`].

use super::allocation::{NodesRequest, exec_host, exec_vnode, nodes_request};
use super::key::Key;
use super::message::{Message, Resource, unquote};
use super::record::Record;
use super::value::{date, duration, epoch, refused, size, whole};
use crate::run::{Assigned, Finding, Kind, Place, Reason, Requested, Run, Scheduler, State};
use bstr::{BStr, ByteSlice};
use nom::character::complete::{i32 as int, u32 as count, u64 as uint};

const A_NUMBER: &str = "a number";
const SECONDS: &str = "seconds since 1970";

/// Zones lie within 14 hours of UTC; the server's clock of this pass may lag by seconds, an admin's step by minutes.
const FARTHEST_ZONE: i64 = 14 * 3600 + 300;

/// Reads the message of `record`.
///
/// # Errors
/// Why it is no whole and certain record of a job.
pub(super) fn run<'a>(
    record: &Record<'a>,
    kind: Kind,
    server: Option<&'a [u8]>,
    released: bool,
    text: &'a [u8],
    place: Place,
) -> Result<Run<'a>, Reason> {
    let message = Message::read(record.message)?;
    let written = whole("date", record.date, date, "MM/DD/YYYY HH:MM:SS")?;
    let user = word(&message, Key::User)?;
    let queue = word(&message, Key::Queue)?;
    let start = whole(Key::Start.name(), required(&message, Key::Start)?, epoch, SECONDS)?;
    let end = whole(Key::End.name(), required(&message, Key::End)?, epoch, SECONDS)?;
    let submit = optional(&message, Key::Ctime, epoch, SECONDS)?;
    let eligible = optional(&message, Key::Etime, epoch, SECONDS)?.filter(|&time| time > 0);
    let status = optional(&message, Key::ExitStatus, int, A_NUMBER)?;
    if record.letter == b'E' && status.is_none() {
        return Err(Reason::Missing { field: Key::ExitStatus.name() });
    }
    let start = Some(start).filter(|&time| time > 0);
    let span = start.and_then(|start| end.checked_sub(start));
    let walltime = message
        .walltime()
        .map(|text| whole("resources_used.walltime", text, duration, "hours:minutes:seconds"))
        .transpose()?;
    let run_count = match message.get(Key::RunCount) {
        Some(text) => Some(whole(Key::RunCount.name(), text, count, A_NUMBER)?),
        None => optional(&message, Key::StartCount, count, A_NUMBER)?,
    };
    let requested = Request::read(&message)?;
    let allocation = match kind {
        // An array as a whole says what one subjob asked for, and has been given nothing itself.
        Kind::Parent => Allocation::default(),
        _ => Allocation::read(&message, &requested)?,
    };
    let finding = if date_disagrees(written, end) {
        Some(Finding::DateDisagrees)
    } else if released {
        Some(Finding::NodeRelease)
    } else if span.is_some_and(|span| span < 0) {
        Some(Finding::EndBeforeStart)
    } else {
        None
    };
    let reservation = message.get(Key::ResvId).or_else(|| message.get(Key::ResvName));
    Ok(Run {
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
    })
}

fn given(text: Option<&[u8]>) -> Option<&BStr> {
    text.filter(|text| !text.is_empty()).map(BStr::new)
}

fn required<'a>(message: &Message<'a>, key: Key) -> Result<&'a [u8], Reason> {
    message.get(key).ok_or(Reason::Missing { field: key.name() })
}

/// A value that never has a space: otherwise a key that is not known stands in it.
fn word<'a>(message: &Message<'a>, key: Key) -> Result<&'a [u8], Reason> {
    let value = required(message, key)?;
    if value.contains(&b' ') { Err(refused(key.name(), value, "one word")) } else { Ok(value) }
}

fn optional<'a, T>(
    message: &Message<'a>,
    key: Key,
    grammar: fn(&'a [u8]) -> nom::IResult<&'a [u8], T>,
    expected: &'static str,
) -> Result<Option<T>, Reason> {
    message.get(key).map(|text| whole(key.name(), text, grammar, expected)).transpose()
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

/// What was asked for, in all forms.
#[derive(Debug, Clone, Copy, Default)]
struct Request {
    ncpus: Option<u64>,
    nodect: Option<u64>,
    ngpus: Option<u64>,
    mem: Option<u64>,
    nodes: Option<NodesRequest>,
    cray: Option<Cray>,
}

/// Cray: the job proper runs where `exec_vnode` does not tell.
#[derive(Debug, Clone, Copy)]
struct Cray {
    cores: u64,
    nodes: Option<u64>,
}

impl Request {
    fn read(message: &Message<'_>) -> Result<Self, Reason> {
        let number = |resource: Resource| {
            message.requested(resource).map(|text| whole(resource.name(), text, uint, A_NUMBER)).transpose()
        };
        let nodes = [Resource::Nodes, Resource::Neednodes]
            .into_iter()
            .find_map(|resource| Some((resource, message.requested(resource)?)))
            .map(|(resource, text)| {
                whole(resource.name(), text, nodes_request, "a request like 2:ppn=4:gpus=1")
            })
            .transpose()?;
        let mem = message
            .requested(Resource::Mem)
            .map(|text| whole(Resource::Mem.name(), text, size, "a size like 10gb"))
            .transpose()?;
        let cray = match number(Resource::Mppwidth)? {
            None => None,
            Some(width) => {
                let depth = number(Resource::Mppdepth)?.unwrap_or(1).max(1);
                let on_a_node = number(Resource::Mppnppn)?.filter(|&count| count > 0);
                let cores = width.checked_mul(depth).ok_or_else(|| {
                    refused(
                        Resource::Mppwidth.name(),
                        message.requested(Resource::Mppwidth).unwrap_or_default(),
                        "a number of cores",
                    )
                })?;
                Some(Cray { cores, nodes: on_a_node.map(|count| width.div_ceil(count)) })
            }
        };
        Ok(Self {
            ncpus: number(Resource::Ncpus)?,
            nodect: number(Resource::Nodect)?,
            ngpus: number(Resource::Ngpus)?,
            mem,
            nodes,
            cray,
        })
    }

    fn as_requested(&self) -> Requested {
        let gpus = self.nodes.map(|nodes| nodes.gpus).filter(|&gpus| gpus > 0);
        Requested {
            cores: self.cray.map(|cray| cray.cores).or(self.ncpus).or(self.nodes.map(|nodes| nodes.cores)),
            nodes: match self.cray {
                Some(cray) => cray.nodes,
                None => self.nodect.or(self.nodes.map(|nodes| nodes.nodes)),
            },
            gpus: self.ngpus.or(gpus),
            mem_bytes: self.mem,
        }
    }
}

/// What was given.
#[derive(Debug, Clone, Copy, Default)]
struct Allocation {
    cores: Option<u64>,
    nodes: Option<u64>,
    gpus: Option<u64>,
    mem_bytes: Option<u64>,
}

impl Allocation {
    fn read(message: &Message<'_>, request: &Request) -> Result<Self, Reason> {
        let hosts = optional(message, Key::ExecHost, exec_host, "hosts like n01/0*4+n02/0")?;
        let vnodes =
            optional(message, Key::ExecVnode, exec_vnode, "vnodes like (n01:ncpus=4)+(n02:ncpus=4)")?;
        let slots = optional(message, Key::Slots, uint, A_NUMBER)?;
        let listed_slots = hosts.as_ref().map(|hosts| hosts.slots);
        let listed_hosts = hosts.map(super::allocation::Hosts::hosts);
        if let Some(cray) = request.cray {
            // exec_host and exec_vnode are the login node that starts the job.
            return Ok(Self {
                cores: Some(cray.cores),
                nodes: cray.nodes,
                gpus: vnodes.map(|vnodes| vnodes.ngpus),
                mem_bytes: request.mem,
            });
        }
        Ok(match vnodes {
            Some(vnodes) => Self {
                cores: vnodes.ncpus.or(request.ncpus),
                gpus: Some(vnodes.ngpus),
                mem_bytes: vnodes.mem.or(request.mem),
                nodes: listed_hosts.or_else(|| Some(vnodes.hosts())),
            },
            None => Self {
                cores: slots.or(listed_slots).or(request.ncpus),
                gpus: request.nodes.map(|nodes| nodes.gpus).or(request.ngpus),
                mem_bytes: request.mem,
                nodes: listed_hosts.or(request.nodect),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message<'_> {
        Message::read(text.as_bytes()).unwrap()
    }

    fn request(text: &str) -> Result<Requested, Reason> {
        Request::read(&message(&format!("queue=q start=1 {text} end=2")))
            .map(|request| request.as_requested())
    }

    /// Cores, nodes, GPUs, memory.
    fn allocation(text: &str) -> (Option<u64>, Option<u64>, Option<u64>, Option<u64>) {
        let text = format!("queue=q start=1 {text} end=2");
        let message = message(&text);
        let Allocation { cores, nodes, gpus, mem_bytes } =
            Allocation::read(&message, &Request::read(&message).unwrap()).unwrap();
        (cores, nodes, gpus, mem_bytes)
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
    fn what_was_asked_for_is_in_resource_list() {
        let asked =
            "Resource_List.mem=9gb Resource_List.ncpus=6 Resource_List.ngpus=3 Resource_List.nodect=1";
        let expected =
            Requested { cores: Some(6), nodes: Some(1), gpus: Some(3), mem_bytes: Some(9_663_676_416) };
        assert_eq!(request(asked), Ok(expected));
        let torque = "Resource_List.nodes=2:ppn=4:gpus=1 Resource_List.neednodes=9";
        let expected = Requested { cores: Some(8), nodes: Some(2), gpus: Some(2), mem_bytes: None };
        assert_eq!(request(torque), Ok(expected));
        assert_eq!(request("Resource_List.foo=1"), Ok(Requested::default()));
        assert_eq!(request("Resource_List.mem=much").unwrap_err().code(), "value");
        let wide = "Resource_List.mppwidth=18446744073709551615 Resource_List.mppdepth=2";
        assert_eq!(request(wide).unwrap_err().code(), "value");
    }

    #[test]
    fn what_was_given_is_in_exec_vnode_and_else_in_the_next_best() {
        let asked = "Resource_List.mem=1kb Resource_List.ncpus=99 Resource_List.nodect=77";
        let of = |given: &str| allocation(&format!("{given} {asked}"));
        assert_eq!(
            of("exec_host=n1/0*0 exec_vnode=(n1[0]:ncpus=2:ngpus=1:mem=4kb+n1[1]:ncpus=3)"),
            (Some(5), Some(1), Some(1), Some(4096))
        );
        assert_eq!(of("exec_vnode=(n1[0]:ncpus=2)+(n2:ncpus=1)"), (Some(3), Some(2), Some(0), Some(1024)));
        assert_eq!(of("exec_host=a/0-3+b/1"), (Some(5), Some(2), None, Some(1024)));
        assert_eq!(of(""), (Some(99), Some(77), None, Some(1024)));
        assert_eq!(allocation(""), (None, None, None, None));
    }

    #[test]
    fn the_login_node_of_a_cray_is_not_what_was_given() {
        let given = "exec_host=nid7/24 exec_vnode=(login:ncpus=1)";
        assert_eq!(
            allocation(&format!("{given} Resource_List.mppnppn=2 Resource_List.mppwidth=33")),
            (Some(33), Some(17), Some(0), None)
        );
        assert_eq!(
            allocation(&format!("{given} Resource_List.mppdepth=4 Resource_List.mppwidth=8")),
            (Some(32), None, Some(0), None)
        );
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
}

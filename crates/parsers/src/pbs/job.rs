//! An `E` or `R` record as a [`Run`].

use super::allocation::{NodesRequest, exec_host, exec_vnode, nodes_request};
use super::key::Key;
use super::message::{Message, Resource, unquote};
use super::record::Record;
use super::value::{date, duration, epoch, refused, size, whole};
use crate::run::{Finding, Kind, Place, Reason, Requested, Run, Scheduler, State};
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
    let account = message.get(Key::Account).or_else(|| appended_account(&message));
    Ok(Run {
        scheduler: Scheduler::Pbs,
        kind,
        job_id: record.id.as_bstr(),
        raw_id: record.id.as_bstr(),
        cluster: server.map(BStr::new),
        user: given(Some(user)),
        account: given(account.map(unquote)),
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
        allocated: start.is_some(),
        requested: requested.as_requested(),
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
    let name = unquote(value);
    if name.contains(&b'"') {
        return Err(refused(Key::Project.name(), value, "a project without quotes in its name"));
    }
    Ok(Some(name))
}

/// An account behind the end of the record, where a site's script put it: one word, or in quotes.
fn appended_account<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let value = message.get(Key::AppendedAccount)?;
    (!value.contains(&b' ') || unquote(value).len() < value.len()).then_some(value)
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
            nodes: self.nodect.or(self.nodes.map(|nodes| nodes.nodes)),
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

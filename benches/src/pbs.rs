//! Writes the accounting log of an imagined PBS server, of any size: records of many jobs interleaved as they happen.

use crate::clock::{BEGIN, Clock, hours, number};
use crate::random::Random;
use crate::site::{Owner, Site, Size};
use crate::truth::Truth;
use chrono_tz::Tz;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PbsOptions {
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// The log ends with the first record that reaches this size; jobs that run then have no `E`.
    pub bytes: u64,
    /// The server's zone: a record's leading date is local time.
    pub zone: Tz,
}

impl Default for PbsOptions {
    fn default() -> Self {
        Self { seed: 1, bytes: 1 << 20, zone: Tz::America__Denver }
    }
}

/// Jobs that wait or run at one time: what bounds the generator's memory.
const OPEN_JOBS: usize = 4096;

/// Seconds between a suspension and its end.
const SUSPENDED: u64 = 600;

/// Writes a PBS log and returns what is in it.
///
/// ```
/// let mut log = Vec::new();
/// let truth = benches::pbs(&benches::PbsOptions { bytes: 100_000, ..Default::default() }, &mut log)?;
/// assert_eq!(truth.bytes, log.len() as u64);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What writing to `out` gives.
pub fn pbs(options: &PbsOptions, out: &mut impl Write) -> io::Result<Truth> {
    let mut random = Random::new(options.seed);
    let site = Site::new(&mut random);
    let mut server = Server {
        clock: Clock::new(options.zone),
        random,
        site,
        out,
        buffer: Vec::with_capacity(80 << 10),
        truth: Truth { format: "pbs", seed: options.seed, ..Truth::default() },
        now: BEGIN,
        next_hour: BEGIN,
        next_arrival: BEGIN,
        next_id: 1_000_000,
        next_event: 0,
        jobs: Vec::new(),
        vacant: Vec::new(),
        events: BinaryHeap::new(),
    };
    while server.truth.bytes < options.bytes {
        server.step()?;
    }
    server.out.write_all(&server.buffer)?;
    server.out.flush()?;
    Ok(server.truth)
}

/// What happens to a job next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start,
    Alter,
    Suspend,
    Resume,
    Release,
    Delete,
    Rerun,
    End,
}

/// Where a job is in the slab of open jobs.
type Slot = usize;

#[derive(Debug, Clone)]
struct Job {
    id: u64,
    /// Index of a subjob, and where its array is.
    sub: Option<(u64, Slot)>,
    /// An array: how many subjobs there are, and how many have not ended.
    array: Option<(u64, u64)>,
    owner: Owner,
    account: Option<Vec<u8>>,
    name: Vec<u8>,
    submitted: u64,
    started: u64,
    size: Size,
    /// Each node is two vnodes.
    split: bool,
    first_node: u64,
    limit: u64,
    /// Wall time of the run that is under way, without suspension.
    walltime: u64,
    /// Wall time that `u` already wrote.
    released: Option<u64>,
    deleted: bool,
    run_count: u64,
}

struct Server<'o, W> {
    clock: Clock,
    random: Random,
    site: Site,
    out: &'o mut W,
    buffer: Vec<u8>,
    truth: Truth,
    now: u64,
    next_hour: u64,
    next_arrival: u64,
    next_id: u64,
    /// Orders events of one second as they were planned.
    next_event: u64,
    jobs: Vec<Option<Job>>,
    vacant: Vec<Slot>,
    events: BinaryHeap<Reverse<(u64, u64, Event, Slot)>>,
}

impl<W: Write> Server<'_, W> {
    /// The next thing that happens: the hour strikes, somebody submits, or a job goes on.
    fn step(&mut self) -> io::Result<()> {
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        let arrival = (self.jobs.len() - self.vacant.len() < OPEN_JOBS).then_some(self.next_arrival);
        let next = [event, arrival].into_iter().flatten().min().unwrap_or(self.now);
        if self.next_hour <= next {
            self.now = self.next_hour;
            self.next_hour += 3600;
            return self.licence();
        }
        if arrival == Some(next) {
            self.now = next;
            self.next_arrival = next + self.random.below(5);
            return self.submit();
        }
        let Some(Reverse((at, _, event, slot))) = self.events.pop() else { return Ok(()) };
        self.now = self.now.max(at);
        self.next_arrival = self.next_arrival.max(self.now);
        self.happen(event, slot)
    }

    fn plan(&mut self, after: u64, event: Event, slot: Slot) {
        self.next_event += 1;
        self.events.push(Reverse((self.now + after, self.next_event, event, slot)));
    }

    fn keep(&mut self, job: Job) -> Slot {
        match self.vacant.pop() {
            Some(slot) => {
                self.jobs[slot] = Some(job);
                slot
            }
            None => {
                self.jobs.push(Some(job));
                self.jobs.len() - 1
            }
        }
    }

    fn forget(&mut self, slot: Slot) {
        self.jobs[slot] = None;
        self.vacant.push(slot);
    }

    // ------------------------------------------------------------------ what happens

    fn submit(&mut self) -> io::Result<()> {
        if self.random.one_in(5000) {
            return self.reservation();
        }
        let job = self.new_job();
        self.record(b'Q', &job, |server, out| {
            server.attributes(&job, out);
            if let Some((subjobs, _)) = job.array {
                out.extend_from_slice(format!("array_indices=0-{} ", subjobs - 1).as_bytes());
            }
            requested(&job, out);
            out.push(b' ');
        })?;
        let wait = self.random.duration() / 16;
        let Some((subjobs, _)) = job.array else {
            let deleted = self.random.one_in(50);
            let slot = self.keep(job);
            self.plan(wait, if deleted { Event::Delete } else { Event::Start }, slot);
            return Ok(());
        };
        let array = self.keep(job.clone());
        self.plan(wait, Event::Start, array);
        for index in 0..subjobs {
            let subjob = Job { sub: Some((index, array)), array: None, ..job.clone() };
            let slot = self.keep(subjob);
            let more = self.random.below(60);
            self.plan(wait + 1 + more, Event::Start, slot);
        }
        Ok(())
    }

    fn new_job(&mut self) -> Job {
        let random = &mut self.random;
        let owner = self.site.owner(random);
        let mut name = Vec::new();
        Site::name(random, &mut name);
        // qsub refuses blanks, quotes, `=`, `;` and anything but ASCII in names
        name.retain(|byte| byte.is_ascii_graphic() && !b"\"'=;".contains(byte));
        if name.is_empty() {
            name.extend_from_slice(b"STDIN");
        }
        let size = owner.partition.size(random);
        let account = match random.below(1000) {
            0..=399 => None,
            400..=979 => Some(self.site.accounts[owner.account].clone().into_bytes()),
            980..=997 => Some(b"my group; grant=7".to_vec()),
            998 => Some("proj\u{e9}t 12".as_bytes().to_vec()),
            _ => Some(b"line1\nline2".to_vec()),
        };
        let array = random.one_in(25).then(|| random.between(2, 24)).map(|subjobs| (subjobs, subjobs));
        let limit = *random.pick(&[600, 3600, 14_400, 43_200, 86_400, 604_800]);
        let id = self.next_id;
        self.next_id += 1;
        Job {
            id,
            sub: None,
            array,
            owner,
            account,
            name,
            submitted: self.now,
            started: 0,
            size,
            split: random.one_in(50) && size.cores / size.nodes > 1,
            first_node: random.between(1, owner.partition.nodes - size.nodes + 1),
            limit,
            walltime: 0,
            released: None,
            deleted: false,
            run_count: 0,
        }
    }

    fn happen(&mut self, event: Event, slot: Slot) -> io::Result<()> {
        let Some(mut job) = self.jobs[slot].clone() else { return Ok(()) };
        match event {
            Event::Start => self.start(&mut job, slot)?,
            Event::Alter => self.record(b'a', &job, |_, out| {
                out.extend_from_slice(b"Resource_List.walltime=");
                hours(job.limit, out);
            })?,
            Event::Suspend => self.record(b'z', &job, |_, out| {
                out.extend_from_slice(b"resources_used.cput=00:00:00 resources_used.walltime=");
                hours(job.walltime / 2, out);
            })?,
            Event::Resume => self.record(b'r', &job, |_, _| {})?,
            Event::Release => self.release(&mut job)?,
            Event::Delete => {
                let user = self.site.users[job.owner.user].name.clone();
                self.record(b'D', &job, |_, out| {
                    out.extend_from_slice(format!("requestor={user}@login1").as_bytes());
                })?;
                if job.run_count == 0 {
                    self.forget(slot);
                    return Ok(());
                }
                job.deleted = true;
                self.plan(1, Event::End, slot);
            }
            Event::Rerun => {
                self.ended(b'R', &job)?;
                self.plan(30, Event::Start, slot);
            }
            Event::End => {
                self.ended(b'E', &job)?;
                self.forget(slot);
                if let Some((_, array)) = job.sub {
                    self.subjob_ended(array)?;
                }
                return Ok(());
            }
        }
        self.jobs[slot] = Some(job);
        Ok(())
    }

    fn start(&mut self, job: &mut Job, slot: Slot) -> io::Result<()> {
        job.started = self.now;
        if let Some((subjobs, _)) = job.array {
            return self.record(b'S', job, |server, out| {
                server.attributes(job, out);
                started(job, out);
                out.extend_from_slice(format!("array_indices=0-{} ", subjobs - 1).as_bytes());
                requested(job, out);
                out.push(b' ');
            });
        }
        job.run_count += 1;
        job.walltime = self.random.duration().min(job.limit);
        self.record(b'S', job, |server, out| {
            server.attributes(job, out);
            started(job, out);
            hosts(job, job.size.nodes, out);
            requested(job, out);
            out.extend_from_slice(b" resource_assigned.ncpus=");
            number(job.size.cores, out);
            out.push(b' ');
        })?;
        self.plan_run(job, slot);
        Ok(())
    }

    /// What becomes of a run: most just end; some are deleted, run again, suspended, altered, or give nodes back.
    fn plan_run(&mut self, job: &mut Job, slot: Slot) {
        let half = job.walltime / 2;
        let eventful = job.walltime >= 60 && job.run_count == 1 && job.sub.is_none();
        match if eventful { self.random.below(1000) } else { 999 } {
            0..=4 if job.size.nodes > 1 => self.plan(half, Event::Release, slot),
            5..=9 => self.plan(half, Event::Alter, slot),
            10..=14 => {
                self.plan(half, Event::Suspend, slot);
                self.plan(half + SUSPENDED, Event::Resume, slot);
                return self.plan(job.walltime + SUSPENDED, Event::End, slot);
            }
            15..=34 => {
                job.walltime = half;
                return self.plan(half, Event::Rerun, slot);
            }
            35..=64 => {
                job.walltime = half;
                return self.plan(half, Event::Delete, slot);
            }
            _ => {}
        }
        self.plan(job.walltime, Event::End, slot);
    }

    /// All nodes but the first go back: `u` ends a phase, `c` begins the next.
    fn release(&mut self, job: &mut Job) -> io::Result<()> {
        let so_far = self.now - job.started;
        job.released = Some(so_far);
        self.record(b'u', job, |server, out| {
            server.attributes(job, out);
            started(job, out);
            hosts(job, job.size.nodes, out);
            requested(job, out);
            out.extend_from_slice(b" session=4711 eligible_time=00:00:01 run_count=");
            number(job.run_count, out);
            out.extend_from_slice(b"  ");
            used(job, so_far, out);
        })?;
        let left = Job { size: one_node(job.size), ..job.clone() };
        self.record(b'c', &left, |server, out| {
            server.attributes(&left, out);
            started(&left, out);
            hosts(&left, 1, out);
            requested(&left, out);
            out.extend_from_slice(b" resource_assigned.ncpus=");
            number(left.size.cores, out);
            out.push(b' ');
        })
    }

    /// `E` or `R`: what the run used. A job that gave nodes back has an `e` before it.
    fn ended(&mut self, letter: u8, job: &Job) -> io::Result<()> {
        let first = job.released.unwrap_or(job.walltime);
        self.truth.run(first, job.size.cores, job.size.gpus, job.size.nodes);
        let walltime = job.walltime - job.released.unwrap_or(0);
        if job.released.is_some() {
            let left = Job { size: one_node(job.size), ..job.clone() };
            self.record(b'e', &left, |server, out| {
                server.attributes(&left, out);
                started(&left, out);
                hosts(&left, 1, out);
                requested(&left, out);
                out.extend_from_slice(b" session=4711 eligible_time=00:00:01 run_count=");
                number(left.run_count, out);
                out.extend_from_slice(b"  ");
                used(job, walltime, out);
            })?;
            self.truth.used(walltime, left.size.cores, left.size.gpus, left.size.nodes);
            self.truth.node_releases += 1;
        }
        let exit = match letter {
            b'R' => "-11".to_owned(),
            _ if job.deleted => "271".to_owned(),
            _ if job.walltime == job.limit => "-29".to_owned(),
            _ if self.random.one_in(10) => self.random.between(1, 255).to_string(),
            _ => "0".to_owned(),
        };
        let end = self.now;
        self.record(letter, job, |server, out| {
            server.attributes(job, out);
            started(job, out);
            hosts(job, job.size.nodes, out);
            requested(job, out);
            out.extend_from_slice(format!(" session=4711 end={end} Exit_status={exit} ").as_bytes());
            used(job, walltime, out);
            out.extend_from_slice(b" eligible_time=00:00:01 run_count=");
            number(job.run_count, out);
        })
    }

    fn subjob_ended(&mut self, array: Slot) -> io::Result<()> {
        let Some(mut job) = self.jobs[array].clone() else { return Ok(()) };
        let Some((subjobs, left)) = job.array else { return Ok(()) };
        job.array = Some((subjobs, left - 1));
        if left > 1 {
            self.jobs[array] = Some(job);
            return Ok(());
        }
        self.forget(array);
        self.truth.parents += 1;
        let end = self.now;
        self.record(b'E', &job, |server, out| {
            server.attributes(&job, out);
            started(&job, out);
            requested(&job, out);
            out.extend_from_slice(
                format!(" session=0 end={end} Exit_status=0 eligible_time=00:00:01 run_count=0").as_bytes(),
            );
        })
    }

    fn licence(&mut self) -> io::Result<()> {
        let from = self.begin(b'L');
        self.buffer.extend_from_slice(b"license;floating license hour:0 day:0 month:0 max:0");
        self.finish(from)
    }

    fn reservation(&mut self) -> io::Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let from = self.begin(b'U');
        self.buffer.extend_from_slice(format!("R{id}.pbssrv;requestor=root@pbssrv").as_bytes());
        self.finish(from)
    }

    // --------------------------------------------------------------- how it is written

    fn record(&mut self, letter: u8, job: &Job, message: impl FnOnce(&Self, &mut Vec<u8>)) -> io::Result<()> {
        let from = self.begin(letter);
        let mut out = std::mem::take(&mut self.buffer);
        number(job.id, &mut out);
        match (job.sub, job.array) {
            (Some((index, _)), _) => {
                out.push(b'[');
                number(index, &mut out);
                out.push(b']');
            }
            (None, Some(_)) => out.extend_from_slice(b"[]"),
            (None, None) => {}
        }
        out.extend_from_slice(b".pbssrv;");
        message(self, &mut out);
        self.buffer = out;
        self.finish(from)
    }

    /// `01/05/2026 00:00:00;E;`
    fn begin(&mut self, letter: u8) -> usize {
        let from = self.buffer.len();
        self.clock.american(self.now, &mut self.buffer);
        self.buffer.extend_from_slice(&[b';', letter, b';']);
        self.truth.kind(std::str::from_utf8(&[letter]).unwrap_or("?"));
        from
    }

    fn finish(&mut self, from: usize) -> io::Result<()> {
        self.buffer.push(b'\n');
        self.truth.records += 1;
        self.truth.lines += self.buffer[from..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.truth.bytes += (self.buffer.len() - from) as u64;
        if self.buffer.len() >= 64 << 10 {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// `user= group= account= project= jobname= queue= ctime= qtime= etime= `
    fn attributes(&self, job: &Job, out: &mut Vec<u8>) {
        let user = &self.site.users[job.owner.user];
        out.extend_from_slice(b"user=");
        out.extend_from_slice(user.name.as_bytes());
        out.extend_from_slice(b" group=");
        out.extend_from_slice(self.site.accounts[job.owner.account].as_bytes());
        if let Some(account) = &job.account {
            out.extend_from_slice(b" account=\"");
            out.extend_from_slice(account);
            out.push(b'"');
        }
        out.extend_from_slice(b" project=_pbs_project_default jobname=");
        out.extend_from_slice(&job.name);
        out.extend_from_slice(b" queue=");
        out.extend_from_slice(job.owner.partition.name.as_bytes());
        for key in [" ctime=", " qtime=", " etime="] {
            out.extend_from_slice(key.as_bytes());
            number(job.submitted, out);
        }
        out.push(b' ');
    }
}

fn started(job: &Job, out: &mut Vec<u8>) {
    out.extend_from_slice(b"start=");
    number(job.started, out);
    out.push(b' ');
}

fn one_node(size: Size) -> Size {
    Size {
        nodes: 1,
        cores: size.cores / size.nodes,
        mem_mib: size.mem_mib / size.nodes,
        gpus: size.gpus / size.nodes,
    }
}

/// `exec_host=c0001/0*64+c0002/0*64 exec_vnode=(c0001:ncpus=64:mem=1048576kb)+(...) `
fn hosts(job: &Job, nodes: u64, out: &mut Vec<u8>) {
    let each = one_node(job.size);
    let host = |k: u64| format!("{}{:04}", job.owner.partition.node_prefix, job.first_node + k);
    out.extend_from_slice(b"exec_host=");
    for k in 0..nodes {
        let plus = if k > 0 { "+" } else { "" };
        let slots = if each.cores > 1 { format!("*{}", each.cores) } else { String::new() };
        out.extend_from_slice(format!("{plus}{}/{}{slots}", host(k), job.id % 4).as_bytes());
    }
    out.extend_from_slice(b" exec_vnode=");
    for k in 0..nodes {
        let (plus, host) = (if k > 0 { "+" } else { "" }, host(k));
        let gpus = if each.gpus > 0 { format!(":ngpus={}", each.gpus) } else { String::new() };
        let mem = each.mem_mib * 1024;
        let chunk = if job.split {
            let first = each.cores / 2;
            let second = each.cores - first;
            format!("{plus}({host}[0]:ncpus={first}:mem={mem}kb{gpus}+{host}[1]:ncpus={second})")
        } else {
            format!("{plus}({host}:ncpus={}:mem={mem}kb{gpus})", each.cores)
        };
        out.extend_from_slice(chunk.as_bytes());
    }
    out.push(b' ');
}

/// `Resource_List.*`, sorted by name, without a blank behind.
fn requested(job: &Job, out: &mut Vec<u8>) {
    let (size, each) = (job.size, one_node(job.size));
    let gpus = if size.gpus > 0 { format!(" Resource_List.ngpus={}", size.gpus) } else { String::new() };
    let gpus_each = if size.gpus > 0 { format!(":ngpus={}", each.gpus) } else { String::new() };
    out.extend_from_slice(
        format!(
            "Resource_List.mem={}mb Resource_List.ncpus={}{gpus} Resource_List.nodect={} Resource_List.place={} Resource_List.select={}:ncpus={}:mem={}mb{gpus_each} Resource_List.walltime=",
            size.mem_mib,
            size.cores,
            size.nodes,
            if job.owner.partition.exclusive { "scatter:excl" } else { "scatter" },
            size.nodes,
            each.cores,
            each.mem_mib,
        )
        .as_bytes(),
    );
    hours(job.limit, out);
}

fn used(job: &Job, walltime: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"resources_used.cpupercent=");
    number(job.size.cores * 93, out);
    out.extend_from_slice(b" resources_used.cput=");
    hours(walltime * job.size.cores * 93 / 100, out);
    out.extend_from_slice(b" resources_used.mem=");
    number(job.size.mem_mib * 700, out);
    out.extend_from_slice(b"kb resources_used.ncpus=");
    number(job.size.cores, out);
    out.extend_from_slice(b" resources_used.vmem=");
    number(job.size.mem_mib * 900, out);
    out.extend_from_slice(b"kb resources_used.walltime=");
    hours(walltime, out);
}

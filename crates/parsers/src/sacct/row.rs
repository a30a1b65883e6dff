//! One row: from its fields to a run.

use super::columns::Column;
use super::fold::{Moment, Moments};
use super::header::Layout;
use super::ids::{self, Form};
use super::words;
use crate::memory::{self, Per};
use crate::run::{
    Assigned, Finding, Frame, Kind, Note, NoteKind, Place, Quarantined, Reason, Requested, Run, Scheduler,
    State, bounded,
};
use crate::time::Stamp;
use crate::tres::Tres;
use crate::{Malformed, duration, time, tres};
use bstr::BStr;
use std::borrow::Cow;

/// The fields of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a, 'e> {
    text: &'a [u8],
    /// The end of each field, in `text`.
    ends: &'e [u32],
    /// Bytes between a field and the next.
    delimiter: usize,
}

impl<'a, 'e> Fields<'a, 'e> {
    pub(super) fn new(text: &'a [u8], ends: &'e [u32], delimiter: usize) -> Self {
        Self { text, ends, delimiter }
    }

    #[inline]
    fn get(&self, number: usize) -> &'a [u8] {
        let start = match number.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).map_or(usize::MAX, |end| *end as usize + self.delimiter),
        };
        self.ends.get(number).and_then(|end| self.text.get(start..*end as usize)).unwrap_or_default()
    }
}

/// The fields of a row by column.
struct Row<'a, 'e, 'l> {
    layout: &'l Layout,
    fields: &'e Fields<'a, 'e>,
}

impl<'a> Row<'a, '_, '_> {
    /// The text of a column; `None` where the column is absent.
    #[inline]
    fn get(&self, column: Column) -> Option<&'a [u8]> {
        self.layout.field_of(column).map(|number| self.fields.get(number))
    }

    /// The text of a column; `None` where the column is absent or empty.
    #[inline]
    fn said(&self, column: Column) -> Option<&'a [u8]> {
        self.get(column).filter(|text| !text.is_empty())
    }

    #[inline]
    fn text(&self, column: Column) -> Option<&'a BStr> {
        self.said(column).map(BStr::new)
    }

    /// A plain whole number.
    #[inline]
    fn count(&self, column: Column) -> Result<Option<u64>, Reason> {
        let Some(text) = self.said(column) else { return Ok(None) };
        memory::count(text).map(Some).map_err(|Malformed| value(column, text, "a whole number"))
    }

    #[inline]
    fn tres(&self, column: Column) -> Result<Tres, Reason> {
        let Some(text) = self.said(column) else { return Ok(Tres::default()) };
        tres::parse(text).map_err(|Malformed| value(column, text, "a list like cpu=4,mem=16G,node=1"))
    }

    /// A time, and whether it is a local one.
    #[inline]
    fn time(&self, column: Column, local: &mut bool) -> Result<Moment, Reason> {
        let Some(text) = self.get(column) else { return Ok(Moment::Absent) };
        let stamp = time::stamp(text)
            .map_err(|Malformed| value(column, text, "a time like 2026-11-23T09:35:40 or 1795426540"))?;
        *local |= matches!(stamp, Stamp::Wall(_));
        Moment::new(stamp, &self.layout.zone).ok_or(Reason::NoSuchTime { field: column.name() })
    }

    #[inline]
    fn duration(&self, column: Column) -> Result<Option<u64>, Reason> {
        let Some(text) = self.said(column) else { return Ok(None) };
        duration::seconds(text).map_err(|Malformed| value(column, text, "a duration like 1-02:03:04"))
    }

    fn elapsed(&self) -> Result<Option<u64>, Reason> {
        let Some(text) = self.said(Column::ElapsedRaw) else { return self.duration(Column::Elapsed) };
        match memory::integer(text) {
            Some(seconds) => Ok(Some(seconds)),
            None if matches!(text, b"INVALID" | b"UNLIMITED") => Ok(None),
            None => Err(value(Column::ElapsedRaw, text, "seconds")),
        }
    }
}

#[cold]
fn value(column: Column, found: &[u8], expected: &'static str) -> Reason {
    Reason::Value { field: Cow::Borrowed(column.name()), found: bounded(found), expected }
}

impl Layout {
    /// Reads a whole row; `text` is what stands for it in the frame.
    #[inline]
    pub(super) fn row<'a>(&self, fields: &Fields<'a, '_>, text: &'a [u8], place: Place) -> Frame<'a> {
        let row = Row { layout: self, fields };
        let text = BStr::new(text);
        match row.ids() {
            Ok(ids) if ids.form == Form::Step && !self.read_steps => {
                Frame::Note(Note { kind: NoteKind::Step, text, place })
            }
            Ok(ids) => match row.run(&ids, text, place) {
                Ok(run) => Frame::Run(run),
                Err(reason) => Frame::Quarantined(Quarantined { reason, text, place }),
            },
            Err(reason) => Frame::Quarantined(Quarantined { reason, text, place }),
        }
    }
}

/// Which job a row is of.
struct Ids<'a> {
    form: Form,
    job_id: &'a BStr,
    raw_id: &'a BStr,
}

/// What was allocated, and what for.
#[derive(Debug, Clone, Copy, Default)]
struct Allocation {
    allocated: bool,
    cores: Option<u64>,
    nodes: Option<u64>,
    gpus: Option<u64>,
    billing: Option<u64>,
    mem_bytes: Option<u64>,
    requested: Requested,
    /// `AllocTRES` says otherwise than `AllocCPUS` or `NNodes`.
    disagrees: bool,
}

impl<'a> Row<'a, '_, '_> {
    #[inline]
    fn ids(&self) -> Result<Ids<'a>, Reason> {
        let read = |column, text| ids::form(text).map_err(|Malformed| value(column, text, "a job id"));
        let raw = match self.get(Column::JobIdRaw) {
            Some(raw) => match read(Column::JobIdRaw, raw)? {
                form @ (Form::Job | Form::Step) => Some((form, raw)),
                _ => return Err(value(Column::JobIdRaw, raw, "a job's own number")),
            },
            None => None,
        };
        let shown = match self.get(Column::JobId) {
            Some(shown) => Some((read(Column::JobId, shown)?, shown)),
            None => None,
        };
        let (form, job_id, raw_id) = match (shown, raw) {
            (Some((_, shown)), Some((Form::Step, raw))) => (Form::Step, shown, raw),
            (Some((form, shown)), Some((_, raw))) => (form, shown, raw),
            (Some((form, id)), None) | (None, Some((form, id))) => (form, id, id),
            (None, None) => return Err(Reason::Missing { field: Column::JobId.name() }),
        };
        Ok(Ids { form, job_id: BStr::new(job_id), raw_id: BStr::new(raw_id) })
    }

    #[inline]
    fn run(&self, ids: &Ids<'a>, text: &'a BStr, place: Place) -> Result<Run<'a>, Reason> {
        if let Some(uid) = self.said(Column::Uid)
            && memory::integer(uid).is_none()
        {
            return Err(value(Column::Uid, uid, "a number"));
        }
        let state_text = self.get(Column::State);
        let state = state_text.map_or(State::Unknown, words::state);
        let exit = self.get(Column::ExitCode).unwrap_or_default();
        let exit =
            words::exit_code(exit).map_err(|Malformed| value(Column::ExitCode, exit, "code:signal"))?;

        let elapsed = self.elapsed()?;
        let suspended = self.duration(Column::Suspended)?;
        let mut local = false;
        let times = Moments {
            submit: self.time(Column::Submit, &mut false)?,
            eligible: self.time(Column::Eligible, &mut false)?,
            start: self.time(Column::Start, &mut local)?,
            end: self.time(Column::End, &mut local)?,
        }
        .decide(elapsed, suspended);

        let started = times.start.is_some() || self.get(Column::Start).is_none();
        let allocation = self.allocation(started)?;
        let kind = match ids.form {
            Form::Step => Kind::Step,
            Form::Array if !allocation.allocated || elapsed.unwrap_or(0) == 0 => Kind::Parent,
            _ => Kind::Run,
        };
        let ended = times.end.is_some() && !state.is_live();
        let doubt = if kind == Kind::Run && ended {
            let slack = if local { 3602 } else { 2 };
            Finding::of_times(times.submit, times.start, times.end, elapsed, slack)
                .or((allocation.disagrees && state != State::Resizing).then_some(Finding::TresDisagree))
        } else {
            None
        };
        let unknown = (state == State::Unknown && state_text.is_some()).then_some(Finding::UnknownState);

        Ok(Run {
            scheduler: Scheduler::Slurm,
            kind,
            job_id: ids.job_id,
            raw_id: ids.raw_id,
            cluster: self.text(Column::Cluster),
            user: self.text(Column::User),
            account: self.text(Column::Account),
            group: None,
            project: None,
            partition: self.text(Column::Partition),
            qos: self.text(Column::Qos),
            reservation: self.text(Column::Reservation),
            name: self.text(Column::JobName),
            state,
            state_text: BStr::new(state_text.unwrap_or_default()),
            submit: times.submit,
            eligible: times.eligible,
            start: times.start,
            end: times.end,
            elapsed,
            suspended,
            nodes: allocation.nodes,
            cores: allocation.cores,
            gpus: allocation.gpus,
            mem_bytes: allocation.mem_bytes,
            billing: allocation.billing,
            tres: self.text(Column::AllocTres).filter(|_| allocation.allocated),
            node_list: self.text(Column::NodeList).filter(|_| allocation.allocated),
            allocated: allocation.allocated,
            requested: allocation.requested,
            assigned: Assigned::default(),
            phases: Vec::new(),
            resources: BStr::new(b""),
            exit_code: exit.map(|(code, _)| code),
            signal: exit.map(|(_, signal)| signal),
            run_count: None,
            finding: times.finding.or(doubt).or(unknown),
            text,
            place,
        })
    }

    /// `AllocTRES` says what was allocated. Slurm 22.05 prints one core in `AllocCPUS` where nothing was, so that the counts of
    /// the other columns are used only where there is no `AllocTRES` column.
    #[inline]
    fn allocation(&self, started: bool) -> Result<Allocation, Reason> {
        let list = self.get(Column::AllocTres);
        let tres = self.tres(Column::AllocTres)?;
        let cores = match self.count(Column::AllocCpus)? {
            Some(cores) => Some(cores),
            None => self.count(Column::NCpus)?,
        };
        let nodes = match self.count(Column::NNodes)? {
            Some(nodes) => Some(nodes),
            None => self.count(Column::AllocNodes)?,
        };
        let requested_list = self.get(Column::ReqTres);
        // Most jobs get what they asked for.
        let requested_tres = if requested_list == list { tres } else { self.tres(Column::ReqTres)? };
        let (requested_mem, per) = match self.said(Column::ReqMem) {
            Some(text) => memory::requested(text)
                .map_err(|Malformed| value(Column::ReqMem, text, "memory like 4000M, 4000Mn or 2Gc"))?,
            None => (0, Per::Job),
        };
        // 0 asks for all the memory of a node: no quantity.
        let mem_of = |cores: Option<u64>, nodes: Option<u64>| match per {
            _ if requested_mem == 0 => None,
            Per::Job => Some(requested_mem),
            Per::Core => requested_mem.checked_mul(cores?),
            Per::Node => requested_mem.checked_mul(nodes?),
        };
        let wanted = if requested_list.is_some_and(|list| !list.is_empty()) {
            requested_tres
        } else {
            Tres { gpus: None, ..Tres::default() }
        };
        let requested_cores = match wanted.cores {
            Some(cores) => Some(cores),
            None => self.count(Column::ReqCpus)?,
        };
        let requested = Requested {
            cores: requested_cores,
            nodes: wanted.nodes,
            gpus: requested_list.is_some_and(|list| !list.is_empty()).then_some(wanted.gpus.unwrap_or(0)),
            mem_bytes: wanted.mem_bytes.or_else(|| mem_of(requested_cores, wanted.nodes.or(nodes))),
        };
        Ok(match list {
            Some(list) if list.is_empty() || !started => Allocation { requested, ..Allocation::default() },
            Some(_) => Allocation {
                allocated: true,
                cores: tres.cores.or(cores),
                nodes: tres.nodes.or(nodes),
                gpus: Some(tres.gpus.unwrap_or(0)),
                billing: Some(tres.billing.unwrap_or(0)),
                mem_bytes: tres.mem_bytes.or_else(|| mem_of(tres.cores.or(cores), tres.nodes.or(nodes))),
                requested,
                disagrees: differ(tres.cores, cores) || differ(tres.nodes, nodes),
            },
            None if !started || cores == Some(0) || nodes == Some(0) => {
                Allocation { mem_bytes: requested.mem_bytes, requested, ..Allocation::default() }
            }
            None => Allocation {
                allocated: true,
                cores,
                nodes,
                mem_bytes: mem_of(cores, nodes).or(requested.mem_bytes),
                requested,
                ..Allocation::default()
            },
        })
    }
}

fn differ(one: Option<u64>, other: Option<u64>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

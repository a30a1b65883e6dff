//! Digests: of rules, so that held runs are tried again when they changed, and of a run's facts, so that a run which
//! is read again is known to be the same. Both are stored, so what goes into them is fixed here, byte by byte.

use parsers::{Reading, Run, Scheduler, State};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Part of every digest. Counted up when the same rules or facts begin to mean something else.
const VERSION: u8 = 1;

/// Hashes fields one after another so that different fields never give the same bytes.
pub(crate) struct Canonical(Xxh3);

impl Canonical {
    pub(crate) fn new(what: &str) -> Self {
        let mut canonical = Self(Xxh3::new());
        canonical.0.update(&[VERSION]);
        canonical.text(what);
        canonical
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.count(text.len());
        self.0.update(text.as_bytes());
        self
    }

    pub(crate) fn option(&mut self, text: Option<&str>) -> &mut Self {
        self.flag(text.is_some());
        if let Some(text) = text {
            self.text(text);
        }
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.0.update(&[u8::from(flag)]);
        self
    }

    pub(crate) fn integer(&mut self, value: u64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    pub(crate) fn signed(&mut self, value: i64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.integer(u64::try_from(count).unwrap_or(u64::MAX))
    }

    pub(crate) fn digest(&self) -> u128 {
        self.0.digest128()
    }
}

/// Digest of what `run` says, as far as a record can depend on it: ids, names, state, times, counts, the parser's
/// finding. Not of its text, its place, its job name, or any rule: the same run read from another file, in another
/// format, or under other rules has the same digest. Not of its hosts either, which some sources list and others do not.
#[must_use]
pub fn source_digest(run: &Run<'_>) -> u128 {
    let Run {
        scheduler,
        kind: _,
        job_id,
        raw_id,
        cluster,
        user,
        account,
        group,
        project,
        partition,
        qos,
        reservation,
        name: _,
        state,
        state_text,
        submit,
        eligible: _,
        start,
        end,
        elapsed,
        suspended: _,
        nodes,
        cores,
        gpus,
        mem_bytes,
        billing,
        tres: _,
        node_list: _,
        allocated,
        requested,
        phases,
        // It is read only where a formula names it: a change of the rules would pass for one of the source. An ended run's never
        // changes.
        assigned: _,
        // What was asked for cannot change where nothing else of an ended run does.
        resources: _,
        exit_code,
        signal,
        run_count,
        finding,
        text: _,
        place: _,
    } = run;
    // An unknown state is only known by its text.
    let unknown = (*state == State::Unknown).then_some(*state_text);
    let names = [
        Some(*job_id),
        Some(*raw_id),
        *cluster,
        *user,
        *account,
        *group,
        *project,
        *partition,
        *qos,
        *reservation,
        unknown,
        finding.map(|finding| finding.code().into()),
    ];
    let signed = |value: &Option<i64>| value.map(i64::cast_unsigned);
    let small = |value: &Option<i32>| value.map(|value| i64::from(value).cast_unsigned());
    let numbers = [
        signed(submit),
        signed(start),
        signed(end),
        *elapsed,
        *nodes,
        *cores,
        *gpus,
        *mem_bytes,
        *billing,
        requested.cores,
        requested.nodes,
        requested.gpus,
        requested.mem_bytes,
        small(exit_code),
        small(signal),
        run_count.map(u64::from),
    ];
    // The head has a fixed size: which of the names and numbers are there (so that absent differs from empty and from
    // 0), the lengths, the numbers. It is laid out on the stack and copied once.
    let mut present = 0_u32;
    let mut lengths = [[0_u8; 4]; 12];
    for (length, name) in lengths.iter_mut().zip(&names) {
        present <<= 1;
        if let Some(name) = name {
            present |= 1;
            *length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
        }
    }
    let mut values = [[0_u8; 8]; 16];
    for (value, number) in values.iter_mut().zip(numbers) {
        present <<= 1;
        if let Some(number) = number {
            present |= 1;
            *value = number.to_le_bytes();
        }
    }
    let scheduler = match scheduler {
        Scheduler::Slurm => 1,
        Scheduler::Pbs => 2,
    };
    let mut buffer = Vec::with_capacity(512);
    buffer.extend_from_slice(&[VERSION, scheduler, state_code(*state), u8::from(*allocated)]);
    buffer.extend_from_slice(&present.to_le_bytes());
    buffer.extend_from_slice(lengths.as_flattened());
    buffer.extend_from_slice(values.as_flattened());
    for name in names.into_iter().flatten() {
        buffer.extend_from_slice(name);
    }
    // In one order, since sources list them in their own; a run without any hashes as it always did.
    let mut types: Vec<_> = run.gpu_types().collect();
    types.sort_unstable();
    for (name, count) in types {
        push_text(&mut buffer, name);
        buffer.extend_from_slice(&count.to_le_bytes());
    }
    // Only runs that have them say more, so that all others keep their digest.
    for phase in phases {
        buffer.push(b'p');
        buffer.extend_from_slice(&phase.seconds.to_le_bytes());
        push_counts(&mut buffer, [phase.cores, phase.nodes, phase.gpus, phase.mem_bytes]);
    }
    xxh3_128(&buffer)
}

fn push_counts(buffer: &mut Vec<u8>, counts: [Option<u64>; 4]) {
    for count in counts {
        buffer.push(u8::from(count.is_some()));
        buffer.extend_from_slice(&count.unwrap_or(0).to_le_bytes());
    }
}

fn push_text(buffer: &mut Vec<u8>, text: &[u8]) {
    buffer.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend_from_slice(text);
}

/// Fixed for ever: digests are stored.
fn state_code(state: State) -> u8 {
    match state {
        State::Pending => 1,
        State::Running => 2,
        State::Suspended => 3,
        State::Completing => 4,
        State::Configuring => 5,
        State::StageOut => 6,
        State::Signaling => 7,
        State::Stopped => 8,
        State::Requeue => 9,
        State::Completed => 10,
        State::Cancelled => 11,
        State::Failed => 12,
        State::Timeout => 13,
        State::NodeFail => 14,
        State::Preempted => 15,
        State::BootFail => 16,
        State::Deadline => 17,
        State::OutOfMemory => 18,
        State::Requeued => 19,
        State::Resizing => 20,
        State::Revoked => 21,
        State::SpecialExit => 22,
        State::Unknown => 0,
    }
}

/// Digest of what `reading` says of its owner.
pub(crate) fn reading_digest(reading: &Reading<'_>, collected_at: i64) -> u128 {
    let mut buffer = vec![VERSION];
    push_text(&mut buffer, reading.owner_kind.as_str().as_bytes());
    push_text(&mut buffer, reading.owner_name);
    push_text(&mut buffer, reading.scope.unwrap_or_default());
    let numbers = [
        reading.owner_id.map(u64::from),
        Some(reading.bytes),
        reading.files,
        reading.bytes_limit,
        reading.files_limit,
        Some(collected_at.cast_unsigned()),
    ];
    for number in numbers {
        buffer.push(u8::from(number.is_some()));
        buffer.extend_from_slice(&number.unwrap_or(0).to_le_bytes());
    }
    xxh3_128(&buffer)
}

//! The state of a fold as bytes, to be kept between two readings of a source.
//!
//! A version, the state, and a digest of both. Every length is checked against the bytes that are there before anything is reserved.

use super::clocks::{Anchor, Clock, Clocks, Moment};
use super::ended::{EndedRun, EndedRuns, Jobs};
use super::open::{Deletion, MAX_MARKS, Mark, Open, What};
use super::{Counts, Fold, FoldOptions};
use crate::pbs::counts::Allocation;
use crate::pbs::job::Part;
use crate::pbs::record::MAX_ID;
use crate::run::Assigned;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"pbs fold";
const VERSION: u8 = 1;

/// Why bytes are no state of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// They were never one.
    #[error("this is not the state of a PBS source")]
    NotAState,
    /// They were written by another version.
    #[error("the state of the PBS source is of version {0}, and this program reads version {VERSION}")]
    Version(u8),
    /// They were changed or cut off.
    #[error("the state of the PBS source is damaged")]
    Damaged,
}

impl Fold {
    /// The state as bytes: the same for the same state. [`Fold::counts`] are not part of it.
    ///
    /// ```
    /// use parsers::pbs::{Fold, FoldOptions, LoadError};
    /// let options = FoldOptions::default();
    /// let saved = Fold::new(&options).save();
    /// assert!(Fold::load(&saved, &options).is_ok());
    /// assert_eq!(Fold::load(&saved[1..], &options).unwrap_err(), LoadError::NotAState);
    /// ```
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut out = Out(MAGIC.to_vec());
        out.0.push(VERSION);
        out.option(self.forgotten_until, Out::signed);
        out.list(&self.clocks.0, |out, clock| {
            out.text(&clock.server);
            out.option(clock.last, Out::anchor);
            out.list(&clock.waiting, |out, id| out.text(id));
        });
        out.map(&self.open, |out, open| out.open(open, self.tears));
        for jobs in [&self.ended.young, &self.ended.old] {
            out.map(jobs, |out, runs| out.list(runs, Out::ended));
        }
        let digest = xxh3_64(&out.0);
        out.0.extend_from_slice(&digest.to_le_bytes());
        out.0
    }

    /// The fold whose state was saved.
    ///
    /// # Errors
    /// Where the bytes are not such a state, or of another version.
    pub fn load(saved: &[u8], options: &FoldOptions) -> Result<Self, LoadError> {
        let rest = saved.strip_prefix(MAGIC).ok_or(LoadError::NotAState)?;
        let (&version, rest) = rest.split_first().ok_or(LoadError::NotAState)?;
        if version != VERSION {
            return Err(LoadError::Version(version));
        }
        let (state, digest) = rest.split_last_chunk::<8>().ok_or(LoadError::Damaged)?;
        let whole = saved.len().checked_sub(8).and_then(|len| saved.get(..len)).unwrap_or_default();
        if xxh3_64(whole) != u64::from_le_bytes(*digest) {
            return Err(LoadError::Damaged);
        }
        Self::read(state, options).ok_or(LoadError::Damaged)
    }

    fn read(state: &[u8], options: &FoldOptions) -> Option<Self> {
        let mut input = In(state);
        let forgotten_until = input.option(In::signed)?;
        let clocks: Vec<_> = input.list(|input| {
            Some(Clock {
                server: input.text()?,
                last: input.option(In::anchor)?,
                waiting: input.list(In::text)?,
            })
        })?;
        let open = input.map(In::open)?;
        let young: Jobs = input.map(|input| input.list(In::ended))?;
        let old: Jobs = input.map(|input| input.list(In::ended))?;
        if !input.0.is_empty() {
            return None;
        }
        let mut fold = Self::new(options);
        fold.forgotten_until = forgotten_until;
        fold.clocks = Clocks(VecDeque::from(clocks));
        fold.open = open;
        fold.ended = EndedRuns { young, old, ..fold.ended };
        fold.counts = Counts::default();
        Some(fold)
    }
}

struct Out(Vec<u8>);

impl Out {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn signed(&mut self, value: i64) {
        // Small for small values of either sign.
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn digest(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<'t, T: 't>(
        &mut self,
        list: impl IntoIterator<Item = &'t T, IntoIter: ExactSizeIterator>,
        mut write: impl FnMut(&mut Self, &T),
    ) {
        let list = list.into_iter();
        self.number(list.len() as u64);
        for item in list {
            write(self, item);
        }
    }

    fn map<T>(
        &mut self,
        map: &HashMap<Box<[u8]>, T, impl BuildHasher>,
        mut write: impl FnMut(&mut Self, &T),
    ) {
        let mut list: Vec<_> = map.iter().collect();
        list.sort_unstable_by_key(|(id, _)| *id);
        self.list(&list, |out, (id, item)| {
            out.text(id);
            write(out, item);
        });
    }

    fn anchor(&mut self, anchor: Anchor) {
        self.signed(anchor.offset);
        self.signed(anchor.at);
    }

    fn counts(&mut self, counts: [Option<u64>; 4]) {
        for count in counts {
            self.option(count, Self::number);
        }
    }

    fn assigned(&mut self, assigned: &Assigned) {
        self.counts([assigned.cores, assigned.nodes, assigned.gpus, assigned.mem_bytes]);
    }

    fn part(&mut self, part: &Part) {
        self.signed(part.start);
        self.option(part.submit, Self::signed);
        self.option(part.walltime, Self::number);
        self.digest(part.placed);
        let Allocation { cores, nodes, gpus, mem_bytes } = part.allocation;
        self.counts([cores, nodes, gpus, mem_bytes]);
        self.assigned(&part.assigned);
    }

    fn mark(&mut self, mark: &Mark) {
        self.signed(mark.moment.date);
        self.option(mark.moment.before, Self::anchor);
        self.option(mark.moment.after, Self::anchor);
        self.digest(mark.fingerprint);
        self.0.push(match mark.what {
            What::Released(_) => 0,
            What::Continued(_) => 1,
            What::Last(_) => 2,
            What::Suspended => 3,
            What::Resumed => 4,
            What::Checkpointed => 5,
            What::Restarted => 6,
        });
        if let Some(part) = mark.what.part() {
            self.part(part);
        }
    }

    fn open(&mut self, open: &Open, tears: u64) {
        // All fields, by name: a new one is not forgotten here.
        let Open {
            seen,
            torn,
            tears: own_tears,
            waits,
            released_before,
            pruned,
            deletion,
            start,
            began,
            submit,
            number,
            placed,
            limit,
            anchor,
            assigned,
            marks,
        } = open;
        for flag in [*seen, *torn || *own_tears != tears, *waits, *released_before, *pruned] {
            self.flag(flag);
        }
        self.0.push(match deletion {
            Deletion::No => 0,
            Deletion::Asked => 1,
            Deletion::NodeDown => 2,
        });
        self.option(*start, Self::signed);
        self.option(*began, Self::signed);
        self.option(*submit, Self::signed);
        self.option(number.map(u64::from), Self::number);
        self.option(*placed, Self::digest);
        self.option(*limit, Self::number);
        self.option(*anchor, Self::anchor);
        self.option(assigned.as_deref(), Self::assigned);
        self.list(marks, Self::mark);
    }

    fn ended(&mut self, run: &EndedRun) {
        let EndedRun { start, began, number, fingerprint, file, amended, marks } = run;
        self.signed(*start);
        self.signed(*began);
        self.option(number.map(u64::from), Self::number);
        self.digest(*fingerprint);
        self.number(*file);
        self.flag(*amended);
        self.list(marks, |out, mark| out.digest(*mark));
    }
}

struct In<'a>(&'a [u8]);

impl In<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            value |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn digest(&mut self) -> Option<u64> {
        let (digest, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*digest))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<Box<[u8]>> {
        let len = usize::try_from(self.number()?).ok().filter(|len| *len <= MAX_ID)?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(text.into())
    }

    /// `None` inside: there is none. Outside: it cannot be read.
    #[expect(clippy::option_option, reason = "the outer one is for what cannot be read")]
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = usize::try_from(self.number()?).ok()?;
        // Each item has a byte at least: what is reserved is never more than what is there.
        let mut list = Vec::with_capacity(len.min(self.0.len()).min(MAX_MARKS));
        for _ in 0..len {
            list.push(read(self)?);
        }
        Some(list)
    }

    fn map<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<HashMap<Box<[u8]>, T>> {
        let list = self.list(|input| Some((input.text()?, read(input)?)))?;
        Some(list.into_iter().collect())
    }

    fn anchor(&mut self) -> Option<Anchor> {
        Some(Anchor { offset: self.signed()?, at: self.signed()? })
    }

    fn counts(&mut self) -> Option<[Option<u64>; 4]> {
        Some([
            self.option(Self::number)?,
            self.option(Self::number)?,
            self.option(Self::number)?,
            self.option(Self::number)?,
        ])
    }

    fn assigned(&mut self) -> Option<Assigned> {
        let [cores, nodes, gpus, mem_bytes] = self.counts()?;
        Some(Assigned { cores, nodes, gpus, mem_bytes })
    }

    fn part(&mut self) -> Option<Box<Part>> {
        let (start, submit) = (self.signed()?, self.option(Self::signed)?);
        let (walltime, placed) = (self.option(Self::number)?, self.digest()?);
        let [cores, nodes, gpus, mem_bytes] = self.counts()?;
        let allocation = Allocation { cores, nodes, gpus, mem_bytes };
        Some(Box::new(Part { start, submit, walltime, placed, allocation, assigned: self.assigned()? }))
    }

    fn mark(&mut self) -> Option<Mark> {
        let moment = Moment {
            date: self.signed()?,
            before: self.option(Self::anchor)?,
            after: self.option(Self::anchor)?,
        };
        let fingerprint = self.digest()?;
        let what = match self.byte()? {
            0 => What::Released(self.part()?),
            1 => What::Continued(self.part()?),
            2 => What::Last(self.part()?),
            3 => What::Suspended,
            4 => What::Resumed,
            5 => What::Checkpointed,
            6 => What::Restarted,
            _ => return None,
        };
        Some(Mark { moment, fingerprint, what })
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn open(&mut self) -> Option<Open> {
        Some(Open {
            seen: self.flag()?,
            torn: self.flag()?,
            tears: 0,
            waits: self.flag()?,
            released_before: self.flag()?,
            pruned: self.flag()?,
            deletion: match self.byte()? {
                0 => Deletion::No,
                1 => Deletion::Asked,
                2 => Deletion::NodeDown,
                _ => return None,
            },
            start: self.option(Self::signed)?,
            began: self.option(Self::signed)?,
            submit: self.option(Self::signed)?,
            number: self.option(Self::small)?,
            placed: self.option(Self::digest)?,
            limit: self.option(Self::number)?,
            anchor: self.option(Self::anchor)?,
            assigned: self.option(Self::assigned)?.map(Box::new),
            marks: self.list(Self::mark)?,
        })
    }

    fn ended(&mut self) -> Option<EndedRun> {
        Some(EndedRun {
            start: self.signed()?,
            began: self.signed()?,
            number: self.option(Self::small)?,
            fingerprint: self.digest()?,
            file: self.number()?,
            amended: self.flag()?,
            marks: self.list(In::digest)?.into(),
        })
    }
}

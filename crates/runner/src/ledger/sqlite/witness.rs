//! The witness beside a ledger: a small file that is no part of it, and says how far the ledger had come.
//!
//! A ledger file that is put back from a backup is sound in itself: only something that was not put back with it can
//! tell that there was more. The witness holds the ledger's own id and its last event. It is written after each commit
//! that noted events, and not synced, so that it is never ahead of what is durable: a power cut leaves it as it is or
//! behind, and never gives a false alarm. It is believed only where it is whole.

use crate::clock;
use crate::ledger::{LedgerError, Older};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

/// An event as far as a witness knows it: no event ever changes, so that another time under its number is another event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) event: i64,
    pub(super) at: i64,
}

/// What a witness says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The ledger's id: 32 hexadecimal digits.
    pub(super) ledger: String,
    pub(super) newest: Newest,
}

/// A witness, open to be written.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    ledger: String,
}

/// Bytes of the file: always as many, so that one write replaces all of it.
const LEN: usize = 187;

impl Seen {
    fn to_text(&self) -> String {
        let Newest { event, at } = self.newest;
        let said = format!(
            "amie-runner: not a part of the ledger; leave it here when a backup is put back\n{} {event:020} {at:020}\n",
            self.ledger
        );
        format!("{said}{:032x}\n", xxh3_128(said.as_bytes()))
    }

    /// Nothing where the text is not, to the byte, what is written.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.lines().nth(1)?.split(' ');
        let ledger = words.next()?.to_owned();
        let newest = Newest { event: words.next()?.parse().ok()?, at: words.next()?.parse().ok()? };
        let seen = Self { ledger, newest };
        (seen.to_text() == text).then_some(seen)
    }
}

fn place(ledger: &Path) -> PathBuf {
    super::place::beside(ledger, ".witness")
}

/// What the witness of a ledger says; nothing where there is none, or it is not whole. Where it cannot be read it cannot be
/// written either, which is said.
pub(super) fn read(ledger: &Path) -> Option<Seen> {
    let mut bytes = Vec::with_capacity(LEN);
    File::open(place(ledger)).and_then(|file| file.take(LEN as u64 + 1).read_to_end(&mut bytes)).ok()?;
    Seen::parse(&bytes)
}

/// Holds a ledger against its witness: `id` is the ledger's, `last` its last event, and `time_of` says when an event was.
pub(super) fn judge<F>(
    ledger: &Path,
    seen: Option<&Seen>,
    id: Option<&str>,
    last: Newest,
    time_of: impl FnOnce(i64) -> Result<Option<i64>, F>,
) -> Result<Option<Older>, F> {
    let Some(Seen { ledger: witnessed, newest }) = seen else { return Ok(None) };
    // A ledger that was never given an id is from before there were witnesses.
    if id.is_some_and(|id| id != witnessed) {
        return Ok(None);
    }
    if id.is_some() && (newest.event == 0 || time_of(newest.event)? == Some(newest.at)) {
        return Ok(None);
    }
    let Newest { event, at } = *newest;
    Ok(Some(Older { path: ledger.to_owned(), event: last.event, at: last.at, seen: event, seen_at: at }))
}

impl Witness {
    /// Opens the witness of a ledger, and makes it where there is none. Without one the ledger works as well, so that what
    /// stands against it is said and no more.
    pub(super) fn open(ledger: &Path, id: &str) -> Option<Self> {
        let open = || {
            let file = File::options().create(true).truncate(false).write(true).open(place(ledger))?;
            if file.metadata()?.len() > LEN as u64 {
                file.set_len(0)?;
            }
            // Root may look after a ledger that somebody else works with.
            if let Ok(owner) = std::fs::metadata(ledger) {
                let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
            }
            Ok(file)
        };
        match open() {
            Ok(file) => Some(Self { file, ledger: id.to_owned() }),
            Err(error) => {
                complain(ledger, &error);
                None
            }
        }
    }

    /// Writes what is durable by now.
    pub(super) fn write(&self, newest: Newest) -> std::io::Result<()> {
        let seen = Seen { ledger: self.ledger.clone(), newest };
        self.file.write_all_at(seen.to_text().as_bytes(), 0)
    }
}

/// Says that a ledger is without a witness.
pub(super) fn complain(ledger: &Path, error: &std::io::Error) {
    let path = place(ledger);
    tracing::warn!(
        "{}: {error}; until it can be read and written, an older ledger that is put back is not noticed",
        path.display()
    );
}

/// The witness is there, and its ledger is not.
pub(super) fn vanished(ledger: &Path, seen: &Seen) -> LedgerError {
    let seen = match seen.newest {
        Newest { event: 0, .. } => "no event yet".to_owned(),
        Newest { event, at } => format!("events up to {event} of {}", clock::show(at)),
    };
    LedgerError::Vanished { path: ledger.to_owned(), witness: place(ledger), seen }
}

/// Says that the witness is another ledger's. A new ledger may be meant; or the old one is missing.
pub(super) fn say_other(ledger: &Path, other: &Seen) {
    let name = place(ledger).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (event, at) = (other.newest.event, clock::show(other.newest.at));
    tracing::warn!(
        "{name}: another ledger was here before, with events up to {event} of {at}; this one knows nothing of what that one \
         sent. If no new one was meant, put the old one back before anything is sent"
    );
}

impl From<Older> for LedgerError {
    fn from(older: Older) -> Self {
        Self::Older(Box::new(older))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn seen() -> Seen {
        Seen {
            ledger: "0123456789abcdef0123456789abcdef".into(),
            newest: Newest { event: 17, at: 1_800_000_000 },
        }
    }

    #[test]
    fn a_witness_is_believed_whole_or_not_at_all() {
        let text = seen().to_text();
        let line = "\n0123456789abcdef0123456789abcdef 00000000000000000017 00000000001800000000\n";
        assert!(text.contains(line) && text.len() == LEN, "{} bytes: {text}", text.len());
        let mut later = seen();
        later.newest.event = i64::MAX;
        assert_eq!(later.to_text().len(), LEN);
        let bytes = text.as_bytes();
        assert_eq!(Seen::parse(bytes), Some(seen()));
        let mut differ = 0;
        for end in 0..bytes.len() {
            assert_eq!(Seen::parse(&bytes[..end]), None, "{end} bytes of it");
            // The beginning of one and the end of another: a write that was torn.
            let torn = [&later.to_text().as_bytes()[..end], &bytes[end..]].concat();
            let whole = torn == bytes || torn == later.to_text().as_bytes();
            assert_eq!(Seen::parse(&torn).is_some(), whole, "torn at {end}");
            differ += usize::from(!whole);
            let mut flipped = bytes.to_vec();
            flipped[end] ^= 1;
            assert_eq!(Seen::parse(&flipped), None, "another byte at {end}");
        }
        assert!(differ > 50, "{differ} torn ones");
        assert_eq!(Seen::parse(&[bytes, b"\n"].concat()), None);
        assert_eq!(Seen::parse(&[0xA5; LEN]), None);
    }

    #[test]
    fn a_ledger_is_older_where_it_lacks_the_event_that_was_seen() {
        let judged = |id: Option<&str>, times: &[i64]| {
            let last = Newest { event: times.len() as i64, at: times.last().copied().unwrap_or(0) };
            let time_of = |event: i64| Ok::<_, Infallible>(times.get(event as usize - 1).copied());
            let Ok(older) = judge(Path::new("l.db"), Some(&seen()), id, last, time_of);
            older.map(|older| (older.event, older.seen))
        };
        let (id, other) = (seen().ledger, "f".repeat(32));
        let known: Vec<i64> = (0..16).chain([1_800_000_000, 1_800_000_001]).collect();
        assert_eq!(judged(Some(&id), &known), None);
        assert_eq!(judged(Some(&id), &known[..17]), None, "as far as was seen");
        assert_eq!(judged(Some(&id), &known[..16]), Some((16, 17)));
        assert_eq!(judged(Some(&id), &(0..20).collect::<Vec<_>>()), Some((20, 17)), "another event 17");
        assert_eq!(judged(None, &known), Some((18, 17)), "from before there were witnesses");
        assert_eq!(judged(Some(&other), &known[..3]), None, "another ledger");
        let Ok(unseen) = judge(Path::new("l.db"), None, Some(&id), Newest { event: 3, at: 3 }, |_| {
            Ok::<_, Infallible>(None)
        });
        assert_eq!(unseen, None);
    }
}

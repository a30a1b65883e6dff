//! The ledger as a power cut would leave it.
//!
//! A real run is recorded with strace(1): every write to the ledger's files, every fsync, every byte to the service, in
//! their order. From that, the folder is rebuilt as a disk could hold it when the power goes: everything up to the last
//! fsync of each file, and of what came after it nothing, all, the first few, or any few, the last of them torn at a
//! sector. Names of new and deleted files come and go with the folder's own fsync, which is what POSIX promises and less
//! than most file systems do.
//!
//! Each such folder is opened. Either the ledger is sound, and knows as sent whatever the service had been sent by
//! then; or it is refused by name.

use super::{Dice, long, site};
use crate::support::{Service, Site, fixtures};
use runner::ledger::{Binding, Find, Ledger, LedgerError, SqliteLedger, State};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use usage_sandbox::Settings;

/// The files that a ledger is, and was while it was made; and its witness, which must never be ahead of it.
const FILES: [&str; 6] = [
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-journal",
    "ledger.db.new",
    "ledger.db.new-journal",
    "ledger.db.witness",
];

/// What the run did, as far as a power cut is concerned.
#[derive(Debug)]
enum Step {
    /// A file of the ledger was made.
    Create(String),
    /// Bytes were written to it.
    Write(String, u64, Vec<u8>),
    /// It was cut to a length.
    Cut(String, u64),
    /// It was synced: what was written is safe.
    Sync(String),
    /// The folder was synced: names are safe.
    SyncFolder,
    /// A file was deleted.
    Unlink(String),
    /// A file got another name.
    Rename(String, String),
    /// Bytes went to the service.
    Sent(Vec<u8>),
}

/// Reads what strace wrote with `-f -y -xx`: all strings are in hexadecimal, nothing can be mistaken.
struct Trace {
    folder: String,
    steps: Vec<Step>,
    /// What a thread began and has not ended.
    begun: BTreeMap<String, String>,
    /// Where the next plain write to a file goes.
    places: BTreeMap<String, u64>,
    known: BTreeSet<String>,
}

impl Trace {
    fn read(text: &str, folder: &Path) -> Vec<Step> {
        let mut trace = Self {
            folder: folder.to_str().unwrap().to_owned(),
            steps: Vec::new(),
            begun: BTreeMap::new(),
            places: BTreeMap::new(),
            known: BTreeSet::new(),
        };
        for line in text.lines() {
            trace.line(line);
        }
        trace.steps
    }

    fn line(&mut self, line: &str) {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            self.sent(begun);
            self.begun.insert(thread.to_owned(), begun.trim_end().to_owned());
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let end = resumed.split_once(" resumed>").unwrap().1;
            if let Some(begun) = self.begun.remove(thread) {
                self.ended(&format!("{begun}{end}"));
            }
        } else if rest.contains('(') {
            self.sent(rest);
            self.ended(rest);
        }
    }

    /// What goes to the service counts from the moment that the call begins.
    fn sent(&mut self, call: &str) {
        let name = call.split('(').next().unwrap_or_default();
        let socket = call.contains("<TCP") || call.contains("<\\x73\\x6f\\x63\\x6b\\x65\\x74"); // "socket"
        if socket && matches!(name, "write" | "writev" | "sendto" | "sendmsg") {
            self.steps.push(Step::Sent(strings(call).concat()));
        }
    }

    /// What happens to files counts when the call has ended, and only where it went well.
    fn ended(&mut self, call: &str) {
        let (name, arguments) = call.split_once('(').unwrap();
        let Some((arguments, result)) = arguments.rsplit_once(") ") else { return };
        let result = result.trim_start().trim_start_matches('=').trim_start();
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let file = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path);
        match name {
            "openat" => {
                let path = String::from_utf8(strings(arguments).concat()).unwrap();
                if let Some(file) = self.mine(&path)
                    && arguments.contains("O_CREAT")
                    && self.known.insert(file.clone())
                {
                    self.steps.push(Step::Create(file));
                }
            }
            "unlink" | "unlinkat" => {
                let path = String::from_utf8(strings(arguments).concat()).unwrap();
                if let Some(file) = self.mine(&path) {
                    self.known.remove(&file);
                    self.steps.push(Step::Unlink(file));
                }
            }
            "rename" | "renameat" | "renameat2" => {
                let paths = strings(arguments);
                let names: Vec<_> =
                    paths.into_iter().map(|path| self.mine(&String::from_utf8(path).unwrap())).collect();
                match names.as_slice() {
                    [None, None] => {}
                    [Some(from), Some(to)] => {
                        self.known.remove(from);
                        self.known.insert(to.clone());
                        self.steps.push(Step::Rename(from.clone(), to.clone()));
                    }
                    _ => panic!("this test does not know what {call} does"),
                }
            }
            _ => {
                let Some(path) = file else { return };
                let path = String::from_utf8(unhex(path)).unwrap();
                if path == self.folder && name == "fsync" {
                    self.steps.push(Step::SyncFolder);
                }
                let Some(file) = self.mine(&path) else { return };
                let last = arguments.rsplit(", ").next().unwrap_or_default();
                match name {
                    "fsync" | "fdatasync" => self.steps.push(Step::Sync(file)),
                    "ftruncate" => self.steps.push(Step::Cut(file, last.parse().unwrap())),
                    "pwrite64" => {
                        let bytes = strings(arguments).concat();
                        assert_eq!(result.parse(), Ok(bytes.len()), "a write in part");
                        self.steps.push(Step::Write(file, last.parse().unwrap(), bytes));
                    }
                    "lseek" => drop(self.places.insert(file, result.parse().unwrap())),
                    "write" => {
                        let bytes = strings(arguments).concat();
                        assert_eq!(result.parse(), Ok(bytes.len()), "a write in part");
                        let place = self.places.entry(file.clone()).or_default();
                        let start = *place;
                        *place += bytes.len() as u64;
                        self.steps.push(Step::Write(file, start, bytes));
                    }
                    other => panic!("this test does not know what {other} does to {file}"),
                }
            }
        }
    }

    /// The files that a ledger is: neither the lock (empty) nor the index of the log (made anew from it).
    fn mine(&self, path: &str) -> Option<String> {
        // The processes work in the folder itself.
        let name = path.strip_prefix("./").or_else(|| path.strip_prefix(&self.folder)?.strip_prefix('/'))?;
        FILES.contains(&name).then(|| name.to_owned())
    }
}

/// The quoted strings of a call.
fn strings(call: &str) -> Vec<Vec<u8>> {
    call.split('"').skip(1).step_by(2).map(unhex).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

/// A disk between two fsyncs.
#[derive(Debug, Clone, Default)]
struct Disk {
    files: Vec<Inode>,
    /// Names that are safe.
    names: BTreeMap<String, usize>,
    /// Names as processes see them.
    seen: BTreeMap<String, usize>,
    /// What happened to names since the folder was synced.
    moves: Vec<Vec<(String, Option<usize>)>>,
}

/// A file's bytes that are safe, and what was done since.
#[derive(Debug, Clone, Default)]
struct Inode {
    safe: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Cut(len) => bytes.resize(*len as usize, 0),
        Change::Write(offset, written) => {
            let (start, end) = (*offset as usize, *offset as usize + written.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(written);
        }
    }
}

/// Files by name.
type Folder = BTreeMap<String, Vec<u8>>;

/// What of the last changes a power cut leaves.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// Nothing that was not synced.
    Nothing,
    /// Everything.
    All,
    /// The first so many of all changes, the last of them torn.
    First(usize),
    /// Any of them, in any order of arrival, each whole or torn.
    Any(u64),
}

impl Disk {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Create(name) => {
                self.files.push(Inode::default());
                let inode = self.files.len() - 1;
                self.seen.insert(name.clone(), inode);
                self.moves.push(vec![(name.clone(), Some(inode))]);
            }
            Step::Unlink(name) => {
                self.seen.remove(name);
                self.moves.push(vec![(name.clone(), None)]);
            }
            Step::Rename(from, to) => {
                let inode = self.seen.remove(from).unwrap();
                self.seen.insert(to.clone(), inode);
                self.moves.push(vec![(from.clone(), None), (to.clone(), Some(inode))]);
            }
            Step::Write(name, offset, bytes) => self.change(name, Change::Write(*offset, bytes.clone())),
            Step::Cut(name, len) => self.change(name, Change::Cut(*len)),
            Step::Sync(name) => {
                let inode = &mut self.files[self.seen[name]];
                for change in std::mem::take(&mut inode.changes) {
                    apply(&mut inode.safe, &change);
                }
            }
            Step::SyncFolder => {
                self.names = self.seen.clone();
                self.moves.clear();
            }
            Step::Sent(_) => {}
        }
    }

    fn change(&mut self, name: &str, change: Change) {
        self.files[self.seen[name]].changes.push(change);
    }

    /// Changes that are not safe.
    fn loose(&self) -> usize {
        self.files.iter().map(|inode| inode.changes.len()).sum::<usize>() + self.moves.len()
    }

    /// The folder after a power cut.
    fn cut(&self, leaves: Leaves) -> Folder {
        let mut dice = Dice(match leaves {
            Leaves::Any(seed) => seed,
            Leaves::First(count) => count as u64,
            _ => 0,
        });
        let mut left = match leaves {
            Leaves::Nothing => 0,
            Leaves::First(count) => count,
            _ => usize::MAX,
        };
        let mut names = self.names.clone();
        // Names change in their order: that is what a journal of names is for.
        let moves = match leaves {
            Leaves::Nothing => 0,
            Leaves::All => self.moves.len(),
            Leaves::First(_) | Leaves::Any(_) => dice.below(self.moves.len() as u64 + 1) as usize,
        };
        for (name, inode) in self.moves.iter().take(moves).flatten() {
            match inode {
                Some(inode) => names.insert(name.clone(), *inode),
                None => names.remove(name),
            };
        }
        let mut folder = Folder::new();
        for (name, inode) in names {
            let inode = &self.files[inode];
            let mut bytes = inode.safe.clone();
            for change in &inode.changes {
                let torn = match leaves {
                    Leaves::Nothing => break,
                    Leaves::All => false,
                    Leaves::First(_) if left == 0 => break,
                    Leaves::First(_) => {
                        left -= 1;
                        left == 0
                    }
                    Leaves::Any(_) => match dice.below(4) {
                        0 => continue,
                        1 => true,
                        _ => false,
                    },
                };
                match change {
                    // Sectors of 512 bytes are written whole.
                    Change::Write(offset, written) if torn && written.len() > 512 => {
                        let kept = 512 * (1 + dice.below(written.len() as u64 / 512 - 1)) as usize;
                        apply(&mut bytes, &Change::Write(*offset, written[..kept].to_vec()));
                    }
                    change => apply(&mut bytes, change),
                }
            }
            folder.insert(name, bytes);
        }
        folder
    }
}

/// Runs under strace, two nights one after the other; nothing where strace may not trace here.
fn record(site: &Site) -> Option<Vec<Step>> {
    let trace = site.path("trace.txt");
    let runner = env!("CARGO_BIN_EXE_amie-runner");
    let nights = format!("'{runner}' run --wait 10; cp later.txt sacct/later.txt; '{runner}' run --wait 10");
    let status = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "16777216", "-e", "signal=none", "-o"])
        .arg(&trace)
        .args([
            "-e",
            "trace=openat,lseek,pwrite64,pwritev,write,writev,sendto,sendmsg,fdatasync,fsync,ftruncate,\
                fallocate,rename,renameat,renameat2,unlink,unlinkat",
        ])
        .args(["sh", "-c", &nights])
        .current_dir(site.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    if !status.is_ok_and(|status| matches!(status.code(), Some(0 | 1))) || !text.contains("fsync(") {
        assert!(std::env::var_os("AMIE_REQUIRE_STRACE").is_none(), "strace is required, and does not trace");
        return None;
    }
    let folder = site.folder.path().canonicalize().unwrap();
    Some(Trace::read(&text, &folder))
}

/// The ledger keys in what was sent.
fn keys_in(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let parts = text.split("\"LocalReference\":\"").skip(1);
    parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
}

/// What became of the folders.
#[derive(Debug, Default)]
struct Seen {
    sound: u64,
    refused: BTreeMap<String, u64>,
}

/// Removes every file of a ledger but its lock.
fn clear(folder: &Path) {
    for name in FILES.into_iter().chain(["ledger.db-shm"]) {
        let _ = std::fs::remove_file(folder.join(name));
    }
}

/// Writes the folder out, opens the ledger, and holds it against what had been sent.
fn look(folder: &Folder, at: &Path, binding: &Binding, sent: &BTreeSet<String>, what: &str, seen: &mut Seen) {
    clear(at);
    for (name, bytes) in folder {
        std::fs::write(at.join(name), bytes).unwrap();
    }
    // The index of the log is in memory that the disk may hold anything of.
    std::fs::write(at.join("ledger.db-shm"), [0xA5; 32_768]).unwrap();
    let mut ledger = match SqliteLedger::open(&at.join("ledger.db"), binding, 1) {
        Ok(ledger) => ledger,
        Err(error @ (LedgerError::Corrupt { .. } | LedgerError::NotALedger { .. })) => {
            *seen.refused.entry(error.to_string().replace(at.to_str().unwrap(), "")).or_default() += 1;
            return;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(ledger.verify().unwrap(), [], "{what}");
    for key in sent {
        let row = ledger.find(&Find::Key(key.clone()), 1).unwrap();
        let state = row.first().map(|row| row.state);
        let known =
            state.is_some_and(|state| !matches!(state, State::Held | State::Pending | State::Superseded));
        assert!(known, "{what}: {key} had been sent, and the ledger says {state:?}");
    }
    ledger.recover(2).unwrap();
    assert_eq!(ledger.verify().unwrap(), [], "{what}, recovered");
    seen.sound += 1;
}

#[test]
fn after_a_power_cut_the_ledger_is_sound_and_what_was_sent_is_never_forgotten() {
    // What is stored and not answered is of unknown fate: the second night sends it again.
    let faults = vec!["drop-after-storing@post#2".parse().unwrap()];
    let service = Service::start(Settings { faults, ..Settings::default() });
    let site = site(&service);
    // The second night has a file more: the same jobs under other numbers.
    let day = std::fs::read_to_string(fixtures().join("demo/sacct/testhpc-2026-11-23.txt")).unwrap();
    let later: String = day.lines().map(|line| format!("{}\n", line.replacen('|', "99|", 2))).collect();
    site.write("later.txt", &later.replacen("JobIDRaw99|JobID99|", "JobIDRaw|JobID|", 1));
    let Some(steps) = record(&site) else {
        eprintln!("skipped: strace is not here, or may not trace");
        return;
    };
    let mut dice = Dice::new();
    let seed = dice.0;
    println!("seed {seed}: repeat with AMIE_SEED={seed}");
    let any = if long() { 60 } else { 6 };
    let binding = Binding { endpoint: service.url(), site: "TestSite".to_owned() };
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut seen = Seen::default();
    let (mut disk, mut sent, mut syncs, mut folders) = (Disk::default(), BTreeSet::new(), 0, Vec::new());
    for (number, step) in steps.iter().enumerate() {
        if let Step::Sent(bytes) = step {
            sent.extend(keys_in(bytes));
        }
        // The moment before anything becomes safe is the worst: most was done since the last time.
        if matches!(step, Step::Sync(_) | Step::SyncFolder) || number + 1 == steps.len() {
            syncs += 1;
            let loose = disk.loose();
            let mut cuts = vec![Leaves::Nothing, Leaves::All];
            let stride = if long() { 1 } else { (loose / 4).max(1) };
            cuts.extend((1..loose).step_by(stride).map(Leaves::First));
            cuts.extend((0..any).map(|_| Leaves::Any(dice.next())));
            for leaves in cuts {
                let folder = disk.cut(leaves);
                let what = format!("seed {seed}: step {number} of {}, {leaves:?}", steps.len());
                look(&folder, place.path(), &binding, &sent, &what, &mut seen);
                if dice.below(40) == 0 {
                    folders.push((what, folder));
                }
            }
        }
        disk.step(step);
    }
    println!("{syncs} syncs, {} records sent, {seen:?}", sent.len());
    assert!(
        syncs > 40 && sent.len() > 160 && seen.sound > 300,
        "{syncs} syncs, {} sent, {seen:?}",
        sent.len()
    );
    assert_eq!(seen.refused, BTreeMap::new(), "SQLite recovers from every power cut");
    // The program itself goes on from some of them.
    std::fs::remove_file(site.path("sacct/later.txt")).unwrap();
    let later: BTreeSet<String> = later_ids(&later);
    for (what, folder) in folders.iter().take(if long() { 100 } else { 8 }) {
        clear(site.folder.path());
        for (name, bytes) in folder {
            std::fs::write(site.path(name), bytes).unwrap();
        }
        std::fs::write(site.path("sacct/later.txt"), std::fs::read(site.path("later.txt")).unwrap()).unwrap();
        super::run_to_the_end(&site, what);
        let held: Vec<_> =
            super::held_by(&service).into_iter().filter(|record| !later.contains(&record[1])).collect();
        assert_eq!(held, super::wanted().0, "{what}");
    }
}

/// The job ids of the file of the second night.
fn later_ids(text: &str) -> BTreeSet<String> {
    text.lines().skip(1).map(|line| line.split('|').nth(1).unwrap().to_owned()).collect()
}

//! Where a ledger may live: a local file system, and one runner at a time.

use crate::ledger::LedgerError;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// File systems where POSIX locks or write ordering do not hold between hosts, by `f_type` (statfs(2), and
/// the kernel's and vendors' `super.h` files for those that the man page lacks).
const NETWORK: [(u32, &str); 17] = [
    (0x0000_6969, "NFS"),
    (0x0000_517B, "SMB"),
    (0xFE53_4D42, "SMB2"),
    (0xFF53_4D42, "CIFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x0102_1997, "9P"),
    (0x7461_636F, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0xAAD7_AAEA, "PanFS"),
    (0x2003_0528, "OrangeFS"),
    (0x7375_7245, "Coda"),
];

fn network_kind(f_type: u64) -> Option<&'static str> {
    // Sign extension of a 32-bit f_type differs by platform: the low half tells.
    let low = u32::try_from(f_type & 0xFFFF_FFFF).ok()?;
    NETWORK.iter().find(|(magic, _)| *magic == low).map(|(_, kind)| *kind)
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Refuses network file systems.
pub(super) fn check_local(path: &Path) -> Result<(), LedgerError> {
    let directory = directory(path);
    let stat = rustix::fs::statfs(&directory)
        .map_err(|error| LedgerError::Io { path: directory.clone(), source: error.into() })?;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, trivial_numeric_casts)]
    // width differs by platform
    let f_type = stat.f_type as u64;
    match network_kind(f_type) {
        Some(kind) => Err(LedgerError::NetworkFileSystem { path: directory, kind }),
        None => Ok(()),
    }
}

/// Bytes of a page of a new ledger: a quarter less work than with SQLite's default where rows go in (measured).
pub(super) const NEW_PAGE: i64 = 8192;

/// Bytes of a page as the beginning of the file says; SQLite's default where it says nothing that can be.
fn page_of(first: &[u8]) -> u64 {
    // Two bytes, big endian; 1 stands for 65,536.
    let said = first.get(16..18).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()).map(u16::from_be_bytes);
    match said {
        Some(1) => 65_536,
        Some(page) if page >= 512 && page.is_power_of_two() => page.into(),
        _ => 4096,
    }
}

/// True where a ledger is at a path. Where its log lies there alone, somebody has moved the ledger away from it: SQLite
/// would put what is in the log into the next ledger of that name. A file that lacks a part of a page is refused, unless
/// the log beside it may have it: SQLite takes a file of less than a page for a new database, and with it all memory of
/// what was sent would be gone in silence; and it reads the missing end of a last page as zeros.
pub(super) fn is_there(path: &Path) -> Result<bool, LedgerError> {
    let len = match std::fs::metadata(path) {
        Ok(file) => file.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let left = beside(path, "-wal");
            return match std::fs::metadata(&left) {
                Ok(log) if log.len() > 0 => Err(LedgerError::LogAlone { path: path.to_owned(), log: left }),
                _ => Ok(false),
            };
        }
        Err(source) => return Err(LedgerError::Io { path: path.to_owned(), source }),
    };
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(18).read_to_end(&mut first));
    read.map_err(|source| LedgerError::Io { path: path.to_owned(), source })?;
    if first.get(..16).is_some_and(|magic| magic != b"SQLite format 3\0") {
        return Err(LedgerError::NotALedger { path: path.to_owned() });
    }
    let page = page_of(&first);
    let log = || std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    if len < page || (len % page != 0 && log() == 0) {
        let detail = format!("it has {len} bytes, which are not whole pages of {page}");
        return Err(LedgerError::Corrupt { path: path.to_owned(), detail });
    }
    Ok(true)
}

/// Makes a ledger under another name, and gives it its own once it is whole and on the disk.
pub(super) fn create(
    path: &Path,
    make: impl FnOnce(&Path) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let new = beside(path, ".new");
    let io = |at: &Path| {
        let at = at.to_owned();
        |source| LedgerError::Io { path: at, source }
    };
    // What a run that died while it made one has left.
    for left in [new.clone(), beside(path, ".new-journal")] {
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&left)(error)),
            _ => {}
        }
    }
    make(&new)?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(io(&new))?;
    std::fs::rename(&new, path).map_err(io(path))?;
    let folder = directory(path);
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(io(&folder))
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Takes the lock beside the ledger for the life of the returned file. The kernel lets go of it when the process ends,
/// however it ends.
pub(super) fn lock(path: &Path) -> Result<File, LedgerError> {
    let path = beside(path, ".lock");
    let io = |source| LedgerError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    // A process that is being started holds a copy of its parent's locks from fork to exec; and a runner that has
    // just ended may still be on its way out. Neither is another runner: wait a moment before calling it one.
    for _ in 0..PATIENCE {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(TryLockError::Error(source)) => return Err(LedgerError::Io { path, source }),
        }
    }
    Err(LedgerError::Busy { path })
}

/// Attempts at the lock, 20 ms apart: one second.
const PATIENCE: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        // tmpfs, ext4, xfs, overlayfs, zfs, btrfs
        for local in [0x0102_1994, 0xEF53, 0x5846_5342, 0x794C_7630, 0x2FC1_2FC1, 0x9123_683E] {
            assert_eq!(network_kind(local), None, "{local:x}");
        }
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(0x0BD0_0BD0), Some("Lustre"));
        assert_eq!(network_kind(0xFFFF_FFFF_FF53_4D42), Some("CIFS"), "sign-extended");
    }

    #[test]
    fn the_size_of_a_page_is_what_the_file_says() {
        let first = |bytes: [u8; 2]| [b"SQLite format 3\0".as_slice(), &bytes].concat();
        for (bytes, page) in
            [([0x10, 0], 4096), ([0x20, 0], 8192), ([0, 1], 65_536), ([0, 0], 4096), ([7, 7], 4096)]
        {
            assert_eq!(page_of(&first(bytes)), page);
        }
        assert_eq!(page_of(b"SQLite"), 4096);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let first = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(LedgerError::Busy { .. })));
        drop(first);
        assert!(lock(&path).is_ok());
        assert!(check_local(&path).is_ok());
    }
}

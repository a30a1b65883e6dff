//! No space left, wherever a run may meet it: a file system of its own size for each run, page by page.

use super::{finish, long, site};
use crate::support::{Service, Site};
use runner::ledger::{Find, Ledger, SqliteLedger, State};
use std::path::{Path, PathBuf};
use std::process::Command;
use usage_sandbox::Settings;

/// A file system in memory, of a size that can be changed.
struct Disk(PathBuf);

impl Disk {
    /// Nothing where this machine does not let us: it takes root.
    fn new(folder: &Path, kilobytes: u64) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={kilobytes}k,mode=0777");
        mount(&["-t", "tmpfs", "-o", &size, "amie-runner-test"], folder).then(|| Self(folder.to_owned()))
    }

    fn resize(&self, kilobytes: u64) {
        assert!(mount(&["-o", &format!("remount,size={kilobytes}k")], &self.0), "it cannot be made larger");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = as_root("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn as_root(program: &str) -> Command {
    if rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn mount(options: &[&str], folder: &Path) -> bool {
    let mut command = as_root("mount");
    command.args(options).arg(folder).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Everything that reached the service is something that the ledger knows to have sent.
fn nothing_was_sent_in_secret(site: &Site, service: &Service, what: &str) {
    let ledger = site.path("disk/ledger.db");
    let sent = service.state().loaded;
    if sent.is_empty() {
        return;
    }
    let ledger = SqliteLedger::open_reader(&ledger).unwrap_or_else(|error| panic!("{what}: {error}"));
    for record in sent {
        let key = record.local_reference.unwrap();
        let rows = ledger.find(&Find::Key(key.clone()), 1).unwrap();
        let state = rows.first().map(|row| row.state);
        let known =
            state.is_some_and(|state| !matches!(state, State::Held | State::Pending | State::Superseded));
        assert!(known, "{what}: {key} was sent, and the ledger says {state:?}");
    }
}

#[test]
fn wherever_the_disk_is_full_it_is_said_and_the_next_run_with_space_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    if Disk::new(&folder.path().join("disk"), 64).is_none() {
        eprintln!(
            "skipped: full disks need a file system of their own, and mount(8) says no (it takes root)"
        );
        return;
    }
    // Pages of 4 KiB. Every one in the long run; otherwise every fifth.
    let step = if long() { 4 } else { 20 };
    let (mut kilobytes, mut full, mut sent_then_full) = (4, 0, 0);
    loop {
        let service = Service::start(Settings::default());
        let site = site(&service);
        site.configure("sqlite:ledger.db", "sqlite:disk/ledger.db");
        let disk = Disk::new(&site.path("disk"), kilobytes).unwrap();
        let what = format!("{kilobytes} KiB");
        let said = site.run(&["run", "--wait", "10"]);
        assert!(!said.stderr.contains("panicked"), "{what}: {}", said.stderr);
        let got_through = said.stderr.contains("What needs a person");
        if !got_through {
            assert_eq!(said.status, 3, "{what}: {}", said.stderr);
            assert!(
                said.stderr.contains("no space left for the ledger; free some"),
                "{what}: {}",
                said.stderr
            );
            full += 1;
            sent_then_full += u64::from(service.state().posts > 0);
        }
        disk.resize(64 * 1024);
        nothing_was_sent_in_secret(&site, &service, &what);
        finish(&site, &service, &what);
        let ledger = SqliteLedger::open_reader(&site.path("disk/ledger.db")).unwrap();
        assert_eq!(ledger.verify().unwrap(), [], "{what}");
        drop((ledger, disk));
        if got_through {
            break;
        }
        kilobytes += step;
    }
    assert!(
        full >= 10 && sent_then_full >= 3,
        "{full} full, {sent_then_full} of them after something was sent"
    );
}

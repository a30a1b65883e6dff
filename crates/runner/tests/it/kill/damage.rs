//! A ledger file that is not what it was: refused, with what to do; nothing is sent.

use super::{finish, site};
use crate::support::{Service, Site};
use std::os::unix::fs::FileExt;
use usage_sandbox::Settings;

/// A site whose first night is over.
fn after_a_night(service: &Service) -> Site {
    let site = site(service);
    finish(&site, service, "the first night");
    site
}

fn overwrite(site: &Site, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(site.path("ledger.db")).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_ledger_that_was_cut_off_or_is_something_else_is_refused_with_what_to_do() {
    let service = Service::start(Settings::default());
    let site = after_a_night(&service);
    let sound = std::fs::read(site.path("ledger.db")).unwrap();
    let posts = service.state().posts;
    let len = sound.len();
    let mut damaged: Vec<(String, Vec<u8>, &str)> = Vec::new();
    for kept in [1, 99, 100, 512, 4_095, 4_096, 4_097, len / 2, len - 4_096, len - 1] {
        damaged.push((format!("{kept} of {len} bytes"), sound[..kept].to_vec(), "restore a backup"));
    }
    damaged.push(("text".to_owned(), b"not a database at all, but a text\n".repeat(200), "restore a backup"));
    let mut zeroed = sound.clone();
    zeroed[..4_096].fill(0);
    damaged.push(("first page zeroed".to_owned(), zeroed, "restore a backup"));
    for (what, bytes, advice) in damaged {
        std::fs::write(site.path("ledger.db"), &bytes).unwrap();
        for command in [&["run"][..], &["status"], &["held"]] {
            let said = site.run(command);
            assert_eq!(said.status, 2, "{what}: {command:?}: {}{}", said.stdout, said.stderr);
            assert!(
                said.stderr.contains("ledger.db") && said.stderr.contains(advice),
                "{what}: {command:?}: {}",
                said.stderr
            );
        }
        assert_eq!(std::fs::read(site.path("ledger.db")).unwrap(), bytes, "{what}: it was touched");
        assert_eq!(service.state().posts, posts, "{what}: something was sent");
    }
    // The backup is put back, and all is as it was.
    std::fs::write(site.path("ledger.db"), &sound).unwrap();
    let night = site.run(&["run"]);
    assert_eq!((night.status, service.state().posts), (0, posts), "{}", night.stderr);
}

#[test]
fn a_page_that_was_overwritten_never_sends_anything_twice_in_silence() {
    let service = Service::start(Settings::default());
    let site = after_a_night(&service);
    let sound = std::fs::read(site.path("ledger.db")).unwrap();
    let state = service.state();
    // Every page but the first, one by one, filled with what a disk might give back instead.
    for page in 1..sound.len() / 4_096 {
        std::fs::write(site.path("ledger.db"), &sound).unwrap();
        let _ = std::fs::remove_file(site.path("ledger.db-wal"));
        // A run before may have noted something, and then this ledger would be refused for being older.
        let _ = std::fs::remove_file(site.path("ledger.db.witness"));
        overwrite(&site, page as u64 * 4_096, &[0xA5; 4_096]);
        let night = site.run(&["run"]);
        assert!(!night.stderr.contains("panicked"), "page {page}: {}", night.stderr);
        if night.status == 2 {
            let words = ["ledger.db: the ledger file is damaged", "the ledger contradicts itself"];
            let named = words.iter().any(|word| night.stderr.contains(word));
            let told = night.stderr.contains("restore a backup") || night.stderr.contains("`ledger verify`");
            assert!(named && told, "page {page}: {}", night.stderr);
        }
        // Whatever the run made of it: nothing that the service had was sent again.
        assert_eq!(service.state().posts, state.posts, "page {page}: {}", night.stderr);
    }
}

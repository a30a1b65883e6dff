//! The pages of `docs/charging`: each page's configuration maps the page's jobs to the charges that the page works out by hand.

use crate::support::run;
use amie_usage::Decimal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/charging"))
}

/// A page, taken apart.
#[derive(Default)]
struct Page {
    /// The configuration's fragment.
    toml: String,
    /// Files that the page shows: name and text.
    files: Vec<(String, String)>,
    /// Job, arithmetic, charge.
    jobs: Vec<[String; 3]>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut page = Self::default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let block: String = lines
                    .by_ref()
                    .take_while(|line| *line != "```")
                    .map(|line| format!("{line}\n"))
                    .collect();
                match info.split_once(' ') {
                    Some((_, name)) => page.files.push((name.to_owned(), block)),
                    None if info == "toml" => page.toml += &block,
                    None => panic!("{}: a block without a name: {info}", path.display()),
                }
            } else if let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) {
                let cells: Vec<_> = row.split(" | ").map(str::to_owned).collect();
                let cells: [String; 3] = cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"));
                if cells[0] != "job" && cells[0] != "---" {
                    page.jobs.push(cells);
                }
            }
        }
        page
    }

    /// The whole configuration: what every site has, and the fragment.
    fn config(&self) -> String {
        let jobs = &self.files.iter().find(|(name, _)| name == "jobs.txt").expect("jobs.txt").1;
        let kind = if jobs.starts_with("JobID|") { "sacct" } else { "pbs" };
        format!(
            "[site]\nname = \"S\"\ntimezone = \"UTC\"\n\
             [projects]\nmatch = [{{ account = '.*', project = \"$0\" }}]\n\
             [[source]]\nname = \"jobs\"\nkind = \"{kind}\"\ncluster = \"c\"\npaths = [\"jobs.txt\"]\nproject_from = [\"group\"]\n\
             {}",
            self.toml
        )
    }
}

/// What became of the page's jobs: the sum of their charges, or the reason why they are held.
fn outcomes(page: &Page) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("config.toml", &page.config());
    for (name, text) in &page.files {
        write(name, text);
    }
    let said = run(folder.path(), &["transform", "--config", "config.toml", "--held", "held.json"]);
    assert!(said.status <= 1, "{}", said.stderr);
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    let lines =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let mut charges: BTreeMap<String, Decimal> = BTreeMap::new();
    for line in lines(&said.stdout) {
        let record = &line["Record"];
        let charge: Decimal = record["Charge"].as_str().unwrap().parse().unwrap();
        let sum =
            charges.entry(record["LocalRecordID"].as_str().unwrap().to_owned()).or_insert(Decimal::ZERO);
        *sum = sum.checked_add(charge).unwrap();
    }
    let mut outcomes: BTreeMap<String, String> =
        charges.into_iter().map(|(job, charge)| (job, charge.to_string())).collect();
    for line in lines(&std::fs::read_to_string(folder.path().join("held.json")).unwrap()) {
        // slurm/c/0000000101/...: the job's number is the third part.
        let key = line["key"].as_str().unwrap().split('/').nth(2).unwrap().trim_start_matches('0').to_owned();
        let job = page.jobs.iter().map(|[job, ..]| job).find(|job| job.split('.').next() == Some(&key));
        let held = format!("held: {}", line["reason"].as_str().unwrap());
        assert_eq!(outcomes.insert(job.unwrap().clone(), held), None, "{key} is charged and held");
    }
    outcomes
}

#[test]
fn every_page_charges_what_it_works_out_by_hand() {
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "README.md" {
            continue;
        }
        let page = Page::read(&path);
        assert!(page.jobs.len() >= 3, "{name}: three jobs at least");
        let mut found = outcomes(&page);
        for [job, arithmetic, charge] in &page.jobs {
            let outcome = found.remove(job);
            if charge == "0 (not sent)" {
                assert_eq!(outcome, None, "{name}: {job}");
            } else {
                assert_eq!(outcome.as_deref(), Some(charge.as_str()), "{name}: {job}: {arithmetic}");
            }
        }
        assert_eq!(found, BTreeMap::new(), "{name}: jobs that its table does not have");
        pages.insert(name);
    }
    let index = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for page in &pages {
        assert!(index.contains(&format!("]({page})")), "the index does not name {page}");
    }
    assert!(pages.len() >= 16, "{pages:?}");
}

/// The arithmetic of a page ends in the charge that its table gives, or in its first digits before it is rounded.
#[test]
fn the_arithmetic_of_every_page_ends_in_its_charge() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("README.md") {
            continue;
        }
        for [job, arithmetic, charge] in Page::read(&path).jobs {
            let Some((_, last)) = arithmetic.rsplit_once("= ") else {
                let stated = charge.starts_with("held: ") || arithmetic.contains("a tie");
                assert!(stated, "{}: {job} has no arithmetic", path.display());
                continue;
            };
            if arithmetic.contains("a tie") {
                continue;
            }
            let end = last.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(last.len());
            let shown: Decimal = last[..end].trim_end_matches('.').parse().unwrap();
            let charge: Decimal = charge.trim_end_matches(" (not sent)").parse().unwrap();
            let apart = shown.checked_sub(charge).unwrap();
            let apart = if apart.is_negative() { Decimal::ZERO.checked_sub(apart).unwrap() } else { apart };
            assert!(apart < Decimal::new(1, 2), "{}: {job}: {arithmetic} against {charge}", path.display());
        }
    }
}

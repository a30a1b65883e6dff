//! Documents say what is true: the README shows what the demo prints, promises name tests that exist.

use crate::support::run;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Puts a new text between two equal marks of a document.
fn bless(name: &str, mark: &str, new: &str) {
    let text = read(name);
    let parts: Vec<&str> = text.split(mark).collect();
    let [before, _, after] = parts.as_slice() else { panic!("{name} must have two marks {mark}") };
    std::fs::write(root().join(name), format!("{before}{mark}\n{new}\n{mark}{after}")).unwrap();
}

/// What differs from one run to the next: the sandbox's port, and how the program was called.
fn steady(text: &str) -> String {
    text.lines()
        .map(|line| match line {
            line if line.starts_with("sandbox of the Usage API") => {
                "sandbox of the Usage API: http://127.0.0.1:PORT/api/v1_test"
            }
            line if line.starts_with("explain  ") => {
                "explain  amie-runner explain --config amie-demo/config.toml 91.pbssrv"
            }
            line => line.trim_end(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let readme = read("README.md");
    let shown = readme.split("<!-- demo -->").nth(1).unwrap().trim();
    let shown = shown.strip_prefix("```text").unwrap().strip_suffix("```").unwrap().trim();
    let folder = tempfile::tempdir().unwrap();
    let printed = steady(run(folder.path(), &["demo"]).stdout.trim());
    if std::env::var_os("AMIE_BLESS").is_some() {
        return bless("README.md", "<!-- demo -->", &format!("```text\n{printed}\n```"));
    }
    assert!(shown == printed, "README.md shows another demo (AMIE_BLESS=1 writes it anew):\n{printed}");
}

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn promises_name_tests_that_exist() {
    let mut code = String::new();
    sources(&root().join("crates"), &mut code);
    let promises = read("docs/promises.md");
    let names: BTreeSet<&str> = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|quoted| quoted.rsplit("::").next())
        .filter(|name| {
            name.matches('_').count() >= 3
                && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        })
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(
            code.contains(&format!("fn {name}(")),
            "docs/promises.md names `{name}`, which no test is called"
        );
    }
}

#[test]
fn the_transition_table_in_the_documents_is_that_of_the_code() {
    let table = runner::ledger::transition_table();
    let text = read("docs/ledger.md");
    let shown = text.split("<!-- transitions -->").nth(1).unwrap().trim();
    if std::env::var_os("AMIE_BLESS").is_some() {
        return bless("docs/ledger.md", "<!-- transitions -->", table.trim());
    }
    assert_eq!(shown, table.trim(), "docs/ledger.md (AMIE_BLESS=1 writes it anew)");
}

//! The key is in nothing that any command writes, at whatever level it logs and whatever the service repeats.

use crate::support::{KEY, Service, Site, amie_runner};
use std::path::{Path, PathBuf};
use usage_sandbox::{Rule, Settings};

/// Every file below a folder.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn holds_key(bytes: &[u8]) -> bool {
    bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes())
}

/// All that the commands do in a site's life, with trace logs, each with what it wrote.
fn a_life(site: &Site, variables: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    let commands: &[&[&str]] = &[
        &["check"],
        &["check", "--json"],
        &["-vv", "transform", "--summary", "transform.json", "--held", "held.json", "--quarantine", "q.json"],
        &["run", "--dry-run"],
        &["run", "--wait", "20", "--summary", "summary.json", "--report", "report.html", "--json"],
        &["run", "--wait", "1", "--summary", "again.json", "--report", "again.html"],
        &["status"],
        &["status", "--json"],
        &["held"],
        &["held", "--json"],
        &["explain", "91.pbssrv"],
        &["explain", "--json", "91.pbssrv"],
        &["parse", "--format", "pbs", "pbs/20261101"],
        &["run", "--config", "nowhere.toml"],
        &["--help"],
    ];
    let mut said = Vec::new();
    for arguments in commands {
        let mut command = amie_runner(site.folder.path());
        command.args(*arguments).env("AMIE_LOG", "trace").env("RUST_BACKTRACE", "full");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let mut wrote = output.stdout;
        wrote.extend_from_slice(&output.stderr);
        said.push((arguments.join(" "), wrote));
    }
    said
}

/// A service that repeats the key in whatever it says of a record.
fn indiscreet() -> Service {
    let says = |what: &str| format!("{what} for the key {KEY}");
    Service::start(Settings {
        refuse: vec![Rule::new("Username", "pbdave", says("Username pbdave is not known"))],
        fail_load: vec![Rule::new("LocalRecordID", "4.pbssrv", says("no allocation"))],
        ..Settings::default()
    })
}

#[test]
fn no_command_writes_the_key() {
    for source in ["file", "variable", "credential"] {
        let service = indiscreet();
        let site = Site::new();
        site.send_to(&service.url());
        let mut variables = Vec::new();
        if source == "variable" {
            site.configure("key_file = \"api-key\"", "key_env = \"SITE_KEY\"");
            std::fs::remove_file(site.path("api-key")).unwrap();
            variables.push(("SITE_KEY", KEY));
        }
        // As systemd would lay it out: a folder of its own, one file a credential.
        let folder = site.path("credentials");
        if source == "credential" {
            site.configure("key_file = \"api-key\"", "");
            std::fs::create_dir(&folder).unwrap();
            std::fs::rename(site.path("api-key"), folder.join("api-key")).unwrap();
            variables.push(("CREDENTIALS_DIRECTORY", folder.to_str().unwrap()));
        }
        let said = a_life(&site, &variables);
        for (command, wrote) in &said {
            assert!(!holds_key(wrote), "{source}: {command}: {}", String::from_utf8_lossy(wrote));
        }
        // The test sees something: logs at trace level, the service's words without the key.
        let all: Vec<u8> = said.into_iter().flat_map(|(_, wrote)| wrote).collect();
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains("TRACE") && all.contains("DEBUG"), "{source}");
        assert!(all.contains("Username pbdave is not known for the key ****"), "{source}: {all}");
        assert!(all.contains("no allocation for the key ****"), "{source}");
        let mut written = Vec::new();
        files(site.folder.path(), &mut written);
        let named = |name: &str| written.iter().any(|path| path.ends_with(name));
        assert!(named("ledger.db") && named("report.html") && named("summary.json"), "{written:?}");
        for path in written.iter().filter(|path| !path.ends_with("api-key")) {
            assert!(!holds_key(&std::fs::read(path).unwrap()), "{source}: {}", path.display());
        }
    }
}

#[test]
fn a_process_that_sends_has_the_key_in_no_argument() {
    let service = Service::start(Settings {
        faults: vec!["slow-headers:2s@post".parse().unwrap()],
        ..Settings::default()
    });
    let site = Site::new();
    site.send_to(&service.url());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_amie-runner"))
        .current_dir(site.folder.path())
        .arg("run")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while service.state().posts == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended without sending");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for file in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{file}", child.id());
        assert!(!holds_key(&std::fs::read(path).unwrap()), "{file}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_key_that_was_put_into_the_configuration_is_not_repeated() {
    for line in
        ["key = \"KEY\"", "api_key = 'KEY'", "password = \"KEY\"", "key_file = \"x\"\nsecret = \"KEY\""]
    {
        let site = Site::new();
        site.configure("concurrency = 4", &line.replace("KEY", KEY));
        let said = site.run(&["check"]);
        assert_eq!(said.status, 2);
        let shown = miette_of(&site);
        assert!(!said.stderr.contains(KEY) && !shown.contains(KEY), "{line}: {shown}");
        assert!(shown.contains("******"), "the line is shown, the value is not: {shown}");
    }
    let site = Site::new();
    site.send_to(&format!("https://ada:{KEY}@usage.access-ci.org/api\"\nretrys = \"1"));
    let shown = miette_of(&site);
    assert!(!shown.contains(KEY) && shown.contains("ada:****"), "{shown}");
}

/// What a terminal would show of a broken configuration.
fn miette_of(site: &Site) -> String {
    let error = runner::config::Config::load(&site.path("config.toml")).unwrap_err();
    let mut text = String::new();
    miette::GraphicalReportHandler::new().with_context_lines(3).render_report(&mut text, &error).unwrap();
    text + &format!("{error} {error:?}")
}

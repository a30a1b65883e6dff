//! What the tests of the command line share: the binary, a site's folder, a sandbox on a free port.

use assert_cmd::Command;
use runner::config::Config;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use usage_sandbox::{Sandbox, Settings, State};

/// The key of test sandboxes.
pub(crate) const KEY: &str = "a-secret-that-nobody-may-see";

/// The command, in a folder, with nothing of the tester's environment that it looks at.
pub(crate) fn amie_runner(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("amie-runner").unwrap();
    command
        .current_dir(folder)
        .env_remove("AMIE_CONFIG")
        .env_remove("AMIE_LOG")
        .env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// Everything that a command said.
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Said {
    let output = amie_runner(folder).args(arguments).output().unwrap();
    Said {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The shipped fixtures.
pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"))
}

/// The text of a fixture of Slurm.
pub(crate) fn unpacked(fixture: &str) -> String {
    let bytes = std::fs::read(fixtures().join("slurm").join(fixture)).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes.as_slice()), &mut text).unwrap();
    text
}

/// A site: the shipped example in a folder of its own, with a key.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_tree(&fixtures().join("demo"), folder.path());
        let site = Self { folder };
        site.write("api-key", &format!("{KEY}\n"));
        std::fs::set_permissions(site.path("api-key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces a text in the configuration; it must be there.
    pub(crate) fn configure(&self, from: &str, to: &str) {
        let config = self.read("config.toml");
        assert!(config.contains(from), "the configuration does not contain {from:?}");
        self.write("config.toml", &config.replacen(from, to, 1));
    }

    /// Points the configuration at an address.
    pub(crate) fn send_to(&self, url: &str) {
        let config = self.read("config.toml");
        let line = config.lines().find(|line| line.starts_with("url = \"http")).unwrap().to_owned();
        self.configure(&line, &format!("url = \"{url}\""));
    }

    /// Makes the Slurm source one of JSON, with this fixture's document unpacked as its only file.
    pub(crate) fn read_json(&self, fixture: &str) {
        let config = self.read("config.toml");
        if config.contains("sacct/*.txt") {
            self.configure("kind = \"sacct\"", "kind = \"sacct-json\"");
            self.configure("\"sacct/*.txt\", \"sacct/*.txt.gz\", \"sacct/*.txt.zst\"", "\"jobs.json\"");
            self.configure("forgeable = \"warn\"", "");
        }
        self.write("jobs.json", &unpacked(fixture));
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        run(self.folder.path(), arguments)
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(&self.path("config.toml")).unwrap()
    }

    pub(crate) fn summary(&self) -> serde_json::Value {
        serde_json::from_str(&self.read("summary.json")).unwrap()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
            // Fixtures may be read-only where they are checked out; a site's files are not.
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// A sandbox on a free port, with a runtime of its own.
pub(crate) struct Service {
    runtime: tokio::runtime::Runtime,
    sandbox: Option<Sandbox>,
}

impl Service {
    pub(crate) fn start(settings: Settings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let settings = Settings {
            site: Some("TestSite".to_owned()),
            key: Some(KEY.to_owned()),
            load_delay: std::time::Duration::ZERO,
            ..settings
        };
        let sandbox = runtime.block_on(Sandbox::start(settings)).unwrap();
        Self { runtime, sandbox: Some(sandbox) }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.sandbox().base_url()
    }

    pub(crate) fn state(&self) -> State {
        self.sandbox().state()
    }

    /// Loads everything that is queued.
    pub(crate) fn settle(&self) {
        self.runtime.block_on(self.sandbox().settle());
    }

    /// Stops it: from now on connections are refused.
    pub(crate) fn stop(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            self.runtime.block_on(sandbox.stop());
        }
    }
}

/// What the demo's configuration must give, worked out by a standard-library script.
pub(crate) fn expected_records() -> Vec<[String; 4]> {
    let text = std::fs::read_to_string(fixtures().join("expected/demo-records.tsv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let columns = [column("Resource"), column("LocalRecordID"), column("SubmitTime"), column("Charge")];
    let mut records: Vec<[String; 4]> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            columns.map(|column| fields[column].to_owned())
        })
        .collect();
    records.sort();
    records
}

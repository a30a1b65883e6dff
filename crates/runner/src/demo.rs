//! What the demo brings along: real accounting data, the example configuration, and a service that misbehaves a little.

use crate::summary::write_whole;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;
use usage_sandbox::{Rule, Settings};

/// What the demo's ledger is bound to: its sandbox, whatever port that takes today.
pub const ENDPOINT: &str = "the demo's sandbox";

/// The key that the demo's sandbox wants.
const KEY: &str = "demo-key-of-no-value";

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../fixtures/demo/", $name)) as &[u8])),+]
    };
}

/// The demo's files: real output of a Slurm and an OpenPBS cluster and of `repquota`, with the example configuration
/// (see `fixtures/MANIFEST.tsv` for their origin).
const FILES: &[(&str, &[u8])] = shipped![
    "config.toml",
    "projects.csv",
    "users.csv",
    "storage-owners.csv",
    "sacct/testhpc-2026-11-23.txt",
    "pbs/20261031",
    "pbs/20261101",
    "pbs/20261123",
    "quota/scratch-2026-11-23.csv",
];

/// Lays the demo's files out in a folder. Files that are there stay as they are: they may have been edited.
///
/// # Errors
/// Where the folder cannot be written.
pub fn lay_out(folder: &Path) -> io::Result<()> {
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        if !path.exists() {
            write_whole(&path, bytes)?;
        }
    }
    let key = folder.join("api-key");
    if !key.exists() {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key)?;
        file.write_all(format!("{KEY}\n").as_bytes())?;
    }
    Ok(())
}

/// The sandbox of the demo: asynchronous, with a login that it does not know, a project without that resource, and two
/// records that it takes and then cannot load.
#[must_use]
pub fn sandbox(folder: &Path, site: &str) -> Settings {
    let no_allocation = "Allocation could not be found for user pbcarol";
    Settings {
        site: Some(site.to_owned()),
        key: Some(KEY.to_owned()),
        load_delay: Duration::from_millis(400),
        refuse: vec![
            Rule::new("Username", "pbdave", "Username pbdave is not known for this site"),
            Rule::new("LocalProjectID", "p.cis240001.000", "LocalProjectID p.cis240001.000 is not known"),
        ],
        fail_load: vec![
            Rule::new("LocalRecordID", "4.pbssrv", no_allocation),
            Rule::new("LocalRecordID", "71.pbssrv", no_allocation),
        ],
        state_file: Some(folder.join("sandbox.json")),
        ..Settings::default()
    }
}

//! What a sandbox is told at its start: where it listens, whom it knows, what it refuses, how it misbehaves.

use crate::fault::Fault;
use crate::known::Known;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How a sandbox is to behave. The default is a patient service that takes every well-formed record.
///
/// ```
/// use std::time::Duration;
/// use usage_sandbox::{Rule, Settings};
/// let settings = Settings {
///     load_delay: Duration::from_millis(200),
///     fail_load: vec![Rule::new("Username", "mallory", "Allocation could not be found for user <login>")],
///     faults: vec!["html:503@post*2".parse()?],
///     ..Settings::default()
/// };
/// # assert!(settings.overwrite);
/// # Ok::<(), usage_sandbox::FaultError>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes any free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// What `XA-SITE` must be. `None`: anything but empty.
    pub site: Option<String>,
    /// What `XA-API-KEY` must be. `None`: anything but empty. Neither logged nor stored.
    pub key: Option<String>,
    /// How long a record stays queued before it is loaded, or fails to load. Default one second.
    pub load_delay: Duration,
    /// A longer body is answered with 413. Default 256 KiB.
    pub max_body_bytes: usize,
    /// A message of more records is answered with 413. Default 1,000.
    pub max_records: usize,
    /// Whom the service knows. `None`: everybody.
    pub known: Option<Known>,
    /// Records that are refused at once.
    pub refuse: Vec<Rule>,
    /// Records that are accepted, and fail when they are loaded.
    pub fail_load: Vec<Rule>,
    /// Compute records: whether the same (Resource, LocalRecordID, SubmitTime) replaces what was loaded before
    /// (default), or adds to it.
    pub overwrite: bool,
    /// Storage records with the same (Resource, LocalRecordID, CollectionTime) and adjustments with the same
    /// (Resource, LocalRecordID): whether they replace. Nobody knows what the real service does; the default is
    /// that they add, because that shows every record that was sent twice.
    pub overwrite_others: bool,
    /// Charges are returned rounded half to even to this many places, as a service with a fixed column would.
    /// `None`: as they were sent.
    pub charge_places: Option<usize>,
    /// Charges are returned as JSON numbers instead of strings.
    pub charges_as_numbers: bool,
    /// How to misbehave from the start.
    pub faults: Vec<Fault>,
    /// Where everything that was received is kept, so that a sandbox can be stopped, or killed, and started again.
    pub state_file: Option<PathBuf>,
    /// Decides which calls a fault by probability hits: the same seed and calls, the same faults.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            site: None,
            key: None,
            load_delay: Duration::from_secs(1),
            max_body_bytes: 256 * 1024,
            max_records: 1000,
            known: None,
            refuse: Vec::new(),
            fail_load: Vec::new(),
            overwrite: true,
            overwrite_others: false,
            charge_places: None,
            charges_as_numbers: false,
            faults: Vec::new(),
            state_file: None,
            seed: 0,
        }
    }
}

impl fmt::Debug for Settings {
    /// Everything but the key: people try a sandbox with the real one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("site", &self.site)
            .field("key", &self.key.as_ref().map(|_| "****"))
            .field("load_delay", &self.load_delay)
            .field("max_body_bytes", &self.max_body_bytes)
            .field("max_records", &self.max_records)
            .field("known", &self.known)
            .field("refuse", &self.refuse)
            .field("fail_load", &self.fail_load)
            .field("overwrite", &self.overwrite)
            .field("overwrite_others", &self.overwrite_others)
            .field("charge_places", &self.charge_places)
            .field("charges_as_numbers", &self.charges_as_numbers)
            .field("faults", &self.faults)
            .field("state_file", &self.state_file)
            .field("seed", &self.seed)
            .finish()
    }
}

/// One value of one field that leads to an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The field: `Username`, `Attributes.Queue`.
    pub field: String,
    /// Its value, numbers as they are written; `*` is any value.
    pub value: String,
    /// What the answer says; `<login>` becomes the record's `Username`.
    pub error: String,
}

impl Rule {
    /// A rule from its three parts.
    #[must_use]
    pub fn new(field: impl Into<String>, value: impl Into<String>, error: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.into(), error: error.into() }
    }
}

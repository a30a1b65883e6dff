//! What one transaction has read ahead and not written yet. Everything that is written is written together: before a
//! list is read, and before the commit.

use super::copy::Tuples;
use super::{Fail, PostgresStore, short};
use crate::ledger::codes::type_code;
use crate::ledger::row::Identity;
use crate::ledger::{Entry, Hold, Row};
use amie_usage::UsageType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One transaction's.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Rows as they are now, also those that are not there.
    pub(super) rows: HashMap<String, Option<Row>>,
    /// Keys by job, where all of the job's rows are in `rows`.
    pub(super) jobs: HashMap<String, BTreeSet<String>>,
    /// Rows to be written; true where they are new.
    pub(super) changed: BTreeMap<String, bool>,
    pub(super) owners: HashMap<Wire, Owner>,
    pub(super) holds: HashMap<String, Option<KeptHold>>,
    pub(super) changed_holds: BTreeSet<String>,
    pub(super) events: Tuples,
    pub(super) next_event: Option<i64>,
    pub(super) past: BTreeSet<(String, i16, i64)>,
    pub(super) failures: HashMap<(String, String), bool>,
    pub(super) new_failures: Vec<(String, String)>,
    /// Keys and submit times by type, resource and record id.
    pub(super) shown: HashMap<(UsageType, String, String), Vec<(i64, String)>>,
    /// Quarantined texts by source and digest; true where they are stored.
    pub(super) texts: HashMap<(i64, u128), bool>,
    pub(super) next_text: Option<i64>,
    pub(super) new_texts: Tuples,
    pub(super) seen_texts: Vec<(i64, u128, i64)>,
    /// Histories of rows, as far as they were read ahead.
    pub(super) histories: HashMap<String, Vec<Entry>>,
    pub(super) pasts: HashMap<String, Vec<(i16, i64)>>,
    /// Events of chunks, batches and reconciliations, in questions.
    pub(super) shared: HashMap<(u8, i64), Vec<Entry>>,
    pub(super) batches: HashMap<i64, Option<crate::ledger::store::Batch>>,
}

impl Memory {
    /// Forgets what was only read; all that was written must have been written out.
    pub(super) fn forget_what_was_read(&mut self) {
        self.rows.clear();
        self.jobs.clear();
        self.owners.clear();
        self.holds.clear();
        self.pasts.clear();
    }
}

/// A wire identity as it is stored.
pub(super) type Wire = (i16, i64, String, i64);

pub(super) fn wire(usage_type: UsageType, resource: i64, identity: &Identity) -> Wire {
    let id = super::storable(&identity.local_record_id).into_owned();
    (short(type_code(usage_type)), resource, id, identity.submit)
}

/// Who has an identity: in the database, and now.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) stored: Option<String>,
    pub(super) now: Option<String>,
}

/// A hold with the record that it would become, as JSON.
#[derive(Debug, Clone)]
pub(super) struct KeptHold {
    pub(super) hold: Hold,
    pub(super) candidate: Option<String>,
}

impl PostgresStore {
    /// Writes everything that is only in memory.
    pub(super) fn write_out(&self) -> Result<(), Fail> {
        self.write_identities()?;
        self.write_rows()?;
        self.write_holds()?;
        self.write_events()?;
        self.write_texts()
    }
}

//! Holds as they are stored: opened, looked up, closed.

use super::Fail;
use super::codes::{digest, signed, type_code, unsigned, usage_type};
use super::store::{Session, digest_of};
use crate::ledger::row::{Identity, Wanted};
use crate::ledger::{ClosedHold, Hold, HoldEnd, LedgerError, Person, SourceFacts};
use amie_usage::{Decimal, UsageType};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

/// What is asked, of whom nobody knows yet.
#[derive(Debug)]
pub(super) struct NewHold<'a> {
    pub(super) key: &'a str,
    pub(super) usage_type: UsageType,
    pub(super) reason: &'a str,
    pub(super) detail: &'a str,
    pub(super) run: &'a str,
    pub(super) source_digest: u128,
    pub(super) rules_digest: u128,
    pub(super) file: &'a str,
    pub(super) line: u64,
    pub(super) candidate: Option<(StoredCandidate, &'a [u8])>,
}

/// The record that an approval would want, without its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredCandidate {
    resource: String,
    local_record_id: String,
    submit: i64,
    username: String,
    project: String,
    charge: Decimal,
    start: i64,
    end: i64,
    elapsed: u64,
    requeued: bool,
}

impl StoredCandidate {
    pub(super) fn of(wanted: &Wanted) -> Self {
        Self {
            resource: wanted.identity.resource.to_string(),
            local_record_id: wanted.identity.local_record_id.clone(),
            submit: wanted.identity.submit,
            username: wanted.username.to_string(),
            project: wanted.project.to_string(),
            charge: wanted.charge,
            start: wanted.facts.start,
            end: wanted.facts.end,
            elapsed: wanted.facts.elapsed,
            requeued: wanted.facts.requeued,
        }
    }

    /// The version that it would become; `payload` is still to be placed.
    pub(super) fn wanted(self, payload: &[u8]) -> Wanted {
        let Self { resource, local_record_id, submit, username, project, charge, .. } = self;
        let (start, end, elapsed, requeued) = (self.start, self.end, self.elapsed, self.requeued);
        Wanted {
            identity: Identity { resource: resource.into(), local_record_id, submit },
            username: username.into(),
            project: project.into(),
            charge,
            digest: digest_of(payload),
            facts: SourceFacts { start, end, elapsed, requeued },
            payload: None,
        }
    }
}

const COLUMNS: &str = "key, usage_type, reason, detail, run, source_digest, rules_digest, first_seen, last_seen, file, \
    line, payload, closed_at, closed_how, closed_by, closed_why";

impl Session<'_> {
    /// Opens a hold, or brings an open one up to date.
    pub(super) fn open_hold(&self, hold: &NewHold<'_>, now: i64) -> Result<(), Fail> {
        let (candidate, payload) = match &hold.candidate {
            None => (None, None),
            Some((candidate, payload)) => {
                let text = serde_json::to_string(candidate)
                    .map_err(|error| LedgerError::Inconsistent(format!("a candidate: {error}")))?;
                (Some(text), Some(*payload))
            }
        };
        let sql = "INSERT INTO hold (key, usage_type, reason, detail, run, source_digest, rules_digest, first_seen, \
                   last_seen, file, line, candidate, payload) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (key) DO UPDATE SET \
                   usage_type = ?2, reason = ?3, detail = ?4, run = ?5, source_digest = ?6, rules_digest = ?7, \
                   first_seen = iif(closed_at IS NULL, first_seen, ?8), last_seen = max(last_seen, ?8), file = ?9, \
                   line = ?10, candidate = ?11, payload = ?12, \
                   closed_at = NULL, closed_how = NULL, closed_by = NULL, closed_why = NULL";
        self.connection.prepare_cached(sql)?.execute((
            hold.key,
            type_code(hold.usage_type),
            hold.reason,
            hold.detail,
            hold.run,
            hold.source_digest.to_be_bytes(),
            hold.rules_digest.to_be_bytes(),
            now,
            self.id(hold.file)?,
            signed(hold.line),
            candidate,
            payload,
        ))?;
        Ok(())
    }

    /// Closes the open hold of a key; false where there is none. `person` is `None` where the ledger itself does.
    pub(super) fn close_hold(
        &self,
        key: &str,
        end: HoldEnd,
        person: Option<Person<'_>>,
        now: i64,
    ) -> Result<bool, Fail> {
        let Person { by, why } = person.unwrap_or(Person { by: "", why: "" });
        let sql = "UPDATE hold SET closed_at = ?2, closed_how = ?3, closed_by = ?4, closed_why = ?5 \
                   WHERE key = ?1 AND closed_at IS NULL";
        Ok(self.connection.prepare_cached(sql)?.execute((key, now, end.as_str(), by, why))? > 0)
    }

    /// The hold of a key, open or closed.
    pub(super) fn hold(&self, key: &str) -> Result<Option<Hold>, Fail> {
        let sql = format!("SELECT {COLUMNS} FROM hold WHERE key = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query([key])?;
        found.next()?.map(|row| self.read_hold(row)).transpose()
    }

    /// The record that the hold of a key would become.
    pub(super) fn candidate(&self, key: &str) -> Result<Option<StoredCandidate>, Fail> {
        let sql = "SELECT candidate FROM hold WHERE key = ?1";
        let found: Option<Option<String>> =
            self.connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|error| {
                LedgerError::Inconsistent(format!("the candidate of \"{key}\": {error}")).into()
            })
        };
        found.flatten().map(read).transpose()
    }

    /// The waiver of a key: reason and source digest.
    pub(super) fn waiver(&self, key: &str) -> Result<Option<(String, u128)>, Fail> {
        let sql = "SELECT reason, source_digest FROM hold WHERE key = ?1 AND closed_how = ?2";
        let found: Option<(String, Vec<u8>)> = self
            .connection
            .prepare_cached(sql)?
            .query_row((key, HoldEnd::Waived.as_str()), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        found.map(|(reason, source)| Ok((reason, digest(&source)?))).transpose()
    }

    /// Open holds after a key: of one reason, or of other rules than these, where asked.
    pub(super) fn open_holds(
        &self,
        reason: Option<&str>,
        other_rules: Option<u128>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Hold>, Fail> {
        let sql = format!(
            "SELECT {COLUMNS} FROM hold WHERE closed_at IS NULL AND key > ?1 AND (?2 IS NULL OR reason = ?2) \
             AND (?3 IS NULL OR rules_digest <> ?3) ORDER BY key LIMIT ?4"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let other = other_rules.map(|digest| digest.to_be_bytes().to_vec());
        let mut found = statement.query((after, reason, other, signed(limit as u64)))?;
        let mut holds = Vec::new();
        while let Some(row) = found.next()? {
            holds.push(self.read_hold(row)?);
        }
        Ok(holds)
    }

    fn read_hold(&self, row: &rusqlite::Row<'_>) -> Result<Hold, Fail> {
        let closed = match row.get("closed_at")? {
            None => None,
            Some(at) => Some(ClosedHold {
                at,
                how: row.get("closed_how")?,
                by: row.get("closed_by")?,
                why: row.get("closed_why")?,
            }),
        };
        Ok(Hold {
            key: row.get("key")?,
            usage_type: usage_type(row.get("usage_type")?)?,
            reason: row.get("reason")?,
            detail: row.get("detail")?,
            run: row.get("run")?,
            source_digest: digest(&row.get::<_, Vec<u8>>("source_digest")?)?,
            rules_digest: digest(&row.get::<_, Vec<u8>>("rules_digest")?)?,
            first_seen: row.get("first_seen")?,
            last_seen: row.get("last_seen")?,
            candidate: row.get("payload")?,
            file: self.name(row.get("file")?)?.to_string(),
            line: unsigned(row.get("line")?),
            closed,
        })
    }
}

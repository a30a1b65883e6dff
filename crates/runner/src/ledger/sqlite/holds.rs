//! Questions to people and quarantined texts, as they are stored.

use super::{Fail, SqliteStore};
use crate::ledger::codes::{digest, signed, type_code, unsigned, usage_type};
use crate::ledger::store::{Holding, Holds, Names, NewHold, Texts};
use crate::ledger::{
    ClosedHold, ClosedText, Group, Hold, HoldEnd, NOT_THERE_ANY_MORE, Person, Quarantined, QuarantinedText,
    Reviewed,
};
use rusqlite::OptionalExtension;

const COLUMNS: &str = "key, usage_type, reason, detail, run, source_digest, rules_digest, first_seen, last_seen, file, \
    line, payload, closed_at, closed_how, closed_by, closed_why";

impl SqliteStore {
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

impl SqliteStore {
    fn reviewed(&self, which: &str, after: i64, limit: usize) -> Result<Vec<Reviewed>, Fail> {
        let sql = format!(
            "SELECT id, source, reason, detail, text, file, line, first_seen, last_seen, closed_at, closed_by, closed_why \
             FROM quarantine WHERE {which} ORDER BY id LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query((after, signed(limit as u64)))?;
        let mut texts = Vec::new();
        while let Some(row) = found.next()? {
            let closed = match row.get("closed_at")? {
                None => None,
                Some(at) => Some(ClosedText { at, by: row.get("closed_by")?, why: row.get("closed_why")? }),
            };
            let text = Quarantined {
                id: row.get(0)?,
                source: self.name(row.get(1)?)?.to_string(),
                reason: row.get(2)?,
                detail: row.get(3)?,
                text: row.get(4)?,
                file: self.name(row.get(5)?)?.to_string(),
                line: unsigned(row.get(6)?),
                first_seen: row.get(7)?,
                last_seen: row.get(8)?,
            };
            texts.push(Reviewed { text, closed });
        }
        Ok(texts)
    }
}

impl Holds for SqliteStore {
    fn open_hold(&self, hold: &NewHold<'_>, now: i64) -> Result<(), Fail> {
        let (candidate, payload) = match &hold.candidate {
            None => (None, None),
            Some((candidate, payload)) => (Some(candidate), Some(*payload)),
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

    fn close_hold(
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

    fn forget_closed_holds(&self, before: i64) -> Result<u64, Fail> {
        // A waiver may be taken back, and the run is then looked at again.
        let sql = "UPDATE hold SET run = '', candidate = NULL, payload = NULL \
                   WHERE closed_at < ?1 AND closed_how <> ?2 AND (run <> '' OR payload IS NOT NULL)";
        Ok(self.connection.prepare_cached(sql)?.execute((before, HoldEnd::Waived.as_str()))? as u64)
    }

    fn unwaive(&self, key: &str) -> Result<bool, Fail> {
        let sql = "UPDATE hold SET closed_at = NULL, closed_how = NULL, closed_by = NULL, closed_why = NULL \
                   WHERE key = ?1 AND closed_how = ?2";
        Ok(self.connection.prepare_cached(sql)?.execute((key, HoldEnd::Waived.as_str()))? > 0)
    }

    fn hold(&self, key: &str) -> Result<Option<Hold>, Fail> {
        let sql = format!("SELECT {COLUMNS} FROM hold WHERE key = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query([key])?;
        found.next()?.map(|row| self.read_hold(row)).transpose()
    }

    fn hold_candidate(&self, key: &str) -> Result<Option<String>, Fail> {
        let sql = "SELECT candidate FROM hold WHERE key = ?1";
        let found: Option<Option<String>> =
            self.connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
        Ok(found.flatten())
    }

    fn waiver(&self, key: &str) -> Result<Option<(String, u128)>, Fail> {
        let sql = "SELECT reason, source_digest FROM hold WHERE key = ?1 AND closed_how = ?2";
        let found: Option<(String, Vec<u8>)> = self
            .connection
            .prepare_cached(sql)?
            .query_row((key, HoldEnd::Waived.as_str()), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        found.map(|(reason, source)| Ok((reason, digest(&source)?))).transpose()
    }

    fn open_holds(&self, which: Holding<'_>, after: &str, limit: usize) -> Result<Vec<Hold>, Fail> {
        // A statement of its own for each question, so that each has an index of open holds.
        let reason = if which.reason.is_some() { "reason = ?2" } else { "?2 IS NULL" };
        let sql = format!(
            "SELECT {COLUMNS} FROM hold WHERE closed_at IS NULL AND key > ?1 AND {reason} \
             AND (?3 IS NULL OR rules_digest <> ?3) ORDER BY key LIMIT ?4"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let other = which.other_rules.map(|digest| digest.to_be_bytes().to_vec());
        let mut found = statement.query((after, which.reason, other, signed(limit as u64)))?;
        let mut holds = Vec::new();
        while let Some(row) = found.next()? {
            holds.push(self.read_hold(row)?);
        }
        Ok(holds)
    }

    fn holds_of_job(&self, job: &str, limit: usize) -> Result<Vec<String>, Fail> {
        let sql = "SELECT key FROM hold WHERE json_valid(run) \
                   AND ?1 IN (json_extract(run, '$.job_id'), json_extract(run, '$.raw_id')) LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map((job, signed(limit as u64)), |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn hold_groups(&self, examples: usize) -> Result<Vec<Group>, Fail> {
        self.groups(
            "SELECT reason, count(*), reason FROM hold WHERE closed_at IS NULL GROUP BY reason",
            "SELECT key FROM hold WHERE closed_at IS NULL AND reason = ?1 ORDER BY key LIMIT ?2",
            examples,
        )
    }

    fn open_hold_count(&self) -> Result<i64, Fail> {
        self.number("SELECT count(*) FROM hold WHERE closed_at IS NULL")
    }

    fn matched_hold_count(&self) -> Result<i64, Fail> {
        self.number(
            "SELECT count(*) FROM hold JOIN record USING (key) WHERE closed_at IS NULL AND flags & 8 <> 0",
        )
    }
}

impl Texts for SqliteStore {
    fn quarantine(
        &self,
        source: &str,
        digest: u128,
        text: &QuarantinedText,
        file: &str,
        now: i64,
    ) -> Result<bool, Fail> {
        let (source, digest) = (self.id(source)?, digest.to_be_bytes());
        let sql = "UPDATE quarantine SET last_seen = max(last_seen, ?3) \
                   WHERE source = ?1 AND digest = ?2 AND closed_why IS NOT ?4";
        if self.connection.prepare_cached(sql)?.execute((source, digest, now, NOT_THERE_ANY_MORE))? > 0 {
            return Ok(false);
        }
        let file = self.id(file)?;
        // A question that was closed because the text was there no more is asked anew, with a number of its own: so it is news.
        let sql = "UPDATE quarantine SET id = (SELECT max(id) + 1 FROM quarantine), reason = ?3, detail = ?4, text = ?5, \
                   file = ?6, line = ?7, last_seen = ?8, closed_at = NULL, closed_by = NULL, closed_why = NULL \
                   WHERE source = ?1 AND digest = ?2";
        let values = (source, digest, &text.reason, &text.detail, &text.text, file, signed(text.line), now);
        if self.connection.prepare_cached(sql)?.execute(values)? > 0 {
            return Ok(true);
        }
        let sql = "INSERT INTO quarantine (source, digest, reason, detail, text, file, line, first_seen, last_seen) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)";
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(true)
    }

    fn close_text(&self, id: i64, person: Person<'_>, now: i64) -> Result<bool, Fail> {
        let sql = "UPDATE quarantine SET closed_at = ?2, closed_by = ?3, closed_why = ?4 \
                   WHERE id = ?1 AND closed_at IS NULL";
        Ok(self.connection.prepare_cached(sql)?.execute((id, now, person.by, person.why))? > 0)
    }

    fn forget_closed_texts(&self, before: i64) -> Result<u64, Fail> {
        let sql = "UPDATE quarantine SET text = x'' WHERE closed_at < ?1 AND length(text) > 0";
        Ok(self.connection.prepare_cached(sql)?.execute([before])? as u64)
    }

    fn open_texts(&self, after: i64, limit: usize) -> Result<Vec<Quarantined>, Fail> {
        Ok(self
            .reviewed("closed_at IS NULL AND id > ?1", after, limit)?
            .into_iter()
            .map(|one| one.text)
            .collect())
    }

    fn texts_after(&self, after: i64, limit: usize) -> Result<Vec<Reviewed>, Fail> {
        self.reviewed("id > ?1", after, limit)
    }

    fn text_groups(&self, examples: usize) -> Result<Vec<Group>, Fail> {
        self.groups(
            "SELECT reason, count(*), reason FROM quarantine WHERE closed_at IS NULL GROUP BY reason",
            "SELECT name.text || ':' || line FROM quarantine JOIN name ON name.id = file \
             WHERE closed_at IS NULL AND reason = ?1 ORDER BY quarantine.id LIMIT ?2",
            examples,
        )
    }

    fn open_text_count(&self, after: i64) -> Result<u64, Fail> {
        let sql = "SELECT count(*) FROM quarantine WHERE id > ?1 AND closed_at IS NULL";
        Ok(unsigned(self.connection.prepare_cached(sql)?.query_row([after], |row| row.get(0))?))
    }

    fn last_text(&self) -> Result<i64, Fail> {
        self.number("SELECT coalesce(max(id), 0) FROM quarantine")
    }
}

//! Questions to people and quarantined texts, as they are stored.

use super::copy::Tuples;
use super::memory::KeptHold;
use super::{Fail, PostgresStore, short, storable};
use crate::ledger::codes::{digest, signed, type_code, unsigned, usage_type};
use crate::ledger::store::{Holding, Holds, Names, NewHold, Texts};
use crate::ledger::{
    ClosedHold, ClosedText, Group, Hold, HoldEnd, NOT_THERE_ANY_MORE, Person, Quarantined, QuarantinedText,
    Reviewed,
};

const COLUMNS: &str = "key, usage_type, reason, detail, run, source_digest, rules_digest, first_seen, last_seen, file, \
    line, job_id, raw_id, candidate, payload, closed_at, closed_how, closed_by, closed_why";

impl PostgresStore {
    fn read_hold(&self, row: &tokio_postgres::Row) -> Result<KeptHold, Fail> {
        let closed = match row.try_get(15)? {
            None => None,
            Some(at) => {
                Some(ClosedHold { at, how: row.try_get(16)?, by: row.try_get(17)?, why: row.try_get(18)? })
            }
        };
        let hold = Hold {
            key: row.try_get(0)?,
            usage_type: usage_type(row.try_get::<_, i16>(1)?.into())?,
            reason: row.try_get(2)?,
            detail: row.try_get(3)?,
            run: row.try_get(4)?,
            source_digest: digest(row.try_get(5)?)?,
            rules_digest: digest(row.try_get(6)?)?,
            first_seen: row.try_get(7)?,
            last_seen: row.try_get(8)?,
            file: self.name(row.try_get(9)?)?.to_string(),
            line: unsigned(row.try_get(10)?),
            candidate: row.try_get(14)?,
            closed,
        };
        Ok(KeptHold { hold, candidate: row.try_get(13)? })
    }

    /// Holds of these keys, and that the others have none.
    pub(super) fn learn_holds(&self, keys: &[&str]) -> Result<(), Fail> {
        let unknown: Vec<String> = {
            let memory = self.memory.borrow();
            let unknown = keys.iter().filter(|key| !memory.holds.contains_key(**key));
            unknown.map(|key| storable(key).into_owned()).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let found = self.query(format!("SELECT {COLUMNS} FROM hold WHERE key = ANY($1)"), &[&unknown])?;
        self.learn_texts(found.iter().map(|row| row.try_get(9)).collect::<Result<_, _>>()?)?;
        let holds: Vec<KeptHold> = found.iter().map(|row| self.read_hold(row)).collect::<Result<_, _>>()?;
        let memory = &mut *self.memory.borrow_mut();
        memory.holds.extend(unknown.into_iter().map(|key| (key, None)));
        memory.holds.extend(holds.into_iter().map(|kept| (kept.hold.key.clone(), Some(kept))));
        Ok(())
    }

    fn kept(&self, key: &str) -> Result<Option<KeptHold>, Fail> {
        if let Some(kept) = self.memory.borrow().holds.get(key) {
            return Ok(kept.clone());
        }
        self.learn_holds(&[key])?;
        Ok(self.memory.borrow().holds.get(key).cloned().flatten())
    }

    fn keep(&self, kept: KeptHold) {
        let memory = &mut *self.memory.borrow_mut();
        memory.changed_holds.insert(kept.hold.key.clone());
        memory.holds.insert(kept.hold.key.clone(), Some(kept));
    }

    /// Writes the holds that changed.
    pub(super) fn write_holds(&self) -> Result<(), Fail> {
        let changed = std::mem::take(&mut self.memory.borrow_mut().changed_holds);
        if changed.is_empty() {
            return Ok(());
        }
        let mut tuples = Tuples::default();
        for key in &changed {
            let kept = self.memory.borrow().holds.get(key).cloned().flatten();
            let Some(KeptHold { hold, candidate }) = kept else { continue };
            // What a job is found by; a run that is no JSON is found by its key alone.
            let run: Option<serde_json::Value> = serde_json::from_str(&hold.run).ok();
            let word = |name: &str| run.as_ref().and_then(|run| run.get(name)?.as_str());
            let closed = hold.closed.as_ref();
            tuples
                .row(19)
                .text(hold.key.as_str())
                .short(short(type_code(hold.usage_type)))
                .text(hold.reason.as_str())
                .text(hold.detail.as_str())
                .text(hold.run.as_str())
                .bytes(Some(&hold.source_digest.to_be_bytes()))
                .bytes(Some(&hold.rules_digest.to_be_bytes()))
                .long(hold.first_seen)
                .long(hold.last_seen)
                .long(self.id(&hold.file)?)
                .long(signed(hold.line))
                .text(word("job_id"))
                .text(word("raw_id"))
                .text(candidate.as_deref())
                .bytes(hold.candidate.as_deref())
                .long(closed.map(|closed| closed.at))
                .text(closed.map(|closed| closed.how.as_str()))
                .text(closed.map(|closed| closed.by.as_str()))
                .text(closed.map(|closed| closed.why.as_str()));
        }
        self.copy_in(&format!("COPY changed_hold ({COLUMNS}) FROM STDIN BINARY"), tuples)?;
        let values: Vec<String> =
            COLUMNS.split(',').map(|name| format!("excluded.{}", name.trim())).collect();
        let sql = format!(
            "INSERT INTO hold ({COLUMNS}) SELECT {COLUMNS} FROM changed_hold \
             ON CONFLICT (key) DO UPDATE SET ({COLUMNS}) = ({})",
            values.join(", ")
        );
        self.execute(sql, &[])?;
        self.execute("DELETE FROM changed_hold", &[])?;
        Ok(())
    }

    fn reviewed(&self, which: &str, after: i64, limit: usize) -> Result<Vec<Reviewed>, Fail> {
        let sql = format!(
            "SELECT id, source, reason, detail, text, file, line, first_seen, last_seen, closed_at, closed_by, closed_why \
             FROM quarantine WHERE {which} ORDER BY id LIMIT $2"
        );
        let mut texts = Vec::new();
        for row in self.list(sql, &[&after, &signed(limit as u64)])? {
            let closed = match row.try_get(9)? {
                None => None,
                Some(at) => Some(ClosedText { at, by: row.try_get(10)?, why: row.try_get(11)? }),
            };
            let text = Quarantined {
                id: row.try_get(0)?,
                source: self.name(row.try_get(1)?)?.to_string(),
                reason: row.try_get(2)?,
                detail: row.try_get(3)?,
                text: row.try_get(4)?,
                file: self.name(row.try_get(5)?)?.to_string(),
                line: unsigned(row.try_get(6)?),
                first_seen: row.try_get(7)?,
                last_seen: row.try_get(8)?,
            };
            texts.push(Reviewed { text, closed });
        }
        Ok(texts)
    }

    /// Which of these texts were seen before.
    pub(super) fn learn_seen_texts(&self, source: &str, digests: &[u128]) -> Result<(), Fail> {
        if digests.is_empty() {
            return Ok(());
        }
        let source = self.id(source)?;
        let bytes: Vec<Vec<u8>> = digests.iter().map(|digest| digest.to_be_bytes().to_vec()).collect();
        let sql = "SELECT digest, closed_why FROM quarantine WHERE source = $1 AND digest = ANY($2)";
        let found = self.query(sql, &[&source, &bytes])?;
        let mut gone: Vec<&[u8]> = Vec::new();
        {
            let memory = &mut *self.memory.borrow_mut();
            memory.texts.extend(digests.iter().map(|digest| ((source, *digest), false)));
            for row in &found {
                match row.try_get::<_, Option<&str>>(1)? {
                    Some(NOT_THERE_ANY_MORE) => gone.push(row.try_get(0)?),
                    _ => _ = memory.texts.insert((source, digest(row.try_get(0)?)?), true),
                }
            }
        }
        self.make_room_for_texts(source, &gone)
    }

    /// The number of the next new text.
    fn next_text(&self) -> Result<i64, Fail> {
        let next = self.memory.borrow().next_text;
        match next {
            Some(id) => Ok(id),
            None => self.number("SELECT coalesce(max(id), 0) + 1 FROM quarantine"),
        }
    }

    /// Questions that were closed because their texts were there no more are asked anew, under numbers that no text had:
    /// so they are news.
    fn make_room_for_texts(&self, source: i64, gone: &[&[u8]]) -> Result<(), Fail> {
        if gone.is_empty() {
            return Ok(());
        }
        let next = self.next_text()?;
        self.memory.borrow_mut().next_text = Some(next);
        let sql = "DELETE FROM quarantine WHERE source = $1 AND digest = ANY($2)";
        self.execute(sql, &[&source, &gone])?;
        Ok(())
    }

    /// Writes quarantined texts: new ones, and when the others were seen.
    pub(super) fn write_texts(&self) -> Result<(), Fail> {
        let (new, seen) = {
            let memory = &mut *self.memory.borrow_mut();
            (std::mem::take(&mut memory.new_texts), std::mem::take(&mut memory.seen_texts))
        };
        let sql = "COPY quarantine (id, source, digest, reason, detail, text, file, line, first_seen, last_seen) \
                   FROM STDIN BINARY";
        self.copy_in(sql, new)?;
        if seen.is_empty() {
            return Ok(());
        }
        let sources: Vec<i64> = seen.iter().map(|(source, _, _)| *source).collect();
        let digests: Vec<Vec<u8>> = seen.iter().map(|(_, digest, _)| digest.to_be_bytes().to_vec()).collect();
        let times: Vec<i64> = seen.iter().map(|(_, _, at)| *at).collect();
        self.execute(
            "UPDATE quarantine q SET last_seen = greatest(q.last_seen, w.at) \
             FROM (SELECT s, d, max(t) FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) AS u (s, d, t) GROUP BY s, d) \
             AS w (s, d, at) WHERE q.source = w.s AND q.digest = w.d",
            &[&sources, &digests, &times],
        )?;
        Ok(())
    }
}

impl Holds for PostgresStore {
    fn open_hold(&self, new: &NewHold<'_>, now: i64) -> Result<(), Fail> {
        let before = self.kept(new.key)?.map(|kept| kept.hold);
        let open = before.as_ref().filter(|hold| hold.closed.is_none());
        let hold = Hold {
            key: new.key.to_owned(),
            usage_type: new.usage_type,
            reason: new.reason.to_owned(),
            detail: new.detail.to_owned(),
            run: new.run.to_owned(),
            source_digest: new.source_digest,
            rules_digest: new.rules_digest,
            first_seen: open.map_or(now, |hold| hold.first_seen),
            last_seen: before.as_ref().map_or(now, |hold| hold.last_seen.max(now)),
            candidate: new.candidate.as_ref().map(|(_, bytes)| bytes.to_vec()),
            file: new.file.to_owned(),
            line: new.line,
            closed: None,
        };
        self.keep(KeptHold { hold, candidate: new.candidate.as_ref().map(|(text, _)| text.clone()) });
        Ok(())
    }

    fn close_hold(
        &self,
        key: &str,
        end: HoldEnd,
        person: Option<Person<'_>>,
        now: i64,
    ) -> Result<bool, Fail> {
        let Some(mut kept) = self.kept(key)?.filter(|kept| kept.hold.closed.is_none()) else {
            return Ok(false);
        };
        let Person { by, why } = person.unwrap_or(Person { by: "", why: "" });
        let how = end.as_str().to_owned();
        kept.hold.closed = Some(ClosedHold { at: now, how, by: by.to_owned(), why: why.to_owned() });
        self.keep(kept);
        Ok(true)
    }

    fn forget_closed_holds(&self, before: i64) -> Result<u64, Fail> {
        self.write_out()?;
        // A waiver may be taken back, and the run is then looked at again.
        let sql = "UPDATE hold SET run = '', candidate = NULL, payload = NULL \
                   WHERE closed_at < $1 AND closed_how <> $2 AND (run <> '' OR payload IS NOT NULL)";
        self.execute(sql, &[&before, &HoldEnd::Waived.as_str()])
    }

    fn unwaive(&self, key: &str) -> Result<bool, Fail> {
        if self.waiver(key)?.is_none() {
            return Ok(false);
        }
        if let Some(mut kept) = self.kept(key)? {
            kept.hold.closed = None;
            self.keep(kept);
        }
        Ok(true)
    }

    fn hold(&self, key: &str) -> Result<Option<Hold>, Fail> {
        Ok(self.kept(key)?.map(|kept| kept.hold))
    }

    fn hold_candidate(&self, key: &str) -> Result<Option<String>, Fail> {
        Ok(self.kept(key)?.and_then(|kept| kept.candidate))
    }

    fn waiver(&self, key: &str) -> Result<Option<(String, u128)>, Fail> {
        let kept = self.kept(key)?.map(|kept| kept.hold);
        let waived =
            |hold: &Hold| hold.closed.as_ref().is_some_and(|closed| closed.how == HoldEnd::Waived.as_str());
        Ok(kept.filter(waived).map(|hold| (hold.reason, hold.source_digest)))
    }

    fn open_holds(&self, which: Holding<'_>, after: &str, limit: usize) -> Result<Vec<Hold>, Fail> {
        // A statement of its own for each question, so that each has an index of open holds.
        let reason = if which.reason.is_some() { "reason = $2" } else { "$2::text IS NULL" };
        let sql = format!(
            "SELECT {COLUMNS} FROM hold WHERE closed_at IS NULL AND key > $1 AND {reason} \
             AND ($3::bytea IS NULL OR rules_digest <> $3) ORDER BY key LIMIT $4"
        );
        let other = which.other_rules.map(|digest| digest.to_be_bytes().to_vec());
        let reason = which.reason.map(storable);
        let found =
            self.list(sql, &[&storable(after).as_ref(), &reason.as_deref(), &other, &signed(limit as u64)])?;
        found.iter().map(|row| Ok(self.read_hold(row)?.hold)).collect()
    }

    fn holds_of_job(&self, job: &str, limit: usize) -> Result<Vec<String>, Fail> {
        let sql = "SELECT key FROM hold WHERE job_id = $1 OR raw_id = $1 ORDER BY key LIMIT $2";
        let found = self.list(sql, &[&storable(job).as_ref(), &signed(limit as u64)])?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    fn hold_groups(&self, examples: usize) -> Result<Vec<Group>, Fail> {
        self.groups(
            "SELECT reason, count(*), reason FROM hold WHERE closed_at IS NULL GROUP BY reason".to_owned(),
            "SELECT key FROM hold WHERE closed_at IS NULL AND reason = $1 ORDER BY key LIMIT $2",
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

impl Texts for PostgresStore {
    fn quarantine(
        &self,
        source: &str,
        digest: u128,
        text: &QuarantinedText,
        file: &str,
        now: i64,
    ) -> Result<bool, Fail> {
        let (source_id, file) = (self.id(source)?, self.id(file)?);
        let place = (source_id, digest);
        if !self.memory.borrow().texts.contains_key(&place) {
            self.learn_seen_texts(source, &[digest])?;
        }
        let id = self.next_text()?;
        let memory = &mut *self.memory.borrow_mut();
        if memory.texts.insert(place, true) == Some(true) {
            memory.seen_texts.push((source_id, digest, now));
            return Ok(false);
        }
        memory.next_text = Some(id.saturating_add(1));
        memory
            .new_texts
            .row(10)
            .long(id)
            .long(source_id)
            .bytes(Some(&digest.to_be_bytes()))
            .text(text.reason.as_str())
            .text(text.detail.as_str())
            .bytes(Some(&text.text))
            .long(file)
            .long(signed(text.line))
            .long(now)
            .long(now);
        Ok(true)
    }

    fn close_text(&self, id: i64, person: Person<'_>, now: i64) -> Result<bool, Fail> {
        let sql = "UPDATE quarantine SET closed_at = $2, closed_by = $3, closed_why = $4 \
                   WHERE id = $1 AND closed_at IS NULL";
        let (by, why) = (storable(person.by), storable(person.why));
        Ok(self.execute(sql, &[&id, &now, &by.as_ref(), &why.as_ref()])? > 0)
    }

    fn forget_closed_texts(&self, before: i64) -> Result<u64, Fail> {
        self.write_out()?;
        self.execute(
            "UPDATE quarantine SET text = ''::bytea WHERE closed_at < $1 AND length(text) > 0",
            &[&before],
        )
    }

    fn open_texts(&self, after: i64, limit: usize) -> Result<Vec<Quarantined>, Fail> {
        let open = self.reviewed("closed_at IS NULL AND id > $1", after, limit)?;
        Ok(open.into_iter().map(|one| one.text).collect())
    }

    fn texts_after(&self, after: i64, limit: usize) -> Result<Vec<Reviewed>, Fail> {
        self.reviewed("id > $1", after, limit)
    }

    fn text_groups(&self, examples: usize) -> Result<Vec<Group>, Fail> {
        self.groups(
            "SELECT reason, count(*), reason FROM quarantine WHERE closed_at IS NULL GROUP BY reason"
                .to_owned(),
            "SELECT name.text || ':' || line FROM quarantine JOIN name ON name.id = file \
             WHERE closed_at IS NULL AND reason = $1 ORDER BY quarantine.id LIMIT $2",
            examples,
        )
    }

    fn open_text_count(&self, after: i64) -> Result<u64, Fail> {
        let sql = "SELECT count(*) FROM quarantine WHERE id > $1 AND closed_at IS NULL";
        let rows = self.list(sql, &[&after])?;
        rows.first().map_or(Ok(0), |row| Ok(unsigned(row.try_get(0)?)))
    }

    fn last_text(&self) -> Result<i64, Fail> {
        self.number("SELECT coalesce(max(id), 0) FROM quarantine")
    }
}

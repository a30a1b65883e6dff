//! Names by number, wire identities, and single values, as they are stored.

use super::memory::{Owner, Wire, wire};
use super::{Fail, PostgresStore, short, storable};
use crate::ledger::codes::{followers, follows, signed, type_code, unsigned};
use crate::ledger::row::Identity;
use crate::ledger::store::{Identities, Names};
use crate::ledger::{Carried, LedgerError, Progress};
use amie_usage::UsageType;
use std::collections::BTreeSet;
use std::sync::Arc;

impl PostgresStore {
    /// The numbers of names, as far as they are stored.
    pub(super) fn learn_known<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<Vec<String>, Fail> {
        let unknown: BTreeSet<&str> = {
            let names = self.names.borrow();
            texts.into_iter().filter(|text| names.id(text).is_none()).collect()
        };
        let mut unknown: Vec<String> = unknown.into_iter().map(|text| storable(text).into_owned()).collect();
        if unknown.is_empty() {
            return Ok(unknown);
        }
        let found = self.query("SELECT id, text FROM name WHERE text = ANY($1)", &[&unknown])?;
        let mut stored = BTreeSet::new();
        for row in &found {
            let text: String = row.try_get(1)?;
            self.names.borrow_mut().remember(row.try_get(0)?, text.as_str().into());
            stored.insert(text);
        }
        unknown.retain(|text| !stored.contains(text));
        Ok(unknown)
    }

    /// The numbers of names; new ones are stored.
    pub(super) fn learn_ids<'t>(&self, texts: impl IntoIterator<Item = &'t str>) -> Result<(), Fail> {
        let new = self.learn_known(texts)?;
        if new.is_empty() {
            return Ok(());
        }
        let last = self.query_one("SELECT coalesce(max(id), 0) FROM name", &[])?;
        let last: i64 = last.map_or(Ok(0), |row| row.try_get(0))?;
        let ids: Vec<i64> = (last.saturating_add(1)..).take(new.len()).collect();
        let insert = "INSERT INTO name (id, text) SELECT * FROM unnest($1::bigint[], $2::text[])";
        self.execute(insert, &[&ids, &new])?;
        for (id, text) in ids.into_iter().zip(new) {
            self.names.borrow_mut().remember(id, text.into());
        }
        Ok(())
    }

    /// The names of numbers.
    pub(super) fn learn_texts(&self, ids: BTreeSet<i64>) -> Result<(), Fail> {
        let unknown: Vec<i64> = {
            let names = self.names.borrow();
            ids.into_iter().filter(|id| names.text(*id).is_none()).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        for row in self.query("SELECT id, text FROM name WHERE id = ANY($1)", &[&unknown])? {
            self.names.borrow_mut().remember(row.try_get(0)?, row.try_get::<_, &str>(1)?.into());
        }
        Ok(())
    }

    /// Writes who holds which identity now: first what is taken away, then what is given.
    pub(super) fn write_identities(&self) -> Result<(), Fail> {
        let (mut gone, mut given): (Vec<Wire>, Vec<(Wire, String)>) = Default::default();
        for (wire, owner) in &mut self.memory.borrow_mut().owners {
            if owner.stored == owner.now {
                continue;
            }
            if owner.stored.is_some() {
                gone.push(wire.clone());
            }
            given.extend(owner.now.clone().map(|key| (wire.clone(), key)));
            owner.stored.clone_from(&owner.now);
        }
        if !gone.is_empty() {
            gone.sort();
            let types: Vec<i16> = gone.iter().map(|wire| wire.0).collect();
            let resources: Vec<i64> = gone.iter().map(|wire| wire.1).collect();
            let ids: Vec<&str> = gone.iter().map(|wire| wire.2.as_str()).collect();
            let submits: Vec<i64> = gone.iter().map(|wire| wire.3).collect();
            self.execute(
                "DELETE FROM identity i USING \
                 unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[]) AS w (t, r, l, s) \
                 WHERE i.usage_type = w.t AND i.resource = w.r AND i.local_record_id = w.l AND i.submit = w.s",
                &[&types, &resources, &ids, &submits],
            )?;
        }
        given.sort();
        let mut tuples = super::Tuples::default();
        for ((usage_type, resource, id, submit), key) in &given {
            tuples
                .row(5)
                .short(*usage_type)
                .long(*resource)
                .text(id.as_str())
                .long(*submit)
                .text(key.as_str());
        }
        self.copy_in(
            "COPY identity (usage_type, resource, local_record_id, submit, key) FROM STDIN BINARY",
            tuples,
        )
    }
}

impl Names for PostgresStore {
    fn id(&self, text: &str) -> Result<i64, Fail> {
        if let Some(id) = self.names.borrow().id(text) {
            return Ok(id);
        }
        let stored = storable(text);
        self.learn_ids([stored.as_ref()])?;
        let found = self.names.borrow().id(&stored);
        Ok(found.ok_or_else(|| LedgerError::Inconsistent("a name was not stored".to_owned()))?)
    }

    fn known_id(&self, text: &str) -> Result<Option<i64>, Fail> {
        if let Some(id) = self.names.borrow().id(text) {
            return Ok(Some(id));
        }
        let stored = storable(text);
        self.learn_known([stored.as_ref()])?;
        Ok(self.names.borrow().id(&stored))
    }

    fn name(&self, id: i64) -> Result<Arc<str>, Fail> {
        if let Some(text) = self.names.borrow().text(id) {
            return Ok(text);
        }
        self.learn_texts(BTreeSet::from([id]))?;
        let found = self.names.borrow().text(id);
        Ok(found.ok_or_else(|| LedgerError::Inconsistent(format!("no name {id}")))?)
    }

    fn meta(&self, name: &str) -> Result<Option<String>, Fail> {
        let row = self.query_one("SELECT value FROM meta WHERE name = $1", &[&name])?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    fn set_meta(&self, name: &str, value: &str) -> Result<(), Fail> {
        let sql = "INSERT INTO meta (name, value) VALUES ($1, $2) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(sql, &[&name, &value])?;
        Ok(())
    }

    fn progress(&self, source: &str, path: &str) -> Result<Option<Progress>, Fail> {
        let Some(source) = self.known_id(source)? else { return Ok(None) };
        let sql = "SELECT bytes_read, frames, complete FROM progress WHERE source = $1 AND path = $2";
        let Some(row) = self.query_one(sql, &[&source, &storable(path).as_ref()])? else { return Ok(None) };
        Ok(Some(Progress {
            path: path.to_owned(),
            offset: unsigned(row.try_get(0)?),
            frames: unsigned(row.try_get(1)?),
            complete: row.try_get(2)?,
        }))
    }

    fn set_progress(&self, source: &str, progress: &Progress, now: i64) -> Result<(), Fail> {
        let sql = "INSERT INTO progress (source, path, bytes_read, frames, complete, at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source, path) DO UPDATE SET \
                   bytes_read = excluded.bytes_read, frames = excluded.frames, complete = excluded.complete, \
                   at = excluded.at";
        let (offset, frames) = (signed(progress.offset), signed(progress.frames));
        let (source, path) = (self.id(source)?, storable(&progress.path));
        self.execute(sql, &[&source, &path.as_ref(), &offset, &frames, &progress.complete, &now])?;
        Ok(())
    }

    fn forget_progress(&self, before: i64) -> Result<u64, Fail> {
        self.execute("DELETE FROM progress WHERE at < $1", &[&before])
    }

    fn carried(&self, source: &str, point: &str) -> Result<Option<Carried>, Fail> {
        let Some(source) = self.known_id(source)? else { return Ok(None) };
        let sql = "SELECT after_file, state FROM carried WHERE source = $1 AND point = $2";
        let found = self.query_one(sql, &[&source, &storable(point).as_ref()])?;
        let read = |row: tokio_postgres::Row| {
            Ok(Carried { point: point.to_owned(), after: row.try_get(0)?, state: row.try_get(1)? })
        };
        found.map(read).transpose()
    }

    fn set_carried(&self, source: &str, carried: &Carried, now: i64) -> Result<(), Fail> {
        // Most nights it is what it was, and writing it again every week is enough to see that it is still wanted.
        let sql = "INSERT INTO carried AS c (source, point, after_file, at, state) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (source, point) DO UPDATE \
                   SET after_file = excluded.after_file, at = excluded.at, state = excluded.state \
                   WHERE c.state <> excluded.state OR c.after_file <> excluded.after_file \
                   OR c.at < excluded.at - 604800";
        let (point, after) = (storable(&carried.point), storable(&carried.after));
        self.execute(sql, &[&self.id(source)?, &point.as_ref(), &after.as_ref(), &now, &carried.state])?;
        Ok(())
    }

    fn drop_carried(&self, source: &str, before: i64) -> Result<(), Fail> {
        self.execute("DELETE FROM carried WHERE source = $1 AND at < $2", &[&self.id(source)?, &before])?;
        Ok(())
    }
}

impl Identities for PostgresStore {
    fn owner(&self, usage_type: UsageType, identity: &Identity) -> Result<Option<String>, Fail> {
        let Some(resource) = self.known_id(&identity.resource)? else { return Ok(None) };
        let wire = wire(usage_type, resource, identity);
        if let Some(owner) = self.memory.borrow().owners.get(&wire) {
            return Ok(owner.now.clone());
        }
        self.learn_wires(vec![wire.clone()])?;
        Ok(self.memory.borrow().owners.get(&wire).and_then(|owner| owner.now.clone()))
    }

    fn give(&self, usage_type: UsageType, identity: &Identity, key: &str) -> Result<(), Fail> {
        let wire = wire(usage_type, self.id(&identity.resource)?, identity);
        self.memory.borrow_mut().owners.entry(wire).or_default().now = Some(key.to_owned());
        Ok(())
    }

    fn take(&self, usage_type: UsageType, identity: &Identity) -> Result<(), Fail> {
        let wire = wire(usage_type, self.id(&identity.resource)?, identity);
        let memory = &mut *self.memory.borrow_mut();
        // Where nobody asked for the owner before, it is the row that gives it up.
        let unasked = || Owner { stored: Some(String::new()), now: None };
        memory.owners.entry(wire).or_insert_with(unasked).now = None;
        Ok(())
    }

    fn shown(
        &self,
        usage_type: UsageType,
        resource: &str,
        local_record_id: &str,
        submit: Option<i64>,
    ) -> Result<Vec<String>, Fail> {
        let place = (usage_type, resource.to_owned(), local_record_id.to_owned());
        let of = |list: &[(i64, String)]| {
            let meant = list.iter().filter(|(at, _)| submit.is_none_or(|submit| submit == *at));
            meant.map(|(_, key)| key.clone()).collect()
        };
        if let Some(list) = self.memory.borrow().shown.get(&place) {
            return Ok(of(list));
        }
        let Some(resource) = self.known_id(resource)? else { return Ok(Vec::new()) };
        let sql = "SELECT submit, key FROM identity \
                   WHERE usage_type = $1 AND resource = $2 AND local_record_id = $3 ORDER BY submit LIMIT 1000";
        let kind = short(type_code(usage_type));
        let rows = self.list(sql, &[&kind, &resource, &storable(local_record_id).as_ref()])?;
        let list: Vec<(i64, String)> =
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Fail>>()?;
        Ok(of(&list))
    }

    fn with_record_id(&self, id: &str, prefix: bool, limit: usize) -> Result<BTreeSet<String>, Fail> {
        let (id, most) = (storable(id), signed(limit as u64));
        let sql = "SELECT key FROM identity WHERE local_record_id = $1 LIMIT $2";
        let exact = self.list(sql, &[&id.as_ref(), &most])?;
        let mut keys: BTreeSet<String> = exact.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let ranges = if prefix { followers(&id).to_vec() } else { Vec::new() };
        let sql = "SELECT local_record_id, key FROM identity WHERE local_record_id >= $1 AND local_record_id < $2 \
                   ORDER BY local_record_id LIMIT $3";
        for (from, to) in ranges {
            for row in self.query(sql, &[&from, &to, &most])? {
                if follows(row.try_get(0)?, &id) {
                    keys.insert(row.try_get(1)?);
                }
            }
        }
        Ok(keys.into_iter().take(limit).collect())
    }

    fn identities(&self) -> Result<i64, Fail> {
        self.number("SELECT count(*) FROM identity")
    }
}

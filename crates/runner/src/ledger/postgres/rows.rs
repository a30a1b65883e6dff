//! Rows as they are stored: read ahead, written in bulk, new ones straight into the table; lists, and what they add up
//! to.

use super::columns::{self, Columns};
use super::copy::Tuples;
use super::memory::{Memory, Owner, Wire, wire};
use super::{Fail, PostgresStore, lost, short, storable};
use crate::ledger::codes::{charge, signed, state, state_code, type_code, usage_type};
use crate::ledger::core::twin::{behind, job_of};
use crate::ledger::flags::flags;
use crate::ledger::row::{Identity, PayloadRef, Sent};
use crate::ledger::store::{Ahead, Fresh, Glance, Incoming, Names, Past, Place, Rows};
use crate::ledger::{Candidate, Group, LedgerError, List, Row, Sighting, State};
use amie_usage::{Decimal, UsageType};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;

/// Columns of `record` that a new row has; the others are empty until it is sent.
macro_rules! fresh_columns {
    () => {
        "key, state, usage_type, version, source_digest, flags, file, line, resource, local_record_id, submit, username, \
         project, charge, digest, start_at, end_at, elapsed, requeued, chunk, chunk_offset, chunk_len, born"
    };
}
const FRESH_COLUMNS: &str = fresh_columns!();
const FRESH_COUNT: i16 = 23;

/// Bytes that a new row and its identity have in a COPY, about.
const ROW_BYTES: usize = 384;
const IDENTITY_BYTES: usize = 128;

/// All columns of `record`, in the order in which they are read and written.
const COLUMNS: &str = concat!(
    fresh_columns!(),
    ", sent_version, sent_charge, sent_first, sent_last, sent_chunk, sent_offset, sent_len, \
    before_version, before_charge, before_first, before_last, batch, confirm, loaded_at, loaded_charge, error"
);
const COLUMN_COUNT: i16 = 39;

/// Jobs with fewer runs are kept whole.
const MOST_RUNS: usize = 1_000;

/// Rows that are handed out at a time where all are asked for.
const PAGE: i64 = 2_000;

/// The columns of a row, by their places.
struct Read<'r> {
    row: &'r tokio_postgres::Row,
    at: usize,
}

impl<'r> Read<'r> {
    fn next<T: FromSql<'r>>(&mut self) -> Result<T, Fail> {
        self.at += 1;
        Ok(self.row.try_get(self.at - 1)?)
    }
}

impl Columns for Read<'_> {
    type Fail = Fail;

    fn code(&mut self) -> Result<i64, Fail> {
        Ok(self.next::<i16>()?.into())
    }

    fn number(&mut self) -> Result<Option<i64>, Fail> {
        self.next()
    }

    fn truth(&mut self) -> Result<bool, Fail> {
        self.next()
    }

    fn text(&mut self) -> Result<Option<&str>, Fail> {
        self.next()
    }

    fn bytes(&mut self) -> Result<Option<&[u8]>, Fail> {
        self.next()
    }

    fn skip(&mut self, columns: usize) {
        self.at += columns;
    }
}

impl PostgresStore {
    /// Reads a row of [`COLUMNS`].
    fn read(&self, row: &tokio_postgres::Row) -> Result<Row, Fail> {
        columns::row(&mut Read { row, at: 0 }, |id| self.name(id))
    }

    /// Rows, with the names in them read together.
    fn read_all(&self, rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, Fail> {
        let mut names = BTreeSet::new();
        for row in rows {
            for column in [6, 8, 11, 12] {
                names.extend(row.try_get::<_, Option<i64>>(column)?);
            }
        }
        self.learn_texts(names)?;
        rows.iter().map(|row| self.read(row)).collect()
    }

    /// A row as `COPY` takes it, in the order of the columns.
    fn tuple(&self, tuples: &mut Tuples, row: &Row) -> Result<(), Fail> {
        let wanted = row.wanted.as_ref();
        let id = |text: Option<&str>| text.map(|text| self.id(text)).transpose();
        let decimal = |charge: Option<Decimal>| charge.map(|charge| charge.to_string());
        let payload = wanted.and_then(|wanted| wanted.payload);
        let place = |tuples: &mut Tuples, payload: Option<PayloadRef>| {
            tuples
                .long(payload.map(|payload| payload.chunk))
                .long(payload.map(|payload| payload.offset.into()))
                .long(payload.map(|payload| payload.len.into()));
        };
        let sent = |tuples: &mut Tuples, sent: Option<Sent>| {
            tuples
                .long(sent.map(|sent| sent.version.into()))
                .text(decimal(sent.map(|sent| sent.charge)).as_deref())
                .long(sent.map(|sent| sent.first_at))
                .long(sent.map(|sent| sent.last_at));
        };
        tuples
            .row(COLUMN_COUNT)
            .text(row.key.as_str())
            .short(short(state_code(row.state)))
            .short(short(type_code(row.usage_type)))
            .long(i64::from(row.version))
            .bytes(Some(&row.source_digest.to_be_bytes()))
            .short(short(flags(row)))
            .long(self.id(&row.file)?)
            .long(signed(row.line))
            .long(id(wanted.map(|wanted| &*wanted.identity.resource))?)
            .text(wanted.map(|wanted| wanted.identity.local_record_id.as_str()))
            .long(wanted.map(|wanted| wanted.identity.submit))
            .long(id(wanted.map(|wanted| &*wanted.username))?)
            .long(id(wanted.map(|wanted| &*wanted.project))?)
            .text(decimal(wanted.map(|wanted| wanted.charge)).as_deref())
            .bytes(wanted.map(|wanted| wanted.digest.to_be_bytes()).as_ref().map(<[u8; 16]>::as_slice))
            .long(wanted.map(|wanted| wanted.facts.start))
            .long(wanted.map(|wanted| wanted.facts.end))
            .long(wanted.map(|wanted| signed(wanted.facts.elapsed)))
            .boolean(wanted.map(|wanted| wanted.facts.requeued));
        place(tuples, payload);
        tuples.long(row.born);
        sent(tuples, row.sent);
        place(tuples, row.sent_payload);
        sent(tuples, row.before);
        tuples
            .long(row.batch)
            .long(row.confirm)
            .long(row.loaded.map(|(at, _)| at))
            .text(decimal(row.loaded.map(|(_, charge)| charge)).as_deref())
            .text(row.error.as_deref());
        Ok(())
    }

    /// A new row as `COPY` takes it, straight from the record that makes it.
    fn fresh_tuple(tuples: &mut Tuples, fresh: &Fresh<'_>) {
        let Fresh { incoming: Incoming { candidate, digest }, payload, file, resource, username, project } =
            fresh;
        tuples
            .row(FRESH_COUNT)
            .text(candidate.key.as_str())
            .short(short(state_code(State::Pending)))
            .short(short(type_code(candidate.usage_type)))
            .long(1)
            .bytes(Some(&candidate.source_digest.to_be_bytes()))
            .short(0)
            .long(*file)
            .long(signed(candidate.line))
            .long(*resource)
            .text(candidate.local_record_id.as_str())
            .long(candidate.submit)
            .long(*username)
            .long(*project)
            .text(candidate.charge.to_string().as_str())
            .bytes(Some(&digest.to_be_bytes()))
            .long(candidate.facts.start)
            .long(candidate.facts.end)
            .long(signed(candidate.facts.elapsed))
            .boolean(Some(candidate.facts.requeued))
            .long(payload.chunk)
            .long(i64::from(payload.offset))
            .long(i64::from(payload.len))
            .long(payload.chunk);
    }

    /// Rows of these keys, and that the others are not there.
    fn learn_rows(&self, keys: &[&str]) -> Result<(), Fail> {
        let unknown: Vec<&str> = {
            let memory = self.memory.borrow();
            keys.iter().copied().filter(|key| !memory.rows.contains_key(*key)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let found =
            self.query(format!("SELECT {COLUMNS} FROM record WHERE key = ANY($1)"), &[&clean(&unknown)])?;
        let rows = self.read_all(&found)?;
        let memory = &mut *self.memory.borrow_mut();
        memory.rows.extend(unknown.iter().map(|key| ((*key).to_owned(), None)));
        memory.rows.extend(rows.into_iter().map(|row| (row.key.clone(), Some(row))));
        Ok(())
    }

    fn ahead_incoming(&self, incoming: &[Incoming<'_>]) -> Result<(), Fail> {
        let candidates: Vec<&Candidate> = incoming.iter().map(|incoming| incoming.candidate).collect();
        let keys: Vec<&str> = candidates.iter().map(|candidate| candidate.key.as_str()).collect();
        self.learn_rows(&keys)?;
        self.learn_holds(&keys)?;
        self.learn_pasts(&keys)?;
        self.learn_jobs(&candidates)?;
        let identities: Vec<_> = candidates.iter().map(|one| (one.usage_type, one.identity())).collect();
        self.learn_owners(&identities)
    }

    /// Everything that these rows no longer refer to, or say.
    fn learn_pasts(&self, keys: &[&str]) -> Result<(), Fail> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys = clean(keys);
        let found = self.list("SELECT key, kind, id FROM past WHERE key = ANY($1) ORDER BY id", &[&keys])?;
        let memory = &mut *self.memory.borrow_mut();
        memory.pasts.extend(keys.into_iter().map(|key| (key, Vec::new())));
        for row in &found {
            if let Some(pasts) = memory.pasts.get_mut(row.try_get::<_, &str>(0)?) {
                pasts.push((row.try_get(1)?, row.try_get(2)?));
            }
        }
        Ok(())
    }

    /// All rows of the jobs that these records are of.
    fn learn_jobs(&self, candidates: &[&Candidate]) -> Result<(), Fail> {
        let jobs: BTreeSet<&str> = candidates.iter().filter_map(|one| job_of(&one.key)).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let from: Vec<&str> = jobs.iter().copied().collect();
        let to: Vec<String> = jobs.iter().map(|job| behind(job)).collect();
        // With an order and a limit each job is one look into the index, whatever the planner thinks of ranges.
        let sql = format!(
            "SELECT {COLUMNS} FROM unnest($1::text[], $2::text[]) AS w (a, b) CROSS JOIN LATERAL \
             (SELECT * FROM record WHERE record.key > w.a AND record.key < w.b ORDER BY record.key LIMIT {MOST_RUNS}) r"
        );
        let rows = self.read_all(&self.list(sql, &[&from, &to])?)?;
        let memory = &mut *self.memory.borrow_mut();
        let mut found: HashMap<String, BTreeSet<String>> =
            jobs.into_iter().map(|job| (job.to_owned(), BTreeSet::new())).collect();
        for row in rows {
            if let Some(keys) = job_of(&row.key).and_then(|job| found.get_mut(job)) {
                keys.insert(row.key.clone());
            }
            memory.rows.insert(row.key.clone(), Some(row));
        }
        // Of the others there may be more: each of their runs is asked for by itself.
        memory.jobs.extend(found.into_iter().filter(|(_, keys)| keys.len() < MOST_RUNS));
        Ok(())
    }

    /// Who has these identities.
    fn learn_owners(&self, identities: &[(UsageType, Identity)]) -> Result<(), Fail> {
        let wire = |(usage_type, identity): &(_, Identity)| {
            Ok(wire(*usage_type, self.id(&identity.resource)?, identity))
        };
        self.learn_wires(identities.iter().map(wire).collect::<Result<_, Fail>>()?)
    }

    pub(super) fn learn_wires(&self, wires: Vec<Wire>) -> Result<(), Fail> {
        if wires.is_empty() {
            return Ok(());
        }
        let types: Vec<i16> = wires.iter().map(|wire| wire.0).collect();
        let resources: Vec<i64> = wires.iter().map(|wire| wire.1).collect();
        let ids: Vec<&str> = wires.iter().map(|wire| wire.2.as_str()).collect();
        let submits: Vec<i64> = wires.iter().map(|wire| wire.3).collect();
        // Behind `OFFSET 0` each is one look into the index: for many of them a planner reads the whole table else.
        let found = self.query(
            "SELECT i.usage_type, i.resource, i.local_record_id, i.submit, i.key \
             FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[]) AS w (t, r, l, s) CROSS JOIN LATERAL \
             (SELECT * FROM identity i WHERE i.local_record_id = w.l AND i.submit = w.s AND i.resource = w.r \
             AND i.usage_type = w.t OFFSET 0) i",
            &[&types, &resources, &ids, &submits],
        )?;
        let memory = &mut *self.memory.borrow_mut();
        for row in &found {
            let wire = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let key: String = row.try_get(4)?;
            memory.owners.entry(wire).or_insert(Owner { stored: Some(key.clone()), now: Some(key) });
        }
        for wire in wires {
            memory.owners.entry(wire).or_default();
        }
        Ok(())
    }

    fn ahead_sightings(&self, sightings: &[Sighting]) -> Result<(), Fail> {
        let mut asked = BTreeSet::new();
        let mut failures: Vec<(&str, &str)> = Vec::new();
        for sighting in sightings {
            match sighting {
                Sighting::Loaded { usage_type, resource, local_record_id, .. } => {
                    asked.insert((*usage_type, resource.as_str(), local_record_id.as_str()));
                }
                Sighting::Failed {
                    usage_type,
                    resource,
                    local_record_id,
                    failed_id,
                    local_reference,
                    ..
                } => {
                    asked.insert((*usage_type, resource.as_str(), local_record_id.as_str()));
                    failures.extend(local_reference.as_deref().zip(failed_id.as_deref()));
                }
            }
        }
        self.learn_known(asked.iter().map(|(_, resource, _)| *resource))?;
        let mut wanted: (Vec<i16>, Vec<i64>, Vec<&str>) = Default::default();
        let mut resources = BTreeMap::new();
        for (usage_type, resource, id) in &asked {
            let Some(number) = self.known_id(resource)? else { continue };
            resources.insert(number, (*resource).to_owned());
            wanted.0.push(short(type_code(*usage_type)));
            wanted.1.push(number);
            wanted.2.push(id);
        }
        let found = self.query(
            "SELECT i.usage_type, i.resource, i.local_record_id, i.submit, i.key \
             FROM unnest($1::smallint[], $2::bigint[], $3::text[]) AS w (t, r, l) CROSS JOIN LATERAL \
             (SELECT * FROM identity i WHERE i.local_record_id = w.l AND i.resource = w.r AND i.usage_type = w.t \
             OFFSET 0) i",
            &[&wanted.0, &wanted.1, &clean(&wanted.2)],
        )?;
        let mut keys = Vec::new();
        {
            let memory = &mut *self.memory.borrow_mut();
            for (usage_type, resource, id) in &asked {
                memory.shown.entry((*usage_type, (*resource).to_owned(), (*id).to_owned())).or_default();
            }
            for row in &found {
                let usage_type = usage_type(row.try_get::<_, i16>(0)?.into())?;
                let resource = resources.get(&row.try_get::<_, i64>(1)?).cloned().unwrap_or_default();
                let key: String = row.try_get(4)?;
                keys.push(key.clone());
                let list = memory.shown.entry((usage_type, resource, row.try_get(2)?)).or_default();
                list.push((row.try_get(3)?, key));
            }
            memory.shown.values_mut().for_each(|list| list.sort());
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.learn_rows(&keys)?;
        self.learn_failures(&failures)
    }

    /// Writes the rows that changed.
    pub(super) fn write_rows(&self) -> Result<(), Fail> {
        let changed = std::mem::take(&mut self.memory.borrow_mut().changed);
        if changed.is_empty() {
            return Ok(());
        }
        let (mut fresh, mut known) = (Tuples::default(), Tuples::default());
        {
            let memory = self.memory.borrow();
            for (key, new) in &changed {
                if let Some(Some(row)) = memory.rows.get(key) {
                    self.tuple(if *new { &mut fresh } else { &mut known }, row)?;
                }
            }
        }
        self.copy_in(&format!("COPY record ({COLUMNS}) FROM STDIN BINARY"), fresh)?;
        if known.is_empty() {
            return Ok(());
        }
        self.copy_in(&format!("COPY changed_record ({COLUMNS}) FROM STDIN BINARY"), known)?;
        let values: Vec<String> = COLUMNS.split(',').map(|name| format!("n.{}", name.trim())).collect();
        let sql = format!(
            "UPDATE record AS o SET ({COLUMNS}) = ({}) FROM changed_record n WHERE o.key = n.key",
            values.join(", ")
        );
        self.execute(sql, &[])?;
        // The table is empty again when the transaction ends; until then it may be used once more.
        self.execute("DELETE FROM changed_record", &[])?;
        Ok(())
    }
}

/// Keys as they are stored.
fn clean(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| storable(key).into_owned()).collect()
}

impl Rows for PostgresStore {
    // A whole transaction: for each COPY a server makes and drops a slot for each of up to 1,000 rows.
    const TOGETHER: usize = 10_000;

    fn ahead(&self, what: Ahead<'_>) -> Result<(), Fail> {
        match what {
            Ahead::Names(incoming) => {
                let candidates = incoming.iter().map(|incoming| incoming.candidate);
                self.learn_ids(candidates.flat_map(|one| [&*one.resource, &*one.username, &*one.project]))
            }
            Ahead::Incoming(incoming) => self.ahead_incoming(incoming),
            Ahead::Keys(keys) => {
                self.learn_rows(keys)?;
                self.learn_holds(keys)
            }
            Ahead::Identities(identities) => self.learn_owners(identities),
            Ahead::Sightings(sightings) => self.ahead_sightings(sightings),
            Ahead::Texts { source, digests } => self.learn_seen_texts(source, digests),
        }
    }

    fn row(&self, key: &str) -> Result<Option<Row>, Fail> {
        if let Some(row) = self.memory.borrow().rows.get(key) {
            return Ok(row.clone());
        }
        self.learn_rows(&[key])?;
        Ok(self.memory.borrow().rows.get(key).cloned().flatten())
    }

    fn glances(
        &self,
        ranges: &[(&str, String)],
        limit: usize,
        mut each: impl FnMut(&str, Glance),
    ) -> Result<bool, Fail> {
        // With an order and a limit each range is one look into the index, whatever the planner thinks of ranges.
        let sql = "SELECT key, digest, source_digest, state, flags, w.n \
                   FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (a, b, n) CROSS JOIN LATERAL \
                   (SELECT * FROM record WHERE record.key >= w.a AND record.key <= w.b ORDER BY record.key LIMIT $3) r \
                   ORDER BY w.n, r.key";
        let (first, last): (Vec<_>, Vec<_>) =
            ranges.iter().map(|(first, last)| (storable(first), storable(last))).unzip();
        let most = signed(limit as u64).saturating_add(1);
        let (mut complete, mut range, mut rows) = (true, 0, 0);
        for row in self.list(sql, &[&first, &last, &most])? {
            let number: i64 = row.try_get(5)?;
            rows = if number == range { rows + 1 } else { 1 };
            range = number;
            if rows > limit {
                complete = false;
                continue;
            }
            let key = row.try_get(0)?;
            each(key, columns::glance(key, &mut Read { row: &row, at: 1 })?);
        }
        Ok(complete)
    }

    fn insert_fresh(&self, fresh: &[Fresh<'_>]) -> Result<bool, Fail> {
        // What the group before left in memory comes first, and what was read for it may be otherwise after this.
        self.write_out()?;
        self.memory.borrow_mut().forget_what_was_read();
        let (mut identities, mut rows) =
            (Tuples::with_room(fresh.len(), IDENTITY_BYTES), Tuples::with_room(fresh.len(), ROW_BYTES));
        for one in fresh {
            let candidate = one.incoming.candidate;
            identities
                .row(5)
                .short(short(type_code(candidate.usage_type)))
                .long(one.resource)
                .text(candidate.local_record_id.as_str())
                .long(candidate.submit)
                .text(candidate.key.as_str());
            Self::fresh_tuple(&mut rows, one);
        }
        self.simple("SAVEPOINT fresh")?;
        let sql = "COPY identity (usage_type, resource, local_record_id, submit, key) FROM STDIN BINARY";
        match self.copy_in(sql, identities) {
            Ok(()) => {}
            Err(Fail::Sql(error)) if !lost(&error) && error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                self.simple("ROLLBACK TO SAVEPOINT fresh")?;
                return Ok(false);
            }
            Err(fail) => return Err(fail),
        }
        self.copy_in(&format!("COPY record ({FRESH_COLUMNS}) FROM STDIN BINARY"), rows)?;
        self.simple("RELEASE SAVEPOINT fresh")?;
        Ok(true)
    }

    fn put(&self, before: Option<&Row>, row: &Row) -> Result<(), Fail> {
        let memory = &mut *self.memory.borrow_mut();
        memory.rows.insert(row.key.clone(), Some(row.clone()));
        memory.changed.entry(row.key.clone()).or_insert(before.is_none());
        if let Some(keys) = job_of(&row.key).and_then(|job| memory.jobs.get_mut(job)) {
            keys.insert(row.key.clone());
        }
        Ok(())
    }

    fn keep_past(&self, key: &str, kind: Past, id: i64) -> Result<(), Fail> {
        let memory = &mut *self.memory.borrow_mut();
        if let Some(pasts) = memory.pasts.get_mut(storable(key).as_ref()) {
            pasts.push((past_code(kind), id));
        }
        memory.past.insert((storable(key).into_owned(), past_code(kind), id));
        Ok(())
    }

    fn past(&self, key: &str, kind: Past) -> Result<Vec<i64>, Fail> {
        let ids = |pasts: &[(i16, i64)]| {
            let of_kind = pasts.iter().filter(|(code, _)| *code == past_code(kind));
            of_kind.map(|(_, id)| *id).collect()
        };
        if let Some(pasts) = self.memory.borrow().pasts.get(storable(key).as_ref()) {
            return Ok(ids(pasts));
        }
        let sql = "SELECT kind, id FROM past WHERE key = $1 ORDER BY id";
        let rows = self.list(sql, &[&storable(key).as_ref()])?;
        let pasts: Vec<(i16, i64)> =
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Fail>>()?;
        Ok(ids(&pasts))
    }

    fn in_state(
        &self,
        state: State,
        usage_type: UsageType,
        after: &str,
        limit: usize,
        mut take: impl FnMut(Row) -> bool,
    ) -> Result<(), Fail> {
        // The state is part of the statement, so that the partial index is seen to fit.
        let sql = format!(
            "SELECT {COLUMNS} FROM record WHERE state IN (1, 3, 5, 7) AND state = {} AND usage_type = $1 \
             AND key > $2 ORDER BY key LIMIT $3",
            state_code(state)
        );
        let kind = short(type_code(usage_type));
        let found = self.list(sql, &[&kind, &storable(after).as_ref(), &signed(limit as u64)])?;
        for row in self.read_all(&found)? {
            self.memory.borrow_mut().rows.insert(row.key.clone(), Some(row.clone()));
            if !take(row) {
                break;
            }
        }
        Ok(())
    }

    fn quiet(&self, usage_type: UsageType, since: i64, limit: usize) -> Result<Vec<Row>, Fail> {
        let sql = format!(
            "SELECT {COLUMNS} FROM record WHERE state = 4 AND version > sent_version AND usage_type = $1 \
             AND sent_last <= $2 ORDER BY key LIMIT $3"
        );
        let kind = short(type_code(usage_type));
        let found = self.list(sql, &[&kind, &since, &signed(limit as u64)])?;
        self.read_all(&found)
    }

    fn keys_with_error(&self, state: State, error: Option<&str>) -> Result<Vec<String>, Fail> {
        let sql = format!(
            "SELECT key FROM record WHERE state IN (1, 3, 5, 7) AND state = {} AND ($1::text IS NULL OR error = $1) \
             ORDER BY usage_type, key",
            state_code(state)
        );
        let found = self.list(sql, &[&error.map(storable).as_deref()])?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    fn rows_after(&self, project: Option<i64>, after: &str, limit: usize) -> Result<Vec<Row>, Fail> {
        let sql = format!(
            "SELECT {COLUMNS} FROM record WHERE key > $1 AND ($2::bigint IS NULL OR project = $2) ORDER BY key LIMIT $3"
        );
        let found = self.list(sql, &[&storable(after).as_ref(), &project, &signed(limit as u64)])?;
        self.read_all(&found)
    }

    fn rows_of_job(&self, after: &str, before: &str, limit: usize) -> Result<Vec<Row>, Fail> {
        {
            let memory = self.memory.borrow();
            if let Some(keys) = job_of(after).and_then(|job| memory.jobs.get(job)) {
                let between = keys.iter().filter(|key| ***key > *after && ***key < *before);
                return Ok(between.filter_map(|key| memory.rows.get(key)?.clone()).take(limit).collect());
            }
        }
        let sql = format!("SELECT {COLUMNS} FROM record WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3");
        let (after, before) = (storable(after), storable(before));
        let found = self.list(sql, &[&after.as_ref(), &before.as_ref(), &signed(limit as u64)])?;
        self.read_all(&found)
    }

    fn every_row(&self, mut each: impl FnMut(Row) -> Result<bool, Fail>) -> Result<(), Fail> {
        let mut after = String::new();
        loop {
            let sql = format!("SELECT {COLUMNS} FROM record WHERE key > $1 ORDER BY key LIMIT $2");
            let found = self.list(sql, &[&after, &PAGE])?;
            let rows = self.read_all(&found)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after.clone_from(&last.key);
            // What is asked of each row is read for all of them, and for no longer than this page.
            self.memory.replace(Memory::default());
            self.learn_histories(&rows)?;
            for row in rows {
                self.memory.borrow_mut().rows.insert(row.key.clone(), Some(row.clone()));
                if !each(row)? {
                    return Ok(());
                }
            }
        }
    }

    fn row_groups(&self, list: List, examples: usize) -> Result<Vec<Group>, Fail> {
        let state = state_code(match list {
            List::Failed => State::Failed,
            List::Unknown => State::Unknown,
            List::Rejected | List::Holds | List::Quarantine => State::Rejected,
        });
        let rows = format!("FROM record WHERE state IN (1, 3, 5, 7) AND state = {state}");
        let reason = if list == List::Unknown {
            "CASE usage_type WHEN 0 THEN 'Compute' WHEN 1 THEN 'Storage' ELSE 'Adjustment' END"
        } else {
            "coalesce(error, '')"
        };
        self.groups(
            format!("SELECT {reason}, count(*), {reason} {rows} GROUP BY 1"),
            format!("SELECT key {rows} AND {reason} = $1 ORDER BY key LIMIT $2"),
            examples,
        )
    }

    fn tallies(&self) -> Result<BTreeMap<Place, (i64, Decimal)>, Fail> {
        let sql = "SELECT usage_type, resource, project, state, records, charge FROM tally \
                   WHERE records <> 0 OR charge <> '0'";
        let mut tallies = BTreeMap::new();
        for row in self.list(sql, &[])? {
            tallies.insert(place_of(&row)?, (row.try_get(4)?, charge(row.try_get(5)?)?));
        }
        Ok(tallies)
    }

    fn add_to_tallies(&self, changes: &BTreeMap<Place, (i64, Decimal)>) -> Result<(), Fail> {
        if changes.is_empty() {
            return Ok(());
        }
        let codes = |place: &Place| (short(type_code(place.0)), place.1, place.2, short(state_code(place.3)));
        let types: Vec<i16> = changes.keys().map(|place| codes(place).0).collect();
        let resources: Vec<i64> = changes.keys().map(|place| place.1).collect();
        let projects: Vec<i64> = changes.keys().map(|place| place.2).collect();
        let states: Vec<i16> = changes.keys().map(|place| codes(place).3).collect();
        let found = self.query(
            "SELECT t.usage_type, t.resource, t.project, t.state, t.records, t.charge \
             FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[]) AS w (t, r, p, s) \
             JOIN tally t ON t.usage_type = w.t AND t.resource = w.r AND t.project = w.p AND t.state = w.s",
            &[&types, &resources, &projects, &states],
        )?;
        let mut before = BTreeMap::new();
        for row in &found {
            before.insert(place_of(row)?, (row.try_get::<_, i64>(4)?, charge(row.try_get(5)?)?));
        }
        let (mut records, mut charges) = (Vec::new(), Vec::new());
        for (place, (more, sum)) in changes {
            let (rows, total) = before.get(place).copied().unwrap_or_default();
            records.push(rows.saturating_add(*more));
            charges.push(total.checked_add(*sum).ok_or(LedgerError::ChargeOverflow)?.to_string());
        }
        self.execute(
            "INSERT INTO tally (usage_type, resource, project, state, records, charge) \
             SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::text[]) \
             ON CONFLICT (usage_type, resource, project, state) \
             DO UPDATE SET records = excluded.records, charge = excluded.charge",
            &[&types, &resources, &projects, &states, &records, &charges],
        )?;
        Ok(())
    }
}

fn place_of(row: &tokio_postgres::Row) -> Result<Place, Fail> {
    let kind = usage_type(row.try_get::<_, i16>(0)?.into())?;
    Ok((kind, row.try_get(1)?, row.try_get(2)?, state(row.try_get::<_, i16>(3)?.into())?))
}

/// Kinds of references in `past`.
pub(super) const fn past_code(kind: Past) -> i16 {
    match kind {
        Past::Batch => 0,
        Past::Confirm => 1,
        Past::Source => 2,
    }
}

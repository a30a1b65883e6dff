//! Maps quota readings to storage records.

use crate::digest::reading_digest;
use crate::formula::Formula;
use crate::identity::{RunKey, push_hex, push_part};
use crate::outcome::{Hold, HoldReason, MappedReading, Skip, SkipReason, StorageOutcome};

use crate::problems::Problems;
use crate::quantity::{Stored, Subject};
use crate::resources::check_rounding;
use crate::rules::Rules;
use crate::spec::{Charged, Rounding, RuleError, RulePlace, ServiceTreats, StorageSpec};
use crate::suggest::closest;
use crate::terms::Pricing;
use crate::text::{MAX_FIELD, cell, shown, unfit};
use amie_usage::wire::format_time;
use amie_usage::{StorageAttributes, StorageUsageRecord};
use chrono::{DateTime, Datelike, NaiveDate};
use parsers::{OwnerKind, Reading};
use std::borrow::Cow;
use std::collections::HashMap;

/// A compiled `[[storage]]`.
#[derive(Debug)]
pub(crate) struct Storage {
    source: String,
    pub(crate) resource: String,
    service_treats: Option<ServiceTreats>,
    formula: Formula,
    round: Rounding,
    interval_days: u64,
    media_type: Option<String>,
    system_copies: Option<u64>,
    owners: HashMap<Vec<u8>, Owner>,
}

#[derive(Debug)]
struct Owner {
    project: String,
    username: String,
    line: u64,
}

pub(crate) fn compile(specs: Vec<StorageSpec>, problems: &mut Problems) -> Vec<Storage> {
    let mut compiled: Vec<Storage> = Vec::with_capacity(specs.len());
    for (index, spec) in specs.into_iter().enumerate() {
        let place = RulePlace::Storage { index };
        if compiled.iter().any(|earlier| earlier.source == spec.source) {
            let message = format!("source `{}` has a [[storage]] already", spec.source);
            problems.error(place, message, None);
        }
        compiled.extend(compile_one(spec, index, problems));
    }
    compiled
}

/// `None` where the formula cannot be used.
fn compile_one(spec: StorageSpec, index: usize, problems: &mut Problems) -> Option<Storage> {
    let place = RulePlace::Storage { index };
    if let Some(why) = unfit(&spec.resource) {
        problems.error(place, format!("the resource's name {why}"), None);
    }
    if let Some(why) = spec.media_type.as_deref().and_then(unfit) {
        problems.error(place, format!("media_type {why}"), None);
    }
    if spec.interval_days == 0 || spec.interval_days > 366 {
        let message = format!("interval_days is {}: it goes from 1 to 366", spec.interval_days);
        problems.error(place, message, None);
    }
    check_rounding(spec.round, place, problems);
    if spec.service_treats.is_none() {
        let help = "set service_treats = \"level\" (a reading replaces the one before) or \"sum\" (readings add up), whichever the service does";
        problems.warning(place, "service_treats is not set: all readings are held", Some(help));
    }
    let mut owners: HashMap<Vec<u8>, Owner> = HashMap::with_capacity(spec.owners.len());
    for row in spec.owners {
        let place = RulePlace::OwnerRow { storage: index, line: row.line };
        for (what, name) in [("owner", &row.owner), ("project", &row.project), ("username", &row.username)] {
            if let Some(why) = unfit(name) {
                problems.error(place, format!("the {what} {why}"), None);
            }
        }
        if matches!(row.owner.as_str(), "#0" | "root") {
            let message = format!("`{}` is where unassigned data is counted: it is never charged", row.owner);
            problems.warning(place, message, None);
        }
        let owner = Owner { project: row.project, username: row.username, line: row.line };
        if let Some(earlier) = owners.get(row.owner.as_bytes()) {
            let message = format!("owner `{}` is in line {} already", row.owner, earlier.line);
            problems.error(place, message, None);
            continue;
        }
        owners.insert(row.owner.into_bytes(), owner);
    }
    let formula = Formula::compile(&spec.charge, Subject::Reading)
        .map_err(|errors| {
            problems.formula(errors, |offset, len| RulePlace::StorageFormula { index, offset, len });
        })
        .ok()?;
    Some(Storage {
        source: spec.source,
        resource: spec.resource,
        service_treats: spec.service_treats,
        formula,
        round: spec.round,
        interval_days: spec.interval_days,
        media_type: spec.media_type,
        system_copies: spec.system_copies,
        owners,
    })
}

/// Maps the readings of one source.
#[derive(Debug)]
pub struct StorageMapper<'r> {
    rules: &'r Rules,
    storage: &'r Storage,
    kind: OwnerKind,
}

impl<'r> StorageMapper<'r> {
    /// For the readings of `source` that are of `kind`.
    ///
    /// # Errors
    /// Where no `[[storage]]` names the source.
    pub fn new(rules: &'r Rules, source: &str, kind: OwnerKind) -> Result<Self, RuleError> {
        let storage = rules.storage.iter().find(|storage| storage.source == source).ok_or_else(|| {
            let known = rules.storage.iter().map(|storage| storage.source.as_str());
            RuleError {
                place: RulePlace::Source,
                message: format!("no [[storage]] says how readings of source `{source}` are charged"),
                help: closest(source, known).map(|close| format!("did you mean `{close}`?")),
            }
        })?;
        Ok(Self { rules, storage, kind })
    }

    /// Makes a record of `reading`, taken at `collected_at` (epoch seconds), or says why there is none.
    pub fn map<'m>(&'m self, reading: &'m Reading<'m>, collected_at: i64) -> StorageOutcome<'m> {
        if reading.owner_kind != self.kind {
            return StorageOutcome::Skipped(Skip { reason: SkipReason::OtherOwnerKind });
        }
        let name: &[u8] = reading.owner_name;
        if reading.owner_id == Some(0) || name == b"#0" || name == b"root" {
            return StorageOutcome::Skipped(Skip { reason: SkipReason::Unassigned });
        }
        match self.record(reading, collected_at) {
            Err(hold) => StorageOutcome::Held(hold),
            Ok(mapped) => match self.rules.policy.limits.above_max_charge(mapped.record.charge) {
                Some(hold) => StorageOutcome::HeldForApproval(mapped, hold),
                None if mapped.record.charge.is_zero() && !self.rules.policy.send_zero => {
                    StorageOutcome::Zero(mapped)
                }
                None => StorageOutcome::Mapped(mapped),
            },
        }
    }

    fn record<'m>(&'m self, reading: &'m Reading<'m>, collected_at: i64) -> Result<MappedReading<'m>, Hold> {
        let storage = self.storage;
        let owner = self.owner(reading)?;
        if storage.service_treats.is_none() {
            let detail = format!(
                "it is not known whether the service replaces or adds repeated readings of {}: set service_treats = \"level\" or \"sum\" in its [[storage]]",
                storage.resource
            );
            return Err(Hold::new(HoldReason::ServiceTreatsUnset, detail));
        }
        let first_day = self.interval_start(collected_at).ok_or_else(|| {
            let detail = format!("the reading was taken at {collected_at} s, outside the years 0 to 9999");
            Hold::new(HoldReason::Inconsistent, detail)
        })?;
        let pricing = Pricing {
            formula: &storage.formula,
            factors: &[],
            policy: Charged::Charge,
            minimum: None,
            round: storage.round,
        };
        let stored = Stored { reading, interval_days: storage.interval_days };
        let charge = pricing.charge(&stored, &mut ()).map_err(|fault| {
            fault.explain(&storage.resource, &storage.formula, &|_| (Cow::Borrowed(""), String::new()))
        })?;
        let (source, owner_part) = (self.source_part(), owner_part(reading));
        let kind = reading.owner_kind.as_str();
        let key = self.key_on(reading, &first_day.to_string());
        // Dots part the id, so those of the source's name are written as %2E.
        let source = source.replace('.', "%2E");
        let id = format!("{source}.{kind}.{owner_part}.{first_day}");
        if key.len().max(id.len()) > MAX_FIELD {
            let detail =
                format!("the id of owner `{}` is longer than 255 characters", shown(reading.owner_name));
            return Err(Hold::new(HoldReason::Identity, detail));
        }
        let attributes = StorageAttributes {
            bytes_stored: Some(reading.bytes),
            collection_interval: Some(storage.interval_days),
            file_count: reading.files,
            media_type: storage.media_type.as_deref().map(Cow::Borrowed),
            system_copies: storage.system_copies,
            ..StorageAttributes::default()
        };
        Ok(MappedReading {
            record: StorageUsageRecord {
                username: Cow::Borrowed(&owner.username),
                local_project_id: Cow::Borrowed(&owner.project),
                local_record_id: Cow::Owned(id),
                resource: Cow::Borrowed(&storage.resource),
                collection_time: collected_at,
                charge,
                attributes,
                local_reference: Some(Cow::Owned(key.clone())),
            },
            key: RunKey::from_text(key),
            source_digest: reading_digest(reading, collected_at),
        })
    }

    /// The ledger's key of a reading: source, kind of owner, owner, first day of its interval.
    #[must_use]
    pub fn key(&self, reading: &Reading<'_>, collected_at: i64) -> RunKey {
        let first_day =
            self.interval_start(collected_at).map_or_else(|| collected_at.to_string(), |day| day.to_string());
        RunKey::from_text(self.key_on(reading, &first_day))
    }

    /// Digest of what the report says of this owner: tells a changed reading from changed rules.
    #[must_use]
    pub fn source_digest(&self, reading: &Reading<'_>, collected_at: i64) -> u128 {
        reading_digest(reading, collected_at)
    }

    fn key_on(&self, reading: &Reading<'_>, first_day: &str) -> String {
        let kind = reading.owner_kind.as_str();
        format!("storage/{}/{kind}/{}/{first_day}", self.source_part(), owner_part(reading))
    }

    fn source_part(&self) -> String {
        let mut source = String::new();
        push_part(&mut source, Some(self.storage.source.as_bytes()));
        source
    }

    /// By the name as the report prints it, or by `#` and the number.
    fn owner(&self, reading: &Reading<'_>) -> Result<&'r Owner, Hold> {
        let owners = &self.storage.owners;
        let by_name = owners.get(&**reading.owner_name);
        let by_id = reading.owner_id.and_then(|id| owners.get(format!("#{id}").as_bytes()));
        match (by_name, by_id) {
            (Some(one), Some(other)) if one.line != other.line => {
                // The row that stands first decides, as everywhere.
                Ok(if one.line < other.line { one } else { other })
            }
            (Some(owner), _) | (None, Some(owner)) => Ok(owner),
            (None, None) => {
                let detail = format!(
                    "owner `{}` is in no row of the owner table of {}. Add to it:\nowner,project,username\n{},<LocalProjectID>,<Username>",
                    shown(reading.owner_name),
                    self.storage.resource,
                    cell(reading.owner_name)
                );
                Err(Hold::new(HoldReason::UnknownOwner, detail))
            }
        }
    }

    /// The first day of the interval that `time` lies in. Intervals are counted from Monday, 1 January of the year 1,
    /// in the site's zone, so that weekly readings belong to weeks from Monday to Sunday.
    fn interval_start(&self, time: i64) -> Option<NaiveDate> {
        format_time(time)?;
        let day = DateTime::from_timestamp(time, 0)?.with_timezone(&self.rules.timezone).date_naive();
        let length = i32::try_from(self.storage.interval_days).ok()?;
        let days = day.num_days_from_ce().checked_sub(1)?;
        let into = days.checked_rem_euclid(length)?;
        NaiveDate::from_num_days_from_ce_opt(days.checked_sub(into)?.checked_add(1)?)
    }
}

/// The number where there is one, else the name. A name that is all digits is not that number: its first digit is
/// written as an escape.
fn owner_part(reading: &Reading<'_>) -> String {
    let mut part = String::new();
    match reading.owner_id {
        Some(id) => part.push_str(&id.to_string()),
        None => {
            let name: &[u8] = reading.owner_name;
            match name.split_first() {
                Some((first, rest)) if name.iter().all(u8::is_ascii_digit) => {
                    push_hex(&mut part, *first);
                    part.push_str(&String::from_utf8_lossy(rest));
                }
                _ => push_part(&mut part, Some(name)),
            }
        }
    }
    part
}

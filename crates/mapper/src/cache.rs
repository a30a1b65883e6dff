//! Plans that were made, found again by the names of a run without copying them.

use crate::keys::{Keys, Times};
use crate::plan::Plan;
use crate::rules::Rules;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hasher};

/// Most plans kept: real sites have a few thousand combinations of account, user, partition and qos.
const MAX_PLANS: usize = 65_536;
/// Most bytes of names kept: PBS accounts are written by users, and may be long.
const MAX_BYTES: usize = 8 << 20;

/// A bounded table of plans. It is emptied when it is full, which costs less than to know what is old.
#[derive(Debug, Default)]
pub(crate) struct Plans<'r> {
    table: HashTable<Cached<'r>>,
    hasher: RandomState,
    /// Bytes of names in `table`.
    bytes: usize,
    /// The last plan that is not kept.
    passing: Option<Plan<'r>>,
}

#[derive(Debug)]
struct Cached<'r> {
    hash: u64,
    names: Names,
    plan: Plan<'r>,
}

/// The names of a [`Keys`], one behind the other.
#[derive(Debug)]
struct Names {
    /// `None` where a name is absent.
    lengths: [Option<u32>; 8],
    bytes: Box<[u8]>,
    fold_account: bool,
}

impl Names {
    fn of(keys: &Keys<'_>) -> Self {
        let all = keys.all();
        let lengths = all.map(|name| name.map(|name| u32::try_from(name.len()).unwrap_or(u32::MAX)));
        let bytes = all.into_iter().flatten().flat_map(|name| name.iter().copied()).collect();
        Self { lengths, bytes, fold_account: keys.fold_account }
    }

    fn are(&self, keys: &Keys<'_>) -> bool {
        let mut rest = &*self.bytes;
        for (length, name) in self.lengths.iter().zip(keys.all()) {
            match (length, name) {
                (None, None) => {}
                // The names before this one are equal, so this one would stand at the front.
                (Some(length), Some(name)) if u32::try_from(name.len()).is_ok_and(|len| len == *length) => {
                    match rest.strip_prefix(&**name) {
                        Some(behind) => rest = behind,
                        None => return false,
                    }
                }
                _ => return false,
            }
        }
        rest.is_empty() && self.fold_account == keys.fold_account
    }
}

impl<'r> Plans<'r> {
    /// The plan for `keys` at `times`: a kept one, or one that is made now.
    pub(crate) fn get(&mut self, rules: &'r Rules, keys: &Keys<'_>, times: Times) -> &Plan<'r> {
        if times.submit.is_none() {
            // What is decided without a time may be another thing with one: it is not kept.
            return self.passing.insert(rules.plan(keys, times));
        }
        if self.table.len() >= MAX_PLANS || self.bytes >= MAX_BYTES {
            self.table.clear();
            self.bytes = 0;
        }
        let hash = hash(&self.hasher, keys);
        let same = |cached: &Cached<'_>| {
            cached.hash == hash && cached.plan.is_valid(times) && cached.names.are(keys)
        };
        match self.table.entry(hash, same, |cached| cached.hash) {
            Entry::Occupied(entry) => &entry.into_mut().plan,
            Entry::Vacant(entry) => {
                let cached = Cached { hash, names: Names::of(keys), plan: rules.plan(keys, times) };
                self.bytes = self.bytes.saturating_add(cached.names.bytes.len());
                &entry.insert(cached).into_mut().plan
            }
        }
    }
}

fn hash(hasher: &RandomState, keys: &Keys<'_>) -> u64 {
    let mut hasher = hasher.build_hasher();
    for name in keys.all() {
        // The length sets the names apart, and what is absent from what is empty.
        match name {
            Some(name) => {
                hasher.write_usize(name.len());
                hasher.write(name);
            }
            None => hasher.write_usize(usize::MAX),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{PolicySpec, ProjectPattern, ProjectRow, RulesSpec};
    use bstr::BStr;

    fn rules() -> Rules {
        let every =
            ProjectPattern { account: ".*".to_owned(), project: "$0".to_owned(), ..Default::default() };
        let dated = ProjectRow {
            account: "dated".to_owned(),
            project: "P".to_owned(),
            from: Some("2026-01-01".parse().unwrap()),
            ..Default::default()
        };
        Rules::compile(RulesSpec {
            timezone: chrono_tz::UTC,
            projects: vec![dated],
            project_patterns: vec![every],
            skip: vec![],
            users: None,
            pi_fallback: vec![],
            node_types: vec![],
            resources: vec![],
            storage: vec![],
            policy: PolicySpec::default(),
        })
        .unwrap()
    }

    fn keys<'a>(account: &'a str, user: Option<&'a str>) -> Keys<'a> {
        Keys { account: Some(BStr::new(account)), user: user.map(BStr::new), ..Keys::default() }
    }

    fn at(submit: i64) -> Times {
        Times { submit: Some(submit), ..Times::default() }
    }

    #[test]
    fn a_combination_is_decided_once_per_period() {
        let (rules, mut plans) = (rules(), Plans::default());
        for time in [0, 1, 1_767_225_599, 1_767_225_600, 1_767_225_601, 5] {
            plans.get(&rules, &keys("dated", None), at(time));
        }
        assert_eq!(plans.table.len(), 2, "before 2026 and from 2026 on");
        plans.get(&rules, &keys("dated", None), Times::default());
        assert_eq!(plans.table.len(), 2, "what is decided without a time is not kept");
    }

    #[test]
    fn names_are_told_apart_by_where_they_end() {
        let (rules, mut plans) = (rules(), Plans::default());
        let pairs = [("ab", Some("c")), ("a", Some("bc")), ("abc", None), ("abc", Some("")), ("abd", None)];
        for (account, user) in pairs {
            for (other, other_user) in pairs {
                // By the names themselves, since hashes that differ would hide it.
                let same = Names::of(&keys(account, user)).are(&keys(other, other_user));
                assert_eq!(same, (account, user) == (other, other_user), "{account} {other}");
            }
            plans.get(&rules, &keys(account, user), at(0));
            plans.get(&rules, &keys(account, user), at(0));
        }
        assert_eq!(plans.table.len(), pairs.len());
    }

    #[test]
    fn it_stays_bounded() {
        let (rules, mut plans) = (rules(), Plans::default());
        for number in 0..MAX_PLANS + 10 {
            plans.get(&rules, &keys(&number.to_string(), None), at(0));
        }
        assert_eq!(plans.table.len(), 10);
        let long = "x".repeat(MAX_BYTES / 4);
        for number in 0..10 {
            plans.get(&rules, &keys(&format!("{number}{long}"), None), at(0));
            assert!(plans.table.len() <= 14 && plans.bytes <= MAX_BYTES * 5 / 4);
        }
    }
}

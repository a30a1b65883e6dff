//! Which AMIE login stands for a scheduler user.

use crate::interval::Interval;
use crate::keys::Keys;
use crate::problems::Problems;
use crate::spec::{RulePlace, UserRow};
use crate::text::{field, unfit};
use chrono_tz::Tz;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The compiled `[users]`.
#[derive(Debug)]
pub(crate) struct Users {
    /// User -> its rows, in the order of the table. `None`: the scheduler's user is the login.
    table: Option<HashMap<Vec<u8>, Vec<Row>>>,
    /// Service accounts, whose runs are the PI's where the table does not know them.
    pi_fallback: HashSet<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Row {
    username: String,
    cluster: Option<String>,
    valid: Interval,
    line: u64,
}

/// What the login of a run is, and by which rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UserAnswer<'r> {
    Row {
        username: &'r str,
        line: u64,
    },
    Same {
        username: String,
    },
    /// A service account: the PI of the project, by the project table.
    Pi {
        username: &'r str,
    },
    /// A service account, and the project table names no PI.
    NoPi,
    /// The scheduler's user is the login, and cannot be sent.
    Unfit {
        why: &'static str,
    },
    Unknown,
    NoUser,
    /// A row with dates would decide, and the submit time is not known.
    NeedsSubmit,
}

impl UserAnswer<'_> {
    pub(crate) fn username(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Row { username, .. } | Self::Pi { username } => Some(Cow::Borrowed(username)),
            Self::Same { username } => Some(Cow::Borrowed(username)),
            _ => None,
        }
    }
}

impl Users {
    pub(crate) fn compile(
        rows: Option<Vec<UserRow>>,
        pi_fallback: Vec<String>,
        zone: Tz,
        problems: &mut Problems,
    ) -> Self {
        Self {
            table: rows.map(|rows| compile_table(rows, zone, problems)),
            pi_fallback: pi_fallback.into_iter().map(String::into_bytes).collect(),
        }
    }

    /// The login at `submit`; `valid` shrinks to the submit times around it for which the answer is the same. `pi`: the PI of
    /// the run's project, where the project table names one.
    pub(crate) fn find<'r>(
        &'r self,
        keys: &Keys<'_>,
        pi: Option<&'r str>,
        submit: Option<i64>,
        valid: &mut Interval,
    ) -> UserAnswer<'r> {
        let Some(user) = keys.user else { return UserAnswer::NoUser };
        let is_service = self.pi_fallback.contains(&**user);
        let fallback = || pi.map_or(UserAnswer::NoPi, |username| UserAnswer::Pi { username });
        let Some(table) = &self.table else {
            return match field(user) {
                _ if is_service => fallback(),
                Ok(user) => UserAnswer::Same { username: user.to_owned() },
                Err(why) => UserAnswer::Unfit { why },
            };
        };
        for row in table.get(&**user).map_or(&[][..], Vec::as_slice) {
            let here = row
                .cluster
                .as_ref()
                .is_none_or(|wanted| keys.cluster.is_some_and(|cluster| **cluster == *wanted.as_bytes()));
            if !here {
                continue;
            }
            let fits = match submit {
                _ if row.valid == Interval::ALWAYS => true,
                Some(submit) => valid.decide(row.valid, submit),
                None => return UserAnswer::NeedsSubmit,
            };
            if fits {
                return UserAnswer::Row { username: &row.username, line: row.line };
            }
        }
        if is_service { fallback() } else { UserAnswer::Unknown }
    }
}

fn compile_table(rows: Vec<UserRow>, zone: Tz, problems: &mut Problems) -> HashMap<Vec<u8>, Vec<Row>> {
    let mut table: HashMap<Vec<u8>, Vec<Row>> = HashMap::new();
    for row in rows {
        let place = RulePlace::UserRow { line: row.line };
        if row.user.is_empty() {
            problems.error(place, "the user is empty", None);
        }
        if let Some(why) = unfit(&row.username) {
            problems.error(place, format!("the username {why}"), None);
        }
        let valid = Interval::of_dates(row.from, row.until, zone);
        if valid.is_empty() {
            problems.error(place, "`until` is not after `from`: the row never holds", None);
        }
        let cluster = row.cluster.filter(|cluster| !cluster.is_empty());
        let same = table.entry(row.user.clone().into_bytes()).or_default();
        let hider = same.iter().find(|earlier| {
            (earlier.cluster.is_none() || earlier.cluster == cluster) && earlier.valid.covers(valid)
        });
        if let Some(earlier) = hider {
            let message = format!(
                "user `{}`: this row is never reached, the one in line {} covers it",
                row.user, earlier.line
            );
            problems.warning(place, message, Some("the first row that fits decides"));
        }
        same.push(Row { username: row.username, cluster, valid, line: row.line });
    }
    table
}

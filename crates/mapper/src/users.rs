//! Which AMIE login stands for a scheduler user.

use crate::interval::Interval;
use crate::keys::Keys;
use crate::problems::Problems;
use crate::spec::{RulePlace, UserRow};
use crate::text::{field, unfit};
use chrono_tz::Tz;
use std::borrow::Cow;
use std::collections::HashMap;

/// The compiled `[users]`.
#[derive(Debug)]
pub(crate) enum Users {
    /// No table: the scheduler's user is the login.
    Same,
    /// User -> its rows, in the order of the table.
    Table(HashMap<Vec<u8>, Vec<Row>>),
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
            Self::Row { username, .. } => Some(Cow::Borrowed(username)),
            Self::Same { username } => Some(Cow::Borrowed(username)),
            _ => None,
        }
    }
}

impl Users {
    pub(crate) fn compile(rows: Option<Vec<UserRow>>, zone: Tz, problems: &mut Problems) -> Self {
        let Some(rows) = rows else { return Self::Same };
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
        Self::Table(table)
    }

    /// The login at `submit`; `valid` shrinks to the submit times around it for which the answer is the same.
    pub(crate) fn find(&self, keys: &Keys<'_>, submit: Option<i64>, valid: &mut Interval) -> UserAnswer<'_> {
        let Some(user) = keys.user else { return UserAnswer::NoUser };
        let table = match self {
            Self::Table(table) => table,
            Self::Same => {
                return match field(user) {
                    Ok(user) => UserAnswer::Same { username: user.to_owned() },
                    Err(why) => UserAnswer::Unfit { why },
                };
            }
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
        UserAnswer::Unknown
    }
}

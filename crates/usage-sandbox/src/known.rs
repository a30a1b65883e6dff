//! Whom the service knows: users, projects, resources and allocations, as a test says or as a file has them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whom the service knows. An empty list knows everybody.
///
/// A record of a stranger fails when it is loaded, with the words that the real service was seen to use; with
/// [`refuse_strangers`](Self::refuse_strangers) it is refused at once. As a file it is TOML:
///
/// ```
/// let known = usage_sandbox::Known::from_toml(
///     r#"
///     users = ["alice", "bob"]
///     projects = ["TG-ABC123"]
///     resources = ["anvil.example.org"]
///
///     [[allocation]]
///     project = "TG-ABC123"
///     resource = "anvil.example.org"
///     users = ["alice"]         # left out: all users
///     from = 2026-01-01         # the first day (or second: 2026-01-01T12:00:00Z), UTC; left out: always was
///     until = 2027-01-01        # the first day after it; left out: has no end
///     "#,
/// )?;
/// assert_eq!(known.allocations[0].from, Some(1_767_225_600));
/// # Ok::<(), usage_sandbox::KnownError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Known {
    /// Logins.
    pub users: BTreeSet<String>,
    /// Values of `LocalProjectID`.
    pub projects: BTreeSet<String>,
    /// AMIE resource names.
    pub resources: BTreeSet<String>,
    /// Which project may use which resource, and when. A record without one fails when it is loaded.
    #[serde(rename = "allocation")]
    pub allocations: Vec<Allocation>,
    /// Whether users, projects and resources that are not known are refused at once.
    pub refuse_strangers: bool,
}

/// A project's right to a resource, from one time to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// `LocalProjectID`.
    pub project: String,
    /// AMIE resource name.
    pub resource: String,
    /// Who may use it; empty: everybody.
    #[serde(default)]
    pub users: BTreeSet<String>,
    /// First second of the allocation, epoch seconds. `None`: always was.
    #[serde(default, deserialize_with = "day")]
    pub from: Option<i64>,
    /// First second after it, epoch seconds. `None`: has no end.
    #[serde(default, deserialize_with = "day")]
    pub until: Option<i64>,
}

/// A text that is no list of whom the service knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct KnownError {
    /// What is wrong, and where.
    pub reason: String,
}

impl Known {
    /// Reads TOML.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn from_toml(text: &str) -> Result<Self, KnownError> {
        toml::from_str(text).map_err(|error| KnownError { reason: error.to_string().trim_end().to_owned() })
    }
}

/// A day, a second, or epoch seconds.
fn day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Epoch(i64),
        Calendar(toml::value::Datetime),
    }
    let invalid =
        || serde::de::Error::custom("write a day as 2026-01-01, or a second as 2026-01-01T12:00:00Z");
    match Time::deserialize(deserializer).map_err(|_| invalid())? {
        Time::Epoch(seconds) => Ok(Some(seconds)),
        Time::Calendar(time) => {
            let text = time.to_string();
            let text = if time.time.is_none() { format!("{text}T00:00:00Z") } else { text };
            crate::time::parse(&text).map(Some).ok_or_else(invalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn times_are_days_seconds_or_epochs() {
        let from = |text: &str| {
            let text = format!("[[allocation]]\nproject = \"p\"\nresource = \"r\"\nfrom = {text}");
            Known::from_toml(&text).map(|known| known.allocations[0].from)
        };
        // `date -u -d 2026-10-02T03:04:05Z +%s`
        assert_eq!(from("2026-10-02T03:04:05Z"), Ok(Some(1_790_910_245)));
        assert_eq!(from("1790910245"), Ok(Some(1_790_910_245)));
        assert_eq!(from("2026-10-02"), Ok(Some(1_790_899_200)));
        for bad in ["2026-10-02T03:04:05", "03:04:05", "\"2026-10-02\"", "2026-10-02T03:04:05+02:00", "1.5"] {
            let error = from(bad).unwrap_err().to_string();
            assert!(error.contains("write a day as"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_misspelt_is_told_with_its_line() {
        let error = Known::from_toml("users = [\"a\"]\nproject = [\"b\"]\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("project"), "{error}");
        assert_eq!(Known::from_toml(""), Ok(Known::default()));
    }
}

//! Wire identities that rows have left: zero was sent under them, and nothing else may be charged there any more.
//!
//! They belong to nobody, so that what the service shows of them would pass for another sender's. Kept among the single
//! values of the ledger: few records ever move.

use super::session::Session;
use crate::ledger::LedgerError;
use crate::ledger::row::Identity;
use crate::ledger::sight::CLOCK_SKEW;
use crate::ledger::store::Store;
use amie_usage::{Decimal, UsageType};
use serde::{Deserialize, Serialize};

/// Set where any identity was ever left, so that others' records are not looked up one by one.
const ANY: &str = "identities-left";

/// What is kept of an identity.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    /// The row that left it.
    pub(super) key: String,
    /// When zero was loaded under it; `None` where the service shows no loads.
    loaded_at: Option<i64>,
    /// When that zero was first sent.
    sent_at: i64,
}

/// What is shown under an identity that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftVerdict {
    /// The zero, or what was there before it.
    Known,
    /// Something is charged there that should not be, or the zero never came to be.
    Charged,
}

impl Left {
    pub(super) fn new(key: &str, loaded_at: Option<i64>, sent_at: i64) -> Self {
        Self { key: key.to_owned(), loaded_at, sent_at }
    }

    /// Judges a load.
    pub(super) fn load(&self, charge: Option<Decimal>, at: Option<i64>) -> LeftVerdict {
        let from = self.loaded_at.unwrap_or(self.sent_at.saturating_sub(CLOCK_SKEW));
        let earlier = at.is_some_and(|at| at < from);
        match charge {
            Some(charge) if charge.is_zero() || earlier => LeftVerdict::Known,
            _ => LeftVerdict::Charged,
        }
    }

    /// Judges a failure that was never seen before: it can only be the zero's where that was never seen loaded.
    pub(super) fn failure(&self) -> LeftVerdict {
        if self.loaded_at.is_some() { LeftVerdict::Known } else { LeftVerdict::Charged }
    }
}

fn name(usage_type: UsageType, resource: &str, local_record_id: &str, submit: i64) -> String {
    // As JSON, so that no two identities have one name.
    format!("left/{}", serde_json::json!([usage_type.as_str(), resource, local_record_id, submit]))
}

fn inconsistent(error: &serde_json::Error) -> LedgerError {
    LedgerError::Inconsistent(format!("an identity that was left: {error}"))
}

/// Remembers an identity.
pub(super) fn leave<S: Store>(
    session: &Session<'_, S>,
    usage_type: UsageType,
    identity: &Identity,
    left: &Left,
) -> Result<(), S::Fail> {
    let Identity { resource, local_record_id, submit } = identity;
    let text = serde_json::to_string(left).map_err(|error| inconsistent(&error))?;
    session.store.set_meta(&name(usage_type, resource, local_record_id, *submit), &text)?;
    session.store.set_meta(ANY, "1")
}

/// True where any identity was ever left.
pub(super) fn any<S: Store>(session: &Session<'_, S>) -> Result<bool, S::Fail> {
    Ok(session.store.meta(ANY)?.is_some())
}

/// Who left an identity, where somebody did.
pub(super) fn by<S: Store>(
    session: &Session<'_, S>,
    usage_type: UsageType,
    resource: &str,
    local_record_id: &str,
    submit: Option<i64>,
) -> Result<Option<Left>, S::Fail> {
    let Some(submit) = submit else { return Ok(None) };
    let text = session.store.meta(&name(usage_type, resource, local_record_id, submit))?;
    let left = text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(left.map_err(|error| inconsistent(&error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_an_identity_that_was_left_there_is_zero_or_an_alarm() {
        let charge = |text: &str| text.parse::<Decimal>().ok();
        let settled = Left::new("k", Some(5_000), 4_000);
        assert_eq!(settled.load(charge("0.00"), Some(5_000)), LeftVerdict::Known);
        assert_eq!(settled.load(charge("10"), Some(4_999)), LeftVerdict::Known, "what was there before");
        assert_eq!(settled.load(charge("10"), Some(5_000)), LeftVerdict::Charged);
        assert_eq!(settled.load(charge("10"), None), LeftVerdict::Charged);
        assert_eq!(settled.failure(), LeftVerdict::Known);
        let quiet = Left::new("k", None, 4_000);
        assert_eq!(quiet.load(charge("10"), Some(3_699)), LeftVerdict::Known);
        assert_eq!(quiet.load(charge("10"), Some(3_700)), LeftVerdict::Charged);
        assert_eq!(quiet.failure(), LeftVerdict::Charged);
    }
}

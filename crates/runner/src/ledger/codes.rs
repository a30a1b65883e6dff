//! How values are stored: codes of states and types, digests as 16 bytes, charges as text. Codes never change meaning.

use super::{LedgerError, State, What};
use amie_usage::{Decimal, UsageType};

pub(super) const fn state_code(state: State) -> i64 {
    match state {
        State::Held => 0,
        State::Pending => 1,
        State::Sending => 2,
        State::Unknown => 3,
        State::Accepted => 4,
        State::Rejected => 5,
        State::Loaded => 6,
        State::Failed => 7,
        State::Superseded => 8,
    }
}

pub(super) fn state(code: i64) -> Result<State, LedgerError> {
    State::ALL
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or_else(|| LedgerError::Inconsistent(format!("state code {code}")))
}

pub(super) const fn type_code(usage_type: UsageType) -> i64 {
    match usage_type {
        UsageType::Compute => 0,
        UsageType::Storage => 1,
        UsageType::Adjustment => 2,
    }
}

pub(super) fn usage_type(code: i64) -> Result<UsageType, LedgerError> {
    UsageType::ALL
        .into_iter()
        .find(|usage_type| type_code(*usage_type) == code)
        .ok_or_else(|| LedgerError::Inconsistent(format!("usage type code {code}")))
}

pub(super) fn digest(bytes: &[u8]) -> Result<u128, LedgerError> {
    let bytes = <[u8; 16]>::try_from(bytes)
        .map_err(|_| LedgerError::Inconsistent(format!("a digest of {} bytes", bytes.len())))?;
    Ok(u128::from_be_bytes(bytes))
}

pub(super) fn charge(text: &str) -> Result<Decimal, LedgerError> {
    text.parse().map_err(|error| LedgerError::Inconsistent(format!("a charge: {error}")))
}

/// Counts and offsets that are stored as signed 64-bit numbers. Beyond them is nothing that a site can have.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// And back; a negative one is damage, and reads as 0.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A stored number that must fit 32 bits.
pub(super) fn small(value: i64) -> Result<u32, LedgerError> {
    u32::try_from(value).map_err(|_| LedgerError::Inconsistent(format!("{value} is out of range")))
}

/// What an event is about, by its word.
pub(super) fn what(word: &str) -> Result<What, LedgerError> {
    What::from_word(word).ok_or_else(|| LedgerError::Inconsistent(format!("an event called \"{word}\"")))
}

/// True where a record id is this one, or this one and something other than a letter or digit behind it.
pub(super) fn follows(record: &str, id: &str) -> bool {
    let next = record.strip_prefix(id).and_then(|rest| rest.chars().next());
    next.is_none_or(|next| !next.is_alphanumeric())
}

/// Where in the order of their bytes those texts lie that [follow](follows) an id with something behind it: from the first,
/// and before the second. Some in the last one do not.
pub(super) fn followers(id: &str) -> [(String, String); 4] {
    [("\u{1}", "0"), (":", "A"), ("[", "a"), ("{", "\u{10FFFF}")]
        .map(|(from, to)| (format!("{id}{from}"), format!("{id}{to}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_own_inverse_and_those_of_the_schema() {
        for (code, one) in State::ALL.into_iter().enumerate() {
            let code = i64::try_from(code).unwrap();
            assert_eq!(state_code(one), code);
            assert_eq!(state(code).ok(), Some(one));
        }
        for one in UsageType::ALL {
            assert_eq!(usage_type(type_code(one)).ok(), Some(one));
        }
        assert!(state(9).is_err() && usage_type(3).is_err() && digest(&[1]).is_err() && charge("x").is_err());
        // The partial indexes of the schema name them by number.
        let indexed = [State::Pending, State::Unknown, State::Rejected, State::Failed].map(state_code);
        assert_eq!(indexed, [1, 3, 5, 7]);
        let schema = include_str!("sqlite/migrations/0003.sql");
        assert!(schema.contains("WHERE state = 1 OR state = 3 OR state = 5 OR state = 7;"));
        let schema = include_str!("sqlite/migrations/0001.sql");
        assert!(schema.contains("WHERE state = 4 AND") && state_code(State::Accepted) == 4);
    }

    #[test]
    fn what_follows_an_id_lies_in_its_ranges() {
        let ranges = followers("91");
        let within = |text: &str| ranges.iter().any(|(from, to)| from.as_str() <= text && text < to.as_str());
        for record in ["91.pbssrv", "91_4", "91+1", "91[1]", "91-5", "91~", "91@x", "91\u{e9}"] {
            assert!(within(record), "{record}");
        }
        for record in ["910", "9100000.pbssrv", "91a", "91Z_4", "92", "9", "91"] {
            assert!(!within(record), "{record}");
        }
    }
}

//! The words and pairs of single columns: `State` and `ExitCode`.

use crate::{Malformed, State};
use nom::bytes::complete::tag;
use nom::character::complete::{digit1, i32 as number};
use nom::combinator::{all_consuming, value};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

/// Reads `State`: one word, or `CANCELLED by UID`. A word that is not in the table is [`State::Unknown`].
#[inline]
pub(super) fn state(text: &[u8]) -> State {
    match State::from_word(text) {
        State::Unknown => cancelled_by(text).map_or(State::Unknown, |(_, state)| state),
        known => known,
    }
}

/// `CANCELLED by 20005`: who asked for it, by uid.
fn cancelled_by(input: &[u8]) -> IResult<&[u8], State> {
    all_consuming(value(State::Cancelled, preceded(tag(&b"CANCELLED by "[..]), digit1))).parse(input)
}

/// Reads `ExitCode`, `code:signal`; empty is `None`.
#[inline]
pub(super) fn exit_code(text: &[u8]) -> Result<Option<(i32, i32)>, Malformed> {
    match text {
        b"0:0" => Ok(Some((0, 0))),
        b"" => Ok(None),
        _ => {
            let pair: IResult<&[u8], _> =
                all_consuming(separated_pair(number, tag(&b":"[..]), number)).parse(text);
            pair.map(|(_, pair)| Some(pair)).map_err(|_| Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_word_of_slurm_is_known() {
        // The table of facts: base states, then the flags that win over them.
        for word in "PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY \
                     COMPLETING STAGE_OUT CONFIGURING RESIZING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT STOPPED REVOKED RESV_DEL_HOLD SIGNALING"
            .split_whitespace()
        {
            assert_ne!(state(word.as_bytes()), State::Unknown, "{word}");
        }
    }

    #[test]
    fn requeued_preempted_and_resizing_are_ends() {
        for word in ["REQUEUED", "PREEMPTED", "RESIZING"] {
            assert!(!state(word.as_bytes()).is_live(), "{word}");
        }
    }

    #[test]
    fn cancelled_by_a_uid() {
        assert_eq!(state(b"CANCELLED by 20005"), State::Cancelled);
        assert_eq!(state(b"CANCELLED by 0"), State::Cancelled);
        for text in [
            "CANCELLED by",
            "CANCELLED by x",
            "CANCELLED by 0 ",
            "cancelled",
            "CANCELLED+",
            "?",
            "",
            "COMPLETED ",
        ] {
            assert_eq!(state(text.as_bytes()), State::Unknown, "{text}");
        }
    }

    #[test]
    fn exit_codes() {
        assert_eq!(exit_code(b"0:9"), Ok(Some((0, 9))));
        assert_eq!(exit_code(b"127:0"), Ok(Some((127, 0))));
        assert_eq!(exit_code(b""), Ok(None));
        for text in ["1", "1:", ":1", "1:2:3", "x:0", "99999999999:0"] {
            assert_eq!(exit_code(text.as_bytes()), Err(Malformed), "{text}");
        }
    }
}

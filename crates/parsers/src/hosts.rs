//! The hosts of a run: Slurm's compressed lists (`cn[001-004,7],gpu01`) and the hosts of PBS's `exec_host`, read when they are asked for.

use crate::run::{Run, Scheduler};
use nom::branch::alt;
use nom::bytes::complete::{take_till1, take_while_m_n};
use nom::character::complete::char;
use nom::combinator::{all_consuming, map, opt};
use nom::multi::{many1, separated_list1};
use nom::sequence::{delimited, pair, preceded};
use nom::{IResult, Parser};

/// Most hosts of a run: ten times the largest machine there is. A list is short where its expansion is long
/// (`n[0-999999999]`), so that it needs a limit of its own.
pub const MAX_HOSTS: usize = 100_000;

/// Why the hosts of a run are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// The source does not list them.
    #[error("the source does not list the hosts of the run")]
    NotListed,
    /// The list is not of the scheduler's form.
    #[error("the list of hosts is not of the form that its scheduler writes")]
    Malformed,
    /// There are more than [`MAX_HOSTS`].
    #[error("the list names more than {MAX_HOSTS} hosts")]
    TooMany,
}

impl Run<'_> {
    /// Hands every host of the run to `visit`, in the order of the list; PBS lists a host once for each of its chunks.
    ///
    /// # Errors
    /// Where [`Run::node_list`] is absent, malformed or too long; some hosts may have been handed out by then.
    ///
    /// ```
    /// # fn example(run: &parsers::Run<'_>) -> Result<(), parsers::HostsError> {
    /// let mut hosts = Vec::new();
    /// run.each_host(|host| hosts.push(host.to_vec()))?; // cn[09-10],gpu1: cn09, cn10, gpu1
    /// # Ok(())
    /// # }
    /// ```
    pub fn each_host(&self, mut visit: impl FnMut(&[u8])) -> Result<(), HostsError> {
        let list = self.node_list.filter(|list| !list.is_empty()).ok_or(HostsError::NotListed)?;
        match self.scheduler {
            Scheduler::Slurm => compressed(list, &mut visit),
            Scheduler::Pbs => {
                for (number, chunk) in list.split(|byte| *byte == b'+').enumerate() {
                    if number >= MAX_HOSTS {
                        return Err(HostsError::TooMany);
                    }
                    let host = chunk.split(|byte| *byte == b'/').next().unwrap_or_default();
                    if host.is_empty() {
                        return Err(HostsError::Malformed);
                    }
                    visit(host);
                }
                Ok(())
            }
        }
    }
}

/// A part of a name in a compressed list.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a [u8]),
    Ranges(Vec<Range>),
}

/// `001-004`: both ends included, written with at least so many digits.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    to: u64,
    width: usize,
}

/// Names joined by commas; each is text and bracketed ranges, in any order (`rack[0-3]n[01-16]-ib`).
fn compressed(list: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<(), HostsError> {
    let (_, names) = all_consuming(separated_list1(char(','), many1(piece)))
        .parse(list)
        .map_err(|_| HostsError::Malformed)?;
    let mut left = MAX_HOSTS;
    let mut name = Vec::new();
    for pieces in &names {
        // Each bracket is one level of recursion below; Slurm allows five dimensions.
        if pieces.len() > 16 {
            return Err(HostsError::Malformed);
        }
        name.clear();
        expand(pieces, &mut name, &mut left, visit)?;
    }
    Ok(())
}

fn expand(
    pieces: &[Piece<'_>],
    name: &mut Vec<u8>,
    left: &mut usize,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<(), HostsError> {
    let Some((piece, rest)) = pieces.split_first() else {
        *left = left.checked_sub(1).ok_or(HostsError::TooMany)?;
        visit(name);
        return Ok(());
    };
    let length = name.len();
    match piece {
        Piece::Text(text) => {
            name.extend_from_slice(text);
            expand(rest, name, left, visit)?;
        }
        Piece::Ranges(ranges) => {
            for range in ranges {
                for number in range.from..=range.to {
                    name.truncate(length);
                    name.extend_from_slice(format!("{number:0width$}", width = range.width).as_bytes());
                    expand(rest, name, left, visit)?;
                }
            }
        }
    }
    name.truncate(length);
    Ok(())
}

fn piece(input: &[u8]) -> IResult<&[u8], Piece<'_>> {
    let ranges = delimited(char('['), separated_list1(char(','), range), char(']'));
    let text = take_till1(|byte: u8| matches!(byte, b',' | b'[' | b']') || byte.is_ascii_whitespace());
    alt((map(ranges, Piece::Ranges), map(text, Piece::Text))).parse(input)
}

fn range(input: &[u8]) -> IResult<&[u8], Range> {
    let (rest, ((from, width), to)) = pair(number, opt(preceded(char('-'), number))).parse(input)?;
    let to = to.map_or(from, |(to, _)| to);
    if to < from {
        return Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Verify)));
    }
    Ok((rest, Range { from, to, width }))
}

/// Up to 18 digits, which fit 64 bits.
fn number(input: &[u8]) -> IResult<&[u8], (u64, usize)> {
    let (rest, digits) = take_while_m_n(1, 18, |byte: u8| byte.is_ascii_digit()).parse(input)?;
    let value = digits.iter().fold(0, |value: u64, digit| value * 10 + u64::from(digit - b'0'));
    Ok((rest, (value, digits.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(list: &str) -> Result<Vec<String>, HostsError> {
        let mut hosts = Vec::new();
        compressed(list.as_bytes(), &mut |host| hosts.push(String::from_utf8_lossy(host).into_owned()))?;
        Ok(hosts)
    }

    /// As `scontrol show hostnames` expands them.
    #[test]
    fn compressed_lists() {
        for (list, expected) in [
            ("n1", &["n1"][..]),
            ("n1,gpu01", &["n1", "gpu01"]),
            ("cn[001-003,7],gpu01", &["cn001", "cn002", "cn003", "cn7", "gpu01"]),
            ("cn[9-11]", &["cn9", "cn10", "cn11"]),
            ("cn[09-10]", &["cn09", "cn10"]),
            ("r[0-1]n[1-2]-ib", &["r0n1-ib", "r0n2-ib", "r1n1-ib", "r1n2-ib"]),
            ("[1-2]x", &["1x", "2x"]),
        ] {
            assert_eq!(hosts(list).unwrap(), expected, "{list}");
        }
        for wrong in [
            "",
            "n[1-",
            "n[2-1]",
            "n]",
            "n[]",
            "n1,",
            ",n1",
            "n[a-b]",
            "None assigned",
            "n[1-2],[",
            "x[000x133]",
        ] {
            assert_eq!(hosts(wrong), Err(HostsError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_short_list_of_very_many_hosts_is_refused_in_time() {
        assert_eq!(hosts("n[0-999999999999999999]"), Err(HostsError::TooMany));
        assert_eq!(hosts("n[0-99999][0-99999][0-99999]"), Err(HostsError::TooMany));
        assert_eq!(hosts("n[0-9999],".repeat(10).trim_end_matches(',')).map(|all| all.len()), Ok(MAX_HOSTS));
        assert_eq!(hosts(&"[1]".repeat(17)), Err(HostsError::Malformed));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(list in "[n0-9,\\[\\]-]{0,24}") {
            if let Ok(hosts) = hosts(&list) {
                prop_assert!(!hosts.is_empty() && hosts.iter().all(|host| !host.is_empty()));
            }
        }
    }
}

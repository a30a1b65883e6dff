//! The head of a record, `MM/DD/YYYY HH:MM:SS;L;id;message`, and what it is a record of.

use super::key::Key;
use super::message::{Fault, Tokens};
use super::value::{job_number, until};
use crate::run::Kind;
use nom::bytes::complete::{tag, take, take_while};
use nom::character::complete::{char, digit1, one_of};
use nom::combinator::{all_consuming, opt, rest};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

/// Ids longer than this are no ids.
pub(super) const MAX_ID: usize = 256;

/// A record whose message is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// The leading date: the server's local time.
    pub(super) date: &'a [u8],
    pub(super) letter: u8,
    pub(super) id: &'a [u8],
    /// Without blanks at its end.
    pub(super) message: &'a [u8],
}

/// A whole record: four fields, of which the last may hold `;`.
pub(super) fn record(input: &[u8]) -> IResult<&[u8], Record<'_>> {
    let letter = take(1_usize);
    let id = take_while(|byte| byte != b';');
    let mut fields = (
        terminated(take(19_usize), char(';')),
        terminated(letter, char(';')),
        terminated(id, char(';')),
        rest,
    );
    let (input, (date, letter, id, message)) = fields.parse(input)?;
    let letter = letter.first().copied().unwrap_or_default();
    Ok((input, Record { date, letter, id, message: message.trim_ascii_end() }))
}

/// Whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// A job, a subjob ([`Kind::Run`]), or an array as a whole ([`Kind::Parent`]), and its server's short name.
    Job(Kind, Option<&'a [u8]>),
    /// A reservation: `R12.server`, `S12.server` (standing), `M12.server` (maintenance).
    Reservation,
}

/// The id of a job or a reservation.
pub(super) fn subject(id: &[u8]) -> Option<Subject<'_>> {
    if id.len() > MAX_ID {
        return None;
    }
    if !id.first().is_some_and(u8::is_ascii_digit) {
        return all_consuming(reservation).parse(id).is_ok().then_some(Subject::Reservation);
    }
    let (_, (number, server)) = all_consuming((job_number, opt(server))).parse(id).ok()?;
    let kind = if number.ends_with(b"[]") { Kind::Parent } else { Kind::Run };
    Some(Subject::Job(kind, server.and_then(|name| name.split(|&byte| byte == b'.').next())))
}

fn reservation(input: &[u8]) -> IResult<&[u8], &[u8]> {
    preceded((one_of("RSM"), digit1, opt(server)), tag("")).parse(input)
}

/// `.name`: any bytes of a host name.
fn server(input: &[u8]) -> IResult<&[u8], &[u8]> {
    preceded(char('.'), until(b" ;/[]\"'\t\r\n\0")).parse(input)
}

/// True if the record ends in the middle of its text: what follows may be text of it. `E` and `R` are judged when they are read;
/// this is for the others.
pub(super) fn is_torn(record: &Record<'_>) -> bool {
    let message = record.message;
    match record.letter {
        // Users' text may stand in front of these keys, but not behind them (in `S`, resource strings: quoted).
        b'Q' | b'S' | b's' | b'c' | b'u' | b'e' if !message.is_empty() => {
            let last = if record.letter == b'Q' { Key::Queue } else { Key::Start };
            let mut seen = false;
            for token in Tokens::new(message) {
                match token {
                    Ok(token) => seen |= token.key == last,
                    Err(Fault::OpenQuote(_)) => return true,
                    Err(_) => break,
                }
            }
            !seen
        }
        // `a` and reservations: text with spaces stands in quotes.
        _ => message.iter().filter(|&&byte| byte == b'"').count() % 2 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Record<'_> {
        let (rest, record) = record(text.as_bytes()).unwrap();
        assert_eq!(rest, b"");
        record
    }

    #[test]
    fn a_record_has_four_fields_and_the_last_may_hold_semicolons() {
        let expected = Record {
            date: b"11/23/2026 02:31:31",
            letter: b'E',
            id: b"18.pbssrv",
            message: b"user=a account=\"my acct; x=1\"",
        };
        assert_eq!(read("11/23/2026 02:31:31;E;18.pbssrv;user=a account=\"my acct; x=1\""), expected);
        assert_eq!(read("11/23/2026 03:08:17;R;23.trqsrv;").message, b"");
        assert_eq!(read("11/23/2026 03:08:17;S;23.trqsrv;a=b \r").message, b"a=b");
        assert!(record(b"11/23/2026 03:08:17;R;23.trq").is_err());
        assert!(record(b"").is_err());
    }

    #[test]
    fn ids_are_jobs_arrays_and_reservations() {
        let run = |server| Some(Subject::Job(Kind::Run, server));
        assert_eq!(subject(b"91.pbssrv"), run(Some(b"pbssrv")));
        assert_eq!(subject(b"91.pbssrv.example.org"), run(Some(b"pbssrv")));
        assert_eq!(subject(b"91[4].pbssrv"), run(Some(b"pbssrv")));
        assert_eq!(subject(b"91-4.pbssrv"), run(Some(b"pbssrv")));
        assert_eq!(subject(b"91"), run(None));
        assert_eq!(subject(b"57[].pbssrv"), Some(Subject::Job(Kind::Parent, Some(b"pbssrv"))));
        for reservation in ["R12.pbssrv", "S12.pbssrv", "M1", "R87.pbssrv.example.org"] {
            assert_eq!(subject(reservation.as_bytes()), Some(Subject::Reservation));
        }
        for other in ["", "license", "91.", "91 .x", "x91.srv", "911/23/2026 02:31:32", "91.pb srv", "R.x"] {
            assert_eq!(subject(other.as_bytes()), None, "{other}");
        }
        assert_eq!(subject(&[b'1'; MAX_ID + 1]), None);
    }

    #[test]
    fn records_that_end_in_the_middle_are_torn() {
        let torn = |text: &str| is_torn(&read(&format!("11/23/2026 02:31:31;{text}")));
        for whole in [
            "Q;1.s;queue=batch",
            "Q;1.s;user=a group=g account=\"x\" project=p jobname=j queue=q ctime=1",
            "S;1.s;user=a group=g account=x jobname=j queue=q ctime=1 start=2 exec_host=h/0 ",
            "S;1.s;user=a group=g jobname=j queue=q start=2 Resource_List.foo_str=\"a b\" Resource_List.ncpus=1",
            "u;1.s;user=a group=g jobname=j queue=q start=2 session=1 run_count=1  resources_used.walltime=00:00:07",
            "D;1.s;requestor=root@s",
            "C;1.s;",
            "L;license;floating license hour:0 day:0 month:0 max:0",
            "a;1.s;Account_Name=\"a b\" Priority=1",
        ] {
            assert!(!torn(whole), "{whole}");
        }
        for broken in [
            "Q;1.s;user=a group=g account=\"line1",
            "S;1.s;user=a group=g account=\"line1",
            "S;1.s;user=a group=g account=l1",
            "S;1.s;user=a group=g jobname=j queue=q start=2 Resource_List.foo_str=\"a b",
            "S;1.s;user=a group=g jobname=j queue=q",
            "a;1.s;comment=\"c2",
        ] {
            assert!(torn(broken), "{broken}");
        }
    }
}

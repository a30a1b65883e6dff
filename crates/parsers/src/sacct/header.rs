//! What the header line says of the rows below it: which column stands where, and how rows end.

use super::columns::{Column, KNOWN, is_known, is_user_written};
use super::{Framing, Options};
use crate::split::MAX_FIELDS;
use crate::time::Zone;
use memchr::memmem::{self, Finder};
use std::cmp::Reverse;

/// Why a text cannot be read as `sacct` output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Nothing where the header should be.
    #[error("the header line is empty: run sacct without -n, or configure the columns")]
    Empty,
    /// Binary bytes: a compressed file, or no text at all.
    #[error("the header line is not text (binary bytes): is the file compressed under another name?")]
    NotText,
    /// No name of the header is a column of `sacct`.
    #[error("no column of sacct in the header \"{}\": is this another file?", .found.escape_ascii())]
    NoKnownColumn {
        /// The header, at most 64 bytes of it.
        found: Vec<u8>,
    },
    /// The padded table that `sacct` prints without `-P`: it cuts values to the width of their column.
    #[error("this is sacct's table for people, which cuts values to their column's width: run sacct with -P")]
    FixedWidth,
    /// Another delimiter stands between the columns.
    #[error("the columns are separated by \"{}\", not by \"{}\": set the delimiter", .found.escape_ascii(), .expected.escape_ascii())]
    OtherDelimiter {
        /// The delimiter that was asked for.
        expected: Vec<u8>,
        /// What stands between known names.
        found: Vec<u8>,
    },
    /// A delimiter that cannot be told from the text of a column.
    #[error("\"{}\" cannot separate columns, because {reason}: use -P without --delimiter", .delimiter.escape_ascii())]
    Delimiter {
        /// The delimiter.
        delimiter: Vec<u8>,
        /// Why it cannot.
        reason: &'static str,
    },
    /// Columns without which a run cannot be reported.
    #[error("the header lacks {}: add {} to --format", list(.columns), plain_list(.columns))]
    Missing {
        /// All of them, by Slurm's names; alternatives after a slash.
        columns: Vec<&'static str>,
    },
    /// A column stands twice.
    #[error("the column {column} stands twice")]
    Duplicate {
        /// Its name.
        column: String,
    },
    /// More columns than any `sacct` has.
    #[error("{found} columns: more than any sacct prints")]
    TooManyColumns {
        /// How many.
        found: usize,
    },
    /// Rows that are counted out by their delimiters need one behind the last field too.
    #[error(
        "the header does not end with the delimiter: rows can be counted out only from the output of sacct -p"
    )]
    NotCounted,
}

fn list(columns: &[&str]) -> String {
    columns.iter().map(|name| name.replace('/', " or ")).collect::<Vec<_>>().join(", ")
}

/// The first of each alternative, ready to be pasted behind `--format=`.
fn plain_list(columns: &[&str]) -> String {
    columns.iter().filter_map(|name| name.split('/').next()).collect::<Vec<_>>().join(",")
}

/// How the rows of one text are read: made from its header, and cheap to share between threads by reference.
///
/// ```
/// use parsers::sacct::{Layout, Options};
///
/// let options = Options::default();
/// let layout = Layout::lenient(b"JobID|State|Elapsed|Colour", &options)?;
/// assert_eq!(layout.columns(), ["JobID", "State", "Elapsed", "Colour"]);
/// assert_eq!(layout.unknown_columns(), ["Colour"]);
///
/// // What is missing for a run to be reported is named all at once.
/// let error = Layout::from_header(b"JobID|State|Submit|Start|End|Elapsed|User", &options).unwrap_err();
/// assert_eq!(error.to_string(), "the header lacks AllocTRES, Account: add AllocTRES,Account to --format");
/// # Ok::<(), parsers::sacct::HeaderError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    /// The header line itself, by which its repetition is known; `None` where the text has none.
    pub(super) header: Option<Vec<u8>>,
    columns: Vec<String>,
    unknown: Vec<String>,
    user_written: Vec<String>,
    /// For each [`Column`] the number of its field, or [`ABSENT`].
    fields: [u16; Column::COUNT],
    pub(super) delimiter: Finder<'static>,
    /// `-p`: the delimiter stands behind the last field too.
    pub(super) trailing: bool,
    pub(super) framing: Framing,
    /// The only field that may hold the delimiter, so that surplus ones belong to it.
    pub(super) takes_surplus: Option<usize>,
    /// A whole row immediately before a torn line may be part of the same text.
    pub(super) doubt_before_torn: bool,
    /// A whole row immediately after a torn line may be part of the same text.
    pub(super) doubt_after_torn: bool,
    pub(super) zone: Zone,
    pub(super) read_steps: bool,
}

const ABSENT: u16 = u16::MAX;

/// What a run cannot be reported without; alternatives after a slash.
const NEEDED: [(&str, &[&[Column]]); 9] = [
    ("JobID/JobIDRaw", &[&[Column::JobId], &[Column::JobIdRaw]]),
    ("State", &[&[Column::State]]),
    ("Submit", &[&[Column::Submit]]),
    ("Start", &[&[Column::Start]]),
    ("End", &[&[Column::End]]),
    ("ElapsedRaw/Elapsed", &[&[Column::ElapsedRaw], &[Column::Elapsed]]),
    (
        "AllocTRES",
        &[
            &[Column::AllocTres],
            &[Column::AllocCpus, Column::NNodes],
            &[Column::AllocCpus, Column::AllocNodes],
            &[Column::NCpus, Column::NNodes],
            &[Column::NCpus, Column::AllocNodes],
        ],
    ),
    ("Account", &[&[Column::Account]]),
    ("User", &[&[Column::User]]),
];

impl Layout {
    /// The layout of a text whose runs are to be charged. `header` is the first line, without its newline; with
    /// [`Options::columns`] it is the first line whatever it is, and only looked at for a trailing delimiter.
    ///
    /// Columns may stand in any order, others are passed over.
    ///
    /// # Errors
    ///
    /// When the line is no header of `sacct -P` or `-p`, or lacks what a run cannot be reported without: `JobID` or `JobIDRaw`,
    /// `State`, `Submit`, `Start`, `End`, `ElapsedRaw` or `Elapsed`, `AllocTRES` (or `AllocCPUS` and `NNodes`), `Account`, `User`.
    pub fn from_header(header: &[u8], options: &Options) -> Result<Self, HeaderError> {
        Self::new(header, options, &NEEDED)
    }

    /// The layout of a text that is read for what it says: only `JobID` or `JobIDRaw` must be there, and what is not there is `None`.
    ///
    /// # Errors
    ///
    /// As [`Layout::from_header`].
    pub fn lenient(header: &[u8], options: &Options) -> Result<Self, HeaderError> {
        let (ids, _) = NEEDED.split_at(1);
        Self::new(header, options, ids)
    }

    /// The same layout with local times read in another zone than [`Options::zone`]: one that the IANA database does not have.
    #[must_use]
    pub fn in_zone(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// The names of all columns, as they stand in the header.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The names that no Slurm from 17.11 to 26.05 has.
    #[must_use]
    pub fn unknown_columns(&self) -> &[String] {
        &self.unknown
    }

    /// The columns whose text users choose, or may choose: unknown columns are among them.
    #[must_use]
    pub fn user_written_columns(&self) -> &[String] {
        &self.user_written
    }

    /// True where a user could have written rows of this text: it has a column of free text, and rows are told apart by newlines
    /// or by a delimiter that could be guessed. `Account` is not counted as free text: it is, where the cluster does not
    /// enforce associations.
    #[must_use]
    pub fn is_forgeable(&self) -> bool {
        let cannot_be_guessed = self.framing == Framing::Counted && self.delimiter.needle().len() >= 16;
        !self.user_written.is_empty() && !cannot_be_guessed
    }

    /// The number of a column's field.
    #[inline]
    pub(super) fn field_of(&self, column: Column) -> Option<usize> {
        self.fields.get(column as usize).filter(|field| **field != ABSENT).map(|field| usize::from(*field))
    }

    fn new(
        header: &[u8],
        options: &Options,
        needed: &[(&'static str, &[&[Column]])],
    ) -> Result<Self, HeaderError> {
        let delimiter = options.delimiter.as_slice();
        check_delimiter(delimiter)?;
        let line = header.strip_suffix(b"\r").unwrap_or(header);
        let (columns, trailing) = match &options.columns {
            Some(columns) => {
                let columns: Vec<String> = columns.iter().map(|name| bare(name)).collect();
                let delimiters = memmem::find_iter(line, delimiter).count();
                let trailing = line.ends_with(delimiter) && delimiters >= columns.len();
                (columns, trailing || options.framing == Framing::Counted)
            }
            None => names(line, delimiter)?,
        };
        if columns.iter().all(|name| !is_known(name)) {
            return Err(unrecognised(line, delimiter));
        }
        if columns.len() >= MAX_FIELDS {
            return Err(HeaderError::TooManyColumns { found: columns.len() });
        }
        if options.framing == Framing::Counted && !trailing {
            return Err(HeaderError::NotCounted);
        }
        let fields = fields(&columns)?;
        let has = |column: &Column| fields.get(*column as usize).is_some_and(|field| *field != ABSENT);
        if delimiter == b"," && (has(&Column::AllocTres) || has(&Column::ReqTres)) {
            let reason = "AllocTRES and ReqTRES hold commas";
            return Err(HeaderError::Delimiter { delimiter: delimiter.to_vec(), reason });
        }
        let missing: Vec<_> = needed
            .iter()
            .filter(|(_, ways)| !ways.iter().any(|way| way.iter().all(has)))
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(HeaderError::Missing { columns: missing });
        }

        let free: Vec<usize> =
            (0..).zip(&columns).filter(|(_, name)| is_user_written(name)).map(|(n, _)| n).collect();
        let last = columns.len().saturating_sub(1);
        // Text of the last column runs over into the lines after it, and its row looks whole. Text of any other column, or of
        // the last one where a delimiter must follow it, tears its row: what a user put between the pieces stands after one and
        // before the other.
        let runs_over = !trailing && free.contains(&last);
        let tears = free.iter().any(|field| *field < last || trailing);
        let pick =
            |wanted: &dyn Fn(&str) -> bool| columns.iter().filter(|name| wanted(name)).cloned().collect();
        Ok(Self {
            header: options.columns.is_none().then(|| line.to_vec()),
            unknown: pick(&|name| !is_known(name)),
            user_written: pick(&is_user_written),
            columns,
            fields,
            delimiter: Finder::new(delimiter).into_owned(),
            trailing,
            framing: options.framing,
            takes_surplus: match free.as_slice() {
                // Commas may belong to several columns (NodeList, Flags, pending arrays).
                [only] if delimiter != b"," => Some(*only),
                _ => None,
            },
            doubt_before_torn: runs_over || tears,
            doubt_after_torn: tears,
            zone: Zone::new(options.zone),
            read_steps: options.read_steps,
        })
    }
}

/// A column as it is given to `--format`, without its width: `Submit%30` is `Submit`.
fn bare(name: &str) -> String {
    name.split('%').next().unwrap_or(name).trim().to_owned()
}

/// The names of a header line, and whether the delimiter stands behind the last one too.
fn names(line: &[u8], delimiter: &[u8]) -> Result<(Vec<String>, bool), HeaderError> {
    if line.trim_ascii().is_empty() {
        return Err(HeaderError::Empty);
    }
    let Some(text) = std::str::from_utf8(line).ok().filter(|text| !text.contains('\0')) else {
        return Err(HeaderError::NotText);
    };
    let Ok(delimiter) = std::str::from_utf8(delimiter) else {
        return Err(unrecognised(line, delimiter));
    };
    let body = text.strip_suffix(delimiter);
    let names = body.unwrap_or(text).split(delimiter).map(str::to_owned).collect();
    Ok((names, body.is_some()))
}

fn fields(columns: &[String]) -> Result<[u16; Column::COUNT], HeaderError> {
    let mut fields = [ABSENT; Column::COUNT];
    for (number, name) in (0u16..).zip(columns) {
        let Some(slot) = Column::of(name).and_then(|column| fields.get_mut(column as usize)) else {
            continue;
        };
        if *slot != ABSENT {
            return Err(HeaderError::Duplicate { column: name.clone() });
        }
        *slot = number;
    }
    Ok(fields)
}

/// Refuses what could never be told from ordinary values: letters, digits, the marks of times, states and lists.
fn check_delimiter(delimiter: &[u8]) -> Result<(), HeaderError> {
    let refuse = |reason| Err(HeaderError::Delimiter { delimiter: delimiter.to_vec(), reason });
    if delimiter.is_empty() {
        return refuse("it is empty");
    }
    if delimiter.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return refuse("it holds an end of line");
    }
    if delimiter.iter().all(|byte| byte.is_ascii_alphanumeric() || b" :=./+-_".contains(byte)) {
        return refuse("ordinary values hold it");
    }
    Ok(())
}

/// Says what a line without any known column is.
fn unrecognised(line: &[u8], delimiter: &[u8]) -> HeaderError {
    if let Some(found) = guess_delimiter(line).filter(|found| found != delimiter) {
        return HeaderError::OtherDelimiter { expected: delimiter.to_vec(), found };
    }
    let words: Vec<_> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    // A name may be cut to its column's width there too, so that most will do.
    let known = words.iter().filter(|word| std::str::from_utf8(word).is_ok_and(is_known)).count();
    if words.len() > 1 && known * 2 > words.len() {
        return HeaderError::FixedWidth;
    }
    HeaderError::NoKnownColumn { found: crate::run::bounded(line) }
}

/// The delimiter of a header: `|`, or whatever stands between names that are known, also of several characters.
///
/// `None` where nothing does: for a single column, for the padded table that `sacct` prints without `-P`, for another file.
///
/// ```
/// use parsers::sacct::guess_delimiter;
///
/// assert_eq!(guess_delimiter(b"JobID|State|End").as_deref(), Some(&b"|"[..]));
/// assert_eq!(guess_delimiter(b"JobID<~>Colour<~>State").as_deref(), Some(&b"<~>"[..]));
/// assert_eq!(guess_delimiter(b"JobID           JobName").as_deref(), None);
/// ```
#[must_use]
pub fn guess_delimiter(header: &[u8]) -> Option<Vec<u8>> {
    const LONGEST: usize = 128;
    // Twice what all columns with the longest delimiter take: beyond that it is no header.
    let line = std::str::from_utf8(header.strip_suffix(b"\r").unwrap_or(header))
        .ok()
        .filter(|line| line.len() < 1 << 16)?;
    let known_in = |delimiter: &str| line.split(delimiter).filter(|name| is_known(name)).count();
    // `@@` is not `@` with nameless columns between.
    let has_nameless =
        |delimiter: &str| line.strip_suffix(delimiter).unwrap_or(line).split(delimiter).any(str::is_empty);
    if known_in("|") > 1 && !has_nameless("|") {
        return Some(b"|".to_vec());
    }
    let firsts = KNOWN.iter().filter_map(|name| {
        let (head, rest) = line.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then_some(rest)
    });
    // What follows the first name, up to each place where it could end.
    let candidates = firsts.flat_map(|rest| {
        let ends = rest.char_indices().map(|(end, _)| end).skip(1).take_while(|end| *end <= LONGEST);
        ends.filter_map(|end| rest.get(..end))
    });
    candidates
        .filter(|delimiter| !delimiter.trim().is_empty() || *delimiter == "\t")
        .filter(|delimiter| !has_nameless(delimiter))
        .map(|delimiter| (known_in(delimiter), Reverse(delimiter.len()), delimiter))
        .filter(|(known, ..)| *known > 1)
        // The most names; of equals the shortest.
        .max()
        .map(|(.., delimiter)| delimiter.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: &[u8] = b"JobIDRaw|JobID|User|Account|State|Submit|Start|End|ElapsedRaw|AllocTRES|JobName";

    fn error(header: &[u8]) -> HeaderError {
        Layout::from_header(header, &Options::default()).unwrap_err()
    }

    fn delimited(by: &[u8]) -> Options {
        Options { delimiter: by.to_vec(), ..Options::default() }
    }

    #[test]
    fn all_missing_columns_are_named_at_once() {
        let error = error(b"JobID|Partition|JobName");
        assert_eq!(
            error.to_string(),
            "the header lacks State, Submit, Start, End, ElapsedRaw or Elapsed, AllocTRES, Account, User: \
             add State,Submit,Start,End,ElapsedRaw,AllocTRES,Account,User to --format"
        );
    }

    #[test]
    fn cores_and_nodes_will_do_for_alloc_tres() {
        for (cores, nodes) in [("AllocCPUS", "NNodes"), ("NCPUS", "AllocNodes")] {
            let header = format!("JobID|User|Account|State|Submit|Start|End|Elapsed|{cores}|{nodes}");
            assert!(Layout::from_header(header.as_bytes(), &Options::default()).is_ok());
        }
        assert_eq!(
            error(b"JobID|User|Account|State|Submit|Start|End|Elapsed|NCPUS"),
            HeaderError::Missing { columns: vec!["AllocTRES"] }
        );
    }

    #[test]
    fn names_in_any_case_and_order_with_a_trailing_delimiter() {
        let mut names: Vec<_> =
            USUAL.to_ascii_lowercase().split(|byte| *byte == b'|').map(<[u8]>::to_vec).collect();
        names.reverse();
        let layout =
            Layout::from_header(&[names.join(&b'|'), b"|\r".to_vec()].concat(), &Options::default()).unwrap();
        assert!(layout.trailing);
        assert_eq!(layout.field_of(Column::JobIdRaw), Some(10));
        assert_eq!(layout.columns().len(), 11);
    }

    #[test]
    fn what_is_no_header_is_refused_by_what_it_is() {
        assert_eq!(error(b""), HeaderError::Empty);
        assert_eq!(error(b" \r"), HeaderError::Empty);
        assert_eq!(error(b"\x1f\x8b\x08\0\0"), HeaderError::NotText);
        assert_eq!(error(b"JobID\0|State"), HeaderError::NotText);
        assert_eq!(
            error(b"JobID           JobName  Partition    Account  AllocCPUS      State ExitCode "),
            HeaderError::FixedWidth
        );
        assert_eq!(
            error(b"11/23/2026 00:00:01;E;91.pbssrv;user=alice"),
            HeaderError::NoKnownColumn { found: b"11/23/2026 00:00:01;E;91.pbssrv;user=alice".to_vec() }
        );
        assert_eq!(
            error(b"JobID,User,Account"),
            HeaderError::OtherDelimiter { expected: b"|".to_vec(), found: b",".to_vec() }
        );
        assert_eq!(error(b"JobID|State|jobid"), HeaderError::Duplicate { column: "jobid".to_owned() });
        assert_eq!(error(&b"JobID|x".repeat(300)), HeaderError::TooManyColumns { found: 301 });
    }

    #[test]
    fn a_comma_cannot_separate_lists_that_hold_commas() {
        let header = b"JobID,JobName,AllocTRES,State";
        assert!(matches!(Layout::lenient(header, &delimited(b",")), Err(HeaderError::Delimiter { .. })));
        // Without such a column it can; but a surplus comma is nobody's.
        let layout = Layout::lenient(b"JobID,JobName,State", &delimited(b",")).unwrap();
        assert_eq!(layout.takes_surplus, None);
    }

    #[test]
    fn delimiters_that_ordinary_values_hold_are_refused() {
        for delimiter in ["", " ", ":", "-", "x", "\n", "|\n", "=", "abc"] {
            let result = Layout::lenient(b"JobID|State", &delimited(delimiter.as_bytes()));
            assert!(matches!(result, Err(HeaderError::Delimiter { .. })), "{delimiter:?}");
        }
    }

    #[test]
    fn the_delimiter_is_guessed_from_what_stands_between_names() {
        for delimiter in [
            "|",
            ",",
            ";",
            "\t",
            "\u{1f}",
            "<~>",
            "\\t",
            "<6d252b64f6cbc0736d252b64f6cbc073>",
            "@@",
            "||",
            "€",
        ] {
            for trailing in ["", delimiter] {
                let header = format!("JobIDRaw{delimiter}JobID{delimiter}Colour{delimiter}End{trailing}");
                assert_eq!(
                    guess_delimiter(header.as_bytes()).as_deref(),
                    Some(delimiter.as_bytes()),
                    "{header}"
                );
            }
        }
        for other in ["", "JobID", "JobID State", "hello|world", "\u{0}", "JobIDx", "State: the union"] {
            assert_eq!(guess_delimiter(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn columns_are_forgeable_where_users_write_them() {
        let layout = |header: &[u8]| Layout::lenient(header, &Options::default()).unwrap();
        assert!(!layout(b"JobID|Account|User|State").is_forgeable());
        assert_eq!(
            layout(b"JobID|WCKey|State|JobName|Colour").user_written_columns(),
            ["WCKey", "JobName", "Colour"]
        );
        let options = Options { framing: Framing::Counted, ..delimited(b"<6d252b64f6cbc073>") };
        assert!(
            !Layout::lenient(b"JobID<6d252b64f6cbc073>JobName<6d252b64f6cbc073>", &options)
                .unwrap()
                .is_forgeable()
        );
        let options = Options { framing: Framing::Counted, ..delimited(b"<~>") };
        assert!(Layout::lenient(b"JobID<~>JobName<~>", &options).unwrap().is_forgeable());
        assert_eq!(Layout::lenient(b"JobID<~>JobName", &options).unwrap_err(), HeaderError::NotCounted);
    }

    #[test]
    fn configured_columns_stand_for_a_header() {
        let columns = Some(["JobID", "Submit%30", "JobName"].map(str::to_owned).to_vec());
        let options = Options { columns, ..Options::default() };
        let layout = Layout::lenient(b"61|2026-11-23T09:35:40|wrap", &options).unwrap();
        assert_eq!(
            (layout.columns(), layout.trailing),
            (&["JobID", "Submit", "JobName"].map(str::to_owned)[..], false)
        );
        assert!(Layout::lenient(b"61|2026-11-23T09:35:40|wrap|", &options).unwrap().trailing);
        assert!(!Layout::lenient(b"61|2026-11-23T09:35:40|", &options).unwrap().trailing);
    }
}

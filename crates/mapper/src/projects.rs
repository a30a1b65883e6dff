//! Which project a run is charged to: the table, then patterns, then skip rules.

use crate::interval::Interval;
use crate::keys::Keys;
use crate::problems::Problems;
use crate::spec::{ProjectPattern, ProjectRow, RulePlace, SkipRule};
use crate::text::{field, unfit};
use bstr::BStr;
use chrono_tz::Tz;
use regex::bytes::{Captures, Regex};
use std::collections::HashMap;

/// The compiled `[projects]`.
#[derive(Debug)]
pub(crate) struct Projects {
    rows: Vec<Row>,
    /// Account -> its rows, in the order of the table.
    by_account: HashMap<Vec<u8>, Vec<usize>>,
    /// The same by the account in lower case, for sources whose accounts have no case.
    by_folded: HashMap<Vec<u8>, Vec<usize>>,
    patterns: Vec<Pattern>,
    skip: Vec<Skipping>,
}

#[derive(Debug)]
struct Row {
    account: String,
    project: String,
    cluster: Option<String>,
    partition: Option<String>,
    qos: Option<String>,
    user: Option<String>,
    valid: Interval,
    pi: Option<String>,
    line: u64,
}

/// A pattern of accounts, with and without regard to case.
#[derive(Debug)]
struct AccountRegex {
    exact: Regex,
    folding: Regex,
}

impl AccountRegex {
    fn compile(pattern: &str, place: RulePlace, problems: &mut Problems) -> Option<Self> {
        let exact = compile_regex(pattern, place, problems)?;
        let folding = compile_regex(&format!("(?i){pattern}"), place, problems)?;
        Some(Self { exact, folding })
    }

    fn of(&self, keys: &Keys<'_>) -> &Regex {
        if keys.fold_account { &self.folding } else { &self.exact }
    }
}

#[derive(Debug)]
struct Pattern {
    regex: AccountRegex,
    project: Vec<Piece>,
    upper: bool,
    cluster: Option<String>,
}

/// A part of a pattern's project.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

#[derive(Debug)]
struct Skipping {
    regex: AccountRegex,
    cluster: Option<String>,
}

/// What the project of a run is, and by which rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProjectAnswer<'r> {
    Row {
        project: &'r str,
        pi: Option<&'r str>,
        line: u64,
    },
    Pattern {
        project: String,
        index: usize,
    },
    /// A pattern fits and gives a project that cannot be sent.
    Unfit {
        project: Vec<u8>,
        index: usize,
        why: &'static str,
    },
    Skip {
        index: usize,
    },
    Unknown,
    NoAccount,
    /// A row with dates would decide, and the submit time is not known.
    NeedsSubmit,
}

/// True where a rule without this condition, or with exactly this value, meets the run's value.
fn meets(condition: Option<&str>, value: Option<&BStr>) -> bool {
    condition.is_none_or(|wanted| value.is_some_and(|value| **value == *wanted.as_bytes()))
}

/// True where two rules can meet one run.
fn compatible(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// True where whatever meets `narrow` meets `wide` too.
fn includes(wide: Option<&str>, narrow: Option<&str>) -> bool {
    wide.is_none() || wide == narrow
}

impl Row {
    fn meets(&self, keys: &Keys<'_>) -> bool {
        meets(self.cluster.as_deref(), keys.cluster)
            && meets(self.partition.as_deref(), keys.partition)
            && meets(self.qos.as_deref(), keys.qos)
            && meets(self.user.as_deref(), keys.user)
    }

    /// True where `later`, further down, can never be reached.
    fn hides(&self, later: &Self) -> bool {
        includes(self.cluster.as_deref(), later.cluster.as_deref())
            && includes(self.partition.as_deref(), later.partition.as_deref())
            && includes(self.qos.as_deref(), later.qos.as_deref())
            && includes(self.user.as_deref(), later.user.as_deref())
            && self.valid.covers(later.valid)
    }
}

impl Projects {
    pub(crate) fn compile(
        rows: Vec<ProjectRow>,
        patterns: Vec<ProjectPattern>,
        skip: Vec<SkipRule>,
        zone: Tz,
        problems: &mut Problems,
    ) -> Self {
        let rows: Vec<Row> = rows.into_iter().map(|row| compile_row(row, zone, problems)).collect();
        let mut by_account: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut by_folded: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, row) in rows.iter().enumerate() {
            by_folded.entry(row.account.to_ascii_lowercase().into_bytes()).or_default().push(index);
            let same = by_account.entry(row.account.clone().into_bytes()).or_default();
            let hider =
                same.iter().filter_map(|earlier| rows.get(*earlier)).find(|earlier| earlier.hides(row));
            if let Some(earlier) = hider {
                let message = format!(
                    "account `{}`: this row is never reached, the one in line {} covers it",
                    row.account, earlier.line
                );
                let help = "the first row that fits decides: put the more special row first";
                problems.warning(RulePlace::ProjectRow { line: row.line }, message, Some(help));
            }
            same.push(index);
        }
        let patterns = patterns
            .into_iter()
            .enumerate()
            .filter_map(|(index, pattern)| compile_pattern(pattern, index, problems))
            .collect();
        let skip: Vec<Skipping> = skip
            .into_iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let place = RulePlace::SkipRule { index };
                let regex = AccountRegex::compile(&rule.account, place, problems)?;
                Some(Skipping { regex, cluster: rule.cluster })
            })
            .collect();
        for (index, rule) in skip.iter().enumerate() {
            for row in &rows {
                if !compatible(rule.cluster.as_deref(), row.cluster.as_deref()) {
                    continue;
                }
                let place = RulePlace::SkipRule { index };
                let message = format!(
                    "skips account `{}`, which line {} of the project table maps to {}",
                    row.account, row.line, row.project
                );
                let help = "narrow the pattern, give it a cluster, or take the row out of the table";
                if rule.regex.exact.is_match(row.account.as_bytes()) {
                    problems.error(place, message, Some(help));
                } else if rule.regex.folding.is_match(row.account.as_bytes()) {
                    let message =
                        format!("{message} (where case does not matter, as in Slurm: the table decides)");
                    problems.warning(place, message, Some(help));
                }
            }
        }
        Self { rows, by_account, by_folded, patterns, skip }
    }

    /// The project at `submit`; `valid` shrinks to the submit times around it for which the answer is the same.
    pub(crate) fn find(
        &self,
        keys: &Keys<'_>,
        submit: Option<i64>,
        valid: &mut Interval,
    ) -> ProjectAnswer<'_> {
        let Some(account) = keys.account else { return ProjectAnswer::NoAccount };
        let table = if keys.fold_account { &self.by_folded } else { &self.by_account };
        let rows = keys.folded_account().and_then(|account| table.get(&*account));
        let rows = rows.map_or(&[][..], Vec::as_slice);
        for row in rows.iter().filter_map(|index| self.rows.get(*index)).filter(|row| row.meets(keys)) {
            let fits = match submit {
                _ if row.valid == Interval::ALWAYS => true,
                Some(submit) => valid.decide(row.valid, submit),
                None => return ProjectAnswer::NeedsSubmit,
            };
            if fits {
                return ProjectAnswer::Row { project: &row.project, pi: row.pi.as_deref(), line: row.line };
            }
        }
        for (index, pattern) in self.patterns.iter().enumerate() {
            if meets(pattern.cluster.as_deref(), keys.cluster)
                && let Some(captures) = pattern.regex.of(keys).captures(account)
            {
                return pattern.answer(&captures, index);
            }
        }
        let skipped = self.skip.iter().position(|rule| {
            meets(rule.cluster.as_deref(), keys.cluster) && rule.regex.of(keys).is_match(account)
        });
        skipped.map_or(ProjectAnswer::Unknown, |index| ProjectAnswer::Skip { index })
    }

    /// Lines of the table that name the run's account, whatever their conditions, and whether only in other letters where
    /// those matter.
    pub(crate) fn lines_of(&self, account: &[u8], fold: bool) -> (Vec<u64>, bool) {
        let lines = |same: &dyn Fn(&Row) -> bool| -> Vec<u64> {
            self.rows.iter().filter(|row| same(row)).map(|row| row.line).take(5).collect()
        };
        let exact = lines(&|row| row.account.as_bytes() == account);
        if !exact.is_empty() {
            return (exact, false);
        }
        let folded = lines(&|row| row.account.as_bytes().eq_ignore_ascii_case(account));
        let in_other_letters = !folded.is_empty() && !fold;
        (folded, in_other_letters)
    }
}

impl Pattern {
    fn answer(&self, captures: &Captures<'_>, index: usize) -> ProjectAnswer<'static> {
        let mut project = Vec::new();
        for piece in &self.project {
            match piece {
                Piece::Text(text) => project.extend_from_slice(text.as_bytes()),
                Piece::Group(group) => {
                    project.extend_from_slice(captures.get(*group).map_or(&[][..], |found| found.as_bytes()));
                }
            }
        }
        match field(&project) {
            Ok(text) if self.upper => ProjectAnswer::Pattern { project: text.to_uppercase(), index },
            Ok(text) => ProjectAnswer::Pattern { project: text.to_owned(), index },
            Err(why) => ProjectAnswer::Unfit { project, index, why },
        }
    }
}

fn compile_row(row: ProjectRow, zone: Tz, problems: &mut Problems) -> Row {
    let place = RulePlace::ProjectRow { line: row.line };
    if row.account.is_empty() {
        problems.error(place, "the account is empty", None);
    }
    if let Some(why) = unfit(&row.project) {
        problems.error(place, format!("the project {why}"), None);
    }
    let valid = Interval::of_dates(row.from, row.until, zone);
    if valid.is_empty() {
        problems.error(place, "`until` is not after `from`: the row never holds", None);
    }
    let given = |condition: Option<String>| condition.filter(|text| !text.is_empty());
    let pi = given(row.pi);
    if let Some(why) = pi.as_deref().and_then(unfit) {
        problems.error(place, format!("the PI {why}"), None);
    }
    Row {
        account: row.account,
        project: row.project,
        cluster: given(row.cluster),
        partition: given(row.partition),
        qos: given(row.qos),
        user: given(row.user),
        valid,
        pi,
        line: row.line,
    }
}

fn compile_pattern(pattern: ProjectPattern, index: usize, problems: &mut Problems) -> Option<Pattern> {
    let place = RulePlace::ProjectPattern { index };
    let regex = AccountRegex::compile(&pattern.account, place, problems)?;
    let project = match pieces(&pattern.project, regex.exact.captures_len()) {
        Ok(project) => project,
        Err(message) => {
            problems.error(
                place,
                message,
                Some("$0 is the whole account, $1 the first group, $$ a dollar sign"),
            );
            return None;
        }
    };
    Some(Pattern { regex, project, upper: pattern.upper, cluster: pattern.cluster })
}

/// Anchored at both ends. The pattern is read by itself first, so that `a)|(b` cannot climb out of the anchors.
pub(crate) fn compile_regex(pattern: &str, place: RulePlace, problems: &mut Problems) -> Option<Regex> {
    let compiled = Regex::new(pattern).and_then(|_| Regex::new(&format!(r"\A(?:{pattern})\z")));
    match compiled {
        Ok(regex) => Some(regex),
        Err(error) => {
            problems.error(place, format!("`{pattern}` is no regular expression: {error}"), None);
            None
        }
    }
}

/// The regex crate's own expansion would read `$1x` as a group named `1x` and put nothing there.
fn pieces(template: &str, groups: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if let Some(after) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$".to_owned()));
            rest = after;
            continue;
        }
        let (digits, after) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(braced) => braced,
            None => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
        };
        let group: usize =
            digits.parse().map_err(|_| format!("`{template}`: a $ must be followed by a number"))?;
        if group >= groups {
            return Err(format!("`{template}`: the pattern has no group {group}"));
        }
        pieces.push(Piece::Group(group));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.is_empty() { Err("the project is empty".to_owned()) } else { Ok(pieces) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(pieces("TG-$1", 2), Ok(vec![text("TG-"), Piece::Group(1)]));
        assert_eq!(pieces("$0", 1), Ok(vec![Piece::Group(0)]));
        assert_eq!(pieces("${1}9-$1x", 2), Ok(vec![Piece::Group(1), text("9-"), Piece::Group(1), text("x")]));
        assert_eq!(pieces("a$$b", 1), Ok(vec![text("a"), text("$"), text("b")]));
        for wrong in ["TG-$2", "$", "$x", "${1", "", "$99999999999999999999"] {
            assert!(pieces(wrong, 2).is_err(), "{wrong}");
        }
    }
}

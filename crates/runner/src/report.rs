//! The report page: one HTML file, nothing loaded from elsewhere, no scripts; everything from outside is escaped.

use crate::attention::Item;
use crate::clock;
use crate::config::Table;
use crate::ledger::{State, Totals};
use crate::tally::Tally;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// What a report shows.
#[derive(Debug)]
pub struct Report<'a> {
    /// `site.name`.
    pub site: &'a str,
    /// Where records are sent.
    pub endpoint: &'a str,
    /// When, epoch seconds.
    pub at: i64,
    /// This invocation's counts; `None` where nothing was read.
    pub tally: Option<&'a Tally>,
    /// The ledger.
    pub totals: &'a Totals,
    /// What needs a person.
    pub items: &'a [Item],
    /// Files that could not be read, and other remarks.
    pub remarks: &'a [String],
    /// The tables that accounts, users and owners were looked up in.
    pub tables: &'a [Table],
}

/// Text as HTML text or attribute value. Control characters are shown as escapes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push(' '),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #5b6470; --line: #d9dee5; --card: #f6f8fa; --page: #fff;
  --good: #1a7f37; --bad: #b3261e; --mark: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #343b45; --card: #1b2027;
  --page: #12151a; --good: #57c76f; --bad: #ff8a80; --mark: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.sub { color: var(--soft); margin: .2rem 0 1.4rem; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
.card span { color: var(--soft); } .card.good b { color: var(--good); } .card.bad b { color: var(--bad); }
.law { font-family: ui-monospace, monospace; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .9rem; overflow-x: auto; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .7rem .35rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; } tr.sum td { font-weight: 600; }
.item { border: 1px solid var(--line); border-left: .25rem solid var(--bad); border-radius: .4rem; padding: .6rem .9rem;
  margin: .6rem 0; } .item p { margin: .2rem 0; overflow-wrap: anywhere; } .item code, td code { overflow-wrap: anywhere; font-size: .9em; }
.kind { color: var(--bad); font-weight: 600; } .what { color: var(--soft); }
li { overflow-wrap: anywhere; }
footer { color: var(--soft); margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }
";

impl Report<'_> {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        let site = escape(self.site);
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <link rel=\"icon\" href=\"data:,\">\n\
             <title>Usage report: {site}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <h1>Usage report: {site}</h1>\n<p class=\"sub\">{} · to {}</p>\n",
            clock::show(self.at),
            escape(self.endpoint)
        )?;
        self.cards(page)?;
        if let Some(tally) = self.tally {
            laws(tally, page)?;
            charges(tally, page)?;
        }
        self.people(page)?;
        self.ledger(page)?;
        if !self.tables.is_empty() {
            page.push_str("<h2 id=\"tables\">Tables</h2>\n<ul>\n");
            for table in self.tables {
                writeln!(page, "<li>{}</li>", escape(&table.describe(self.at)))?;
            }
            page.push_str("</ul>\n");
        }
        if !self.remarks.is_empty() {
            page.push_str("<h2 id=\"remarks\">Remarks</h2>\n<ul>\n");
            for remark in self.remarks {
                writeln!(page, "<li>{}</li>", escape(remark))?;
            }
            page.push_str("</ul>\n");
        }
        write!(
            page,
            "<footer>amie-runner {} · charges are exact decimals, rounded once</footer>\n</main>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn cards(&self, page: &mut String) -> fmt::Result {
        let waiting: u64 = self.items.iter().map(|item| item.count).sum();
        let cards = [
            ("loaded", self.totals.count(State::Loaded), "good"),
            ("accepted, not yet loaded", self.totals.count(State::Accepted), ""),
            ("to be sent", self.totals.count(State::Pending), ""),
            ("need a person", waiting, if waiting > 0 { "bad" } else { "good" }),
        ];
        let read = self.tally.map(|tally| [("runs read", tally.runs, ""), ("mapped", tally.mapped, "")]);
        page.push_str("<div class=\"cards\" id=\"cards\">\n");
        for (name, count, class) in read.into_iter().flatten().chain(cards) {
            writeln!(page, "<div class=\"card {class}\"><b>{count}</b><span>{name}</span></div>")?;
        }
        page.push_str("</div>\n");
        Ok(())
    }

    fn people(&self, page: &mut String) -> fmt::Result {
        page.push_str("<h2 id=\"people\">What needs a person</h2>\n");
        if self.items.is_empty() {
            page.push_str("<p>Nothing.</p>\n");
        }
        for item in self.items {
            writeln!(
                page,
                "<div class=\"item\"><p><span class=\"kind\">{} {}</span>: {}</p><p>{}</p>",
                item.count,
                item.kind,
                escape(&item.reason),
                escape(&item.advice)
            )?;
            for example in &item.examples {
                writeln!(
                    page,
                    "<p class=\"what\"><code>{}</code> {}</p>",
                    escape(&example.what),
                    escape(&example.detail)
                )?;
            }
            page.push_str("</div>\n");
        }
        Ok(())
    }

    fn ledger(&self, page: &mut String) -> fmt::Result {
        page.push_str("<h2 id=\"ledger\">The ledger</h2>\n<div class=\"scroll\"><table>\n<tr><th>type</th><th>resource</th><th>project</th><th>state</th><th class=\"n\">records</th><th class=\"n\">charge</th></tr>\n");
        for total in &self.totals.charges {
            writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                total.usage_type,
                escape(&total.resource),
                escape(&total.project),
                total.state,
                total.records,
                total.charge
            )?;
        }
        page.push_str("</table></div>\n");
        Ok(())
    }
}

fn laws(t: &Tally, page: &mut String) -> fmt::Result {
    let sum = |map: &BTreeMap<String, u64>| map.values().sum::<u64>();
    write!(
        page,
        "<h2 id=\"laws\">Nothing is lost</h2>\n<p class=\"law\">{} frames = {} contributing + {} informational + {} quarantined</p>\n\
         <p class=\"law\">{} runs = {} mapped + {} skipped + {} held</p>\n",
        t.frames,
        t.contributing,
        sum(&t.informational),
        t.quarantined,
        t.runs,
        t.mapped,
        sum(&t.skipped),
        sum(&t.held)
    )?;
    let mut rows: Vec<(&str, &BTreeMap<String, u64>)> = vec![
        ("informational", &t.informational),
        ("quarantined", &t.quarantined_by),
        ("skipped", &t.skipped),
        ("held", &t.held),
    ];
    if !t.observed.is_empty() {
        rows.push(("observed", &t.observed));
    }
    page.push_str("<div class=\"scroll\"><table>\n");
    for (name, counts) in rows {
        let list: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {}", escape(reason))).collect();
        let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        writeln!(page, "<tr><th>{name}</th><td>{list}</td></tr>")?;
    }
    page.push_str("</table></div>\n");
    Ok(())
}

fn charges(tally: &Tally, page: &mut String) -> fmt::Result {
    page.push_str("<h2 id=\"charges\">Charges of what was read</h2>\n<div class=\"scroll\"><table>\n<tr><th>resource</th><th>project</th><th class=\"n\">charge</th></tr>\n");
    for (resource, projects) in &tally.charge_by_project {
        for (project, charge) in projects {
            writeln!(
                page,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{charge}</td></tr>",
                escape(resource),
                escape(project)
            )?;
        }
        if let Some(total) = tally.charge.get(resource) {
            writeln!(page, "<tr class=\"sum\"><td></td><td>total</td><td class=\"n\">{total}</td></tr>")?;
        }
    }
    page.push_str("</table></div>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_become_markup() {
        let hostile = "<script>alert(1)</script>\"'&\u{1b}[31m\u{202e}";
        let escaped = escape(hostile);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\u{1b}', '\u{202e}']), "{escaped}");
        let items = [Item {
            kind: "held",
            reason: hostile.to_owned(),
            count: 1,
            examples: vec![crate::attention::Example {
                what: hostile.to_owned(),
                detail: hostile.to_owned(),
            }],
            advice: hostile.to_owned(),
        }];
        let mut tally = Tally::default();
        tally.charge(hostile, hostile, amie_usage::Decimal::new(1, 0));
        tally.hold(hostile);
        let report = Report {
            site: hostile,
            endpoint: hostile,
            at: 0,
            tally: Some(&tally),
            totals: &Totals::default(),
            items: &items,
            remarks: &[hostile.to_owned()],
            tables: &[Table { key: "users.table", path: hostile.into(), rows: 1, modified: Some(0) }],
        };
        assert!(!report.html().contains("<script"), "a script got in");
    }
}

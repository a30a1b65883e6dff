//! The page at `/`: what came in and what became of it, for a person's eyes. No scripts, nothing to press.

use crate::http::Answer;
use crate::record::Members;
use crate::service::Service;
use crate::state::{Total, totals};
use crate::store::{Fate, Store};
use crate::{decimal::Sum, fault::Fault, time};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

/// So many rows of totals are shown.
const MAX_ROWS: usize = 500;
/// So many of the last errors are shown.
const MAX_ERRORS: usize = 50;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5d6b7e;--line:#dde3ea;--paper:#fff;--ground:#f4f6f9;--good:#1a7f4b;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e9f0;--dim:#94a3b8;--line:#2b3442;--paper:#171d27;--ground:#0e131b;--good:#4cc38a;--bad:#ff8a80}}\
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:72rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2.25rem 0 .6rem}\
p{color:var(--dim);margin:.3rem 0}code{font:.92em ui-monospace,monospace}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.75rem;margin:1.5rem 0 0}\
dl div{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;padding:.7rem .9rem}\
dt{color:var(--dim);font-size:.8rem}dd{margin:0;font-size:1.45rem;font-variant-numeric:tabular-nums}\
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:.6rem}\
table{border-collapse:collapse;width:100%}th,td{padding:.45rem .8rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}\
tr:last-child td{border-bottom:0}th{color:var(--dim);font-weight:500;font-size:.8rem;white-space:nowrap}\
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.t{white-space:nowrap}.good{color:var(--good)}.bad{color:var(--bad)}\
td{overflow-wrap:anywhere}ul{margin:0;padding-left:1.2rem}";

/// The page.
pub(crate) fn answer(service: &Service) -> Answer {
    let faults = service.faults();
    let mut html = String::new();
    // Writing to a string does not fail.
    let _ = service.look(|store| page(&mut html, store, &faults));
    let mut answer = Answer::new(200, "text/html; charset=utf-8", html);
    answer
        .fields
        .push(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'".to_owned()));
    answer
}

/// A proxy's page, for the fault of that name.
pub(crate) fn proxy_error(status: u16) -> String {
    format!(
        "<html>\n<head><title>{status}</title></head>\n<body>\n<center><h1>{status}</h1></center>\n<hr><center>proxy</center>\n</body>\n</html>\n"
    )
}

fn page(out: &mut String, store: &Store, faults: &[Fault]) -> fmt::Result {
    write!(
        out,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Usage sandbox</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head><body><main>\
         <h1>Usage sandbox</h1><p>A local stand-in for the AMIE Usage API at <code>{}/usage/</code>. \
         Everything as JSON: <a href=\"/sandbox/state\"><code>/sandbox/state</code></a>.</p>",
        crate::api::BASE
    )?;
    let rows = totals(store);
    tiles(out, store, &rows)?;
    totals_table(out, &rows)?;
    resources_table(out, &rows)?;
    errors_table(out, store)?;
    if !faults.is_empty() {
        out.push_str("<h2>Faults that can still strike</h2><ul>");
        for fault in faults {
            write!(out, "<li><code>{}</code></li>", Escaped(fault))?;
        }
        out.push_str("</ul>");
    }
    out.push_str("</main></body></html>\n");
    Ok(())
}

fn tiles(out: &mut String, store: &Store, rows: &[Total]) -> fmt::Result {
    let count = |of: fn(&Total) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
    let refused = u64::try_from(store.refused.len()).unwrap_or(u64::MAX);
    out.push_str("<dl>");
    for (name, class, count) in [
        ("messages", "", store.posts),
        ("turned away", "bad", store.posts_turned),
        ("accepted", "", count(|row| row.received)),
        ("queued", "", count(|row| row.queued)),
        ("loaded", "good", count(|row| row.loaded)),
        ("replaced", "", count(|row| row.replaced)),
        ("failed to load", "bad", count(|row| row.failed)),
        ("refused", "bad", refused),
    ] {
        let class = if count == 0 { "" } else { class };
        write!(out, "<div><dt>{name}</dt><dd class=\"{class}\">{count}</dd></div>")?;
    }
    out.push_str("</dl>");
    Ok(())
}

fn totals_table(out: &mut String, rows: &[Total]) -> fmt::Result {
    out.push_str("<h2>By resource and project</h2>");
    if rows.is_empty() {
        out.push_str("<p>Nothing has come in yet.</p>");
        return Ok(());
    }
    out.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>kind<th>resource<th>project<th class=\"n\">accepted<th class=\"n\">queued\
         <th class=\"n\">loaded<th class=\"n\">replaced<th class=\"n\">failed<th class=\"n\">refused\
         <th class=\"n\">charge loaded</tr></thead><tbody>",
    );
    for row in rows.iter().take(MAX_ROWS) {
        write!(
            out,
            "<tr><td>{}<td><bdi>{}</bdi><td><bdi>{}</bdi><td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}</tr>",
            Escaped(&row.kind),
            Escaped(&row.resource),
            Escaped(&row.local_project_id),
            row.received,
            row.queued,
            row.loaded,
            row.replaced,
            row.failed,
            row.refused,
            Escaped(&row.charge)
        )?;
    }
    out.push_str("</tbody></table></div>");
    let more = rows.len().saturating_sub(MAX_ROWS);
    if more > 0 {
        write!(out, "<p>{more} more rows are in the JSON.</p>")?;
    }
    Ok(())
}

fn resources_table(out: &mut String, rows: &[Total]) -> fmt::Result {
    let mut sums: BTreeMap<(&str, &str), (u64, Sum)> = BTreeMap::new();
    for row in rows {
        let (records, sum) = sums.entry((&row.resource, &row.kind)).or_default();
        *records = records.saturating_add(row.loaded);
        sum.add(&row.charge);
    }
    if sums.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>By resource</h2><div class=\"scroll\"><table><thead><tr><th>resource<th>kind<th class=\"n\">loaded\
         <th class=\"n\">charge loaded</tr></thead><tbody>",
    );
    for ((resource, kind), (records, sum)) in sums.iter().take(MAX_ROWS) {
        write!(
            out,
            "<tr><td><bdi>{}</bdi><td>{}<td class=\"n\">{records}<td class=\"n\">{sum}</tr>",
            Escaped(resource),
            Escaped(kind)
        )?;
    }
    out.push_str("</tbody></table></div>");
    Ok(())
}

/// The last errors of all kinds, the newest first.
fn errors_table(out: &mut String, store: &Store) -> fmt::Result {
    let mut errors: Vec<(i64, &str, String, &str)> = Vec::new();
    let versions = store.versions.iter().rev();
    let failed = versions.filter_map(|version| {
        let (Fate::Failed { at } | Fate::Cleared { at }) = version.fate else { return None };
        let (id, resource) = (store.local_record_id(version), store.name(version.resource));
        let what = format!("{} {id} on {resource}", version.usage_type.word());
        Some((at, "failed to load", what, version.fails.map_or("", |error| store.name(error))))
    });
    errors.extend(failed.take(MAX_ERRORS));
    let mut reader = store.reader();
    errors.extend(store.refused.iter().rev().take(MAX_ERRORS).map(|refused| {
        let record = reader.refused(refused);
        let id = Members::read(&record).and_then(|members| members.text("LocalRecordID"));
        let (id, resource) = (id.as_deref().unwrap_or("?"), store.name(refused.resource));
        let what = format!("{} {id} on {resource}", refused.usage_type.word());
        (store.refused_at(refused), "refused", what, store.name(refused.error))
    }));
    let turned = store.turned.iter().rev().take(MAX_ERRORS);
    errors.extend(
        turned.map(|turned| (turned.at, "message", "a whole message".to_owned(), turned.why.as_str())),
    );
    if errors.is_empty() {
        return Ok(());
    }
    errors.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    out.push_str(
        "<h2>Recent errors</h2><div class=\"scroll\"><table><thead><tr><th>time<th>what<th>record<th>error</tr></thead><tbody>",
    );
    for (at, kind, what, error) in errors.iter().take(MAX_ERRORS) {
        write!(
            out,
            "<tr><td class=\"t\">{}<td class=\"t\">{kind}<td><bdi>{}</bdi><td class=\"bad\"><bdi>{}</bdi></tr>",
            time::format_milliseconds(*at),
            Escaped(Short(what)),
            Escaped(Short(error))
        )?;
    }
    out.push_str("</tbody></table></div>");
    Ok(())
}

/// A client's text, cut to what a table's cell can carry.
struct Short<'a>(&'a str);

impl Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.300}", self.0)
    }
}

/// Text that means nothing to a browser, in an element or in an attribute.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.write_str("&amp;"),
                '<' => self.0.write_str("&lt;"),
                '>' => self.0.write_str("&gt;"),
                '"' => self.0.write_str("&quot;"),
                '\'' => self.0.write_str("&#39;"),
                control if control.is_control() => self.0.write_str("\u{fffd}"),
                other => self.0.write_char(other),
            }?;
        }
        Ok(())
    }
}

//! What happened that a person has not been told yet: by the number of the last event that was reported.

use super::session::Session;
use crate::ledger::store::Store;
use crate::ledger::{Event, LedgerError, News, Note, What};

const LAST_EVENT: &str = "reported_event";
const LAST_QUARANTINED: &str = "reported_quarantined";

/// What is news of rows.
pub(in crate::ledger) const NEWS: [What; 6] = [
    What::Moved(Event::Held),
    What::Noted(Note::HoldOpened),
    What::Moved(Event::Refused),
    What::Moved(Event::Failed),
    What::Noted(Note::Mismatched),
    What::Noted(Note::Drifted),
];

fn reported<S: Store>(session: &Session<'_, S>, name: &str) -> Result<i64, S::Fail> {
    let Some(text) = session.store.meta(name)? else { return Ok(0) };
    let number = text.parse();
    Ok(number.map_err(|_| LedgerError::Inconsistent(format!("{name} is \"{text}\"")))?)
}

/// Counts what is new since the last report.
pub(in crate::ledger) fn news<S: Store>(session: &Session<'_, S>) -> Result<News, S::Fail> {
    let mut news = News::default();
    for (what, rows) in session.store.news_after(reported(session, LAST_EVENT)?)? {
        match what {
            What::Moved(Event::Held) | What::Noted(Note::HoldOpened) => news.held += rows,
            What::Moved(Event::Refused) => news.refused += rows,
            What::Moved(Event::Failed) => news.failed += rows,
            What::Noted(Note::Mismatched) => news.mismatched += rows,
            What::Noted(Note::Drifted) => news.drifted += rows,
            What::Moved(_) | What::Noted(Note::HoldClosed | Note::GoLive | Note::Restored) => {}
        }
    }
    news.quarantined = session.store.open_text_count(reported(session, LAST_QUARANTINED)?)?;
    Ok(news)
}

/// Takes note that everything up to now has been reported.
pub(in crate::ledger) fn mark_reported<S: Store>(session: &Session<'_, S>) -> Result<(), S::Fail> {
    session.store.set_meta(LAST_EVENT, &session.store.last_event()?.to_string())?;
    session.store.set_meta(LAST_QUARANTINED, &session.store.last_text()?.to_string())
}

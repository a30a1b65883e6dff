//! What happened that a person has not been told yet: by the number of the last event that was reported. Only events of
//! single rows are news.

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
    let (last_event, last_quarantined) = (session.store.last_event()?, session.store.last_text()?);
    let mut news = News { last_event, last_quarantined, ..News::default() };
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

/// Takes note that this has been reported. Another runner may have reported more.
pub(in crate::ledger) fn mark_reported<S: Store>(
    session: &Session<'_, S>,
    news: &News,
) -> Result<(), S::Fail> {
    for (name, last) in [(LAST_EVENT, news.last_event), (LAST_QUARANTINED, news.last_quarantined)] {
        if last > reported(session, name)? {
            session.store.set_meta(name, &last.to_string())?;
        }
    }
    Ok(())
}

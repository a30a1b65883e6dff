//! Loaded records page by page: to the end whatever the service's own limit is, and never in a circle.

use crate::wire::{LoadedPage, LoadedRecord};
use crate::{CallError, Client, LoadedQuery};

/// Walks through loaded records; made by [`Client::loaded_pages`].
///
/// It goes on until a page is empty: a page that is shorter than what was asked for may only be as long as the service
/// allows. Where [`next`](Self::next) fails, calling it again asks for the same page again; [`position`](Self::position)
/// is a query with which another walk, on another day, goes on where this one is.
#[derive(Debug, Clone)]
pub struct LoadedPages {
    client: Client,
    query: LoadedQuery,
    /// How the page before began and ended.
    before: Option<(LoadedRecord, LoadedRecord)>,
    ended: bool,
}

impl LoadedPages {
    pub(crate) fn new(client: Client, query: LoadedQuery) -> Self {
        Self { client, query, before: None, ended: false }
    }

    /// The question for the page that comes next.
    #[must_use]
    pub fn position(&self) -> &LoadedQuery {
        &self.query
    }

    /// The next page; `None` behind the last one.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Unreadable`] where the service gives the same page again, as one does that does not
    /// know the name of the parameter for the offset.
    pub async fn next(&mut self) -> Result<Option<LoadedPage>, CallError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.client.loaded(&self.query).await?;
        let entries = u64::try_from(page.records.len()).unwrap_or(u64::MAX).saturating_add(page.unreadable);
        if entries == 0 {
            self.ended = true;
            return Ok(None);
        }
        if page.records.is_empty() {
            // Not one of them: this is another format, and there is no telling whether the next page is another page.
            let reason = format!("none of {entries} loaded records can be read");
            return Err(CallError::Unreadable { reason });
        }
        let ends = page.records.first().cloned().zip(page.records.last().cloned());
        if ends == self.before {
            let offset = &self.client.settings().loaded_offset;
            let reason = format!(
                "the service gives one page of loaded records again and again: \
                 it may have another name for the parameter \"{offset}\""
            );
            return Err(CallError::Unreadable { reason });
        }
        self.before = ends;
        self.query.offset = self.query.offset.saturating_add(entries);
        Ok(Some(page))
    }
}

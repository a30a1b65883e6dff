//! Names by number and numbers by name, as far as they were used lately.

use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// The cache of one store.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    ids: HashMap<Arc<str>, i64, RandomState>,
    texts: HashMap<i64, Arc<str>, RandomState>,
}

/// Beyond so many cached names the cache starts over: memory does not grow with the input.
const MOST_NAMES: usize = 100_000;

impl NameCache {
    pub(super) fn id(&self, text: &str) -> Option<i64> {
        self.ids.get(text).copied()
    }

    pub(super) fn text(&self, id: i64) -> Option<Arc<str>> {
        self.texts.get(&id).cloned()
    }

    pub(super) fn remember(&mut self, id: i64, text: Arc<str>) {
        if self.ids.len() >= MOST_NAMES {
            *self = Self::default();
        }
        self.texts.insert(id, Arc::clone(&text));
        self.ids.insert(text, id);
    }
}

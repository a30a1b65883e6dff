//! What the ledger does, over any store: each file is one thing, and none of them knows of a database.

pub(super) mod adjust;
pub(super) mod brake;
pub(super) mod confirm;
pub(super) mod go_live;
pub(super) mod import;
pub(super) mod ingest;
pub(super) mod moving;
pub(super) mod news;
pub(super) mod outdated;
pub(super) mod people;
pub(super) mod query;
pub(super) mod restored;
pub(super) mod send;
pub(super) mod session;
pub(super) mod twin;
pub(super) mod verify;
pub(super) mod watch;

mod hold;
mod kept;
mod left;
mod standing;

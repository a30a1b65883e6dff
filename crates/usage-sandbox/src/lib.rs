//! A local stand-in for the AMIE Usage API: what a test, a demonstration or a careful person sends to first.
//!
//! It is an oracle. It judges every record against its own table of the wire, shares no type with any client, and remembers all
//! that it ever took, so that after any accident one can ask it what the real service would hold: [`Sandbox::state`]. And it
//! is a bad day. It can refuse, drop, lie, dawdle and forget to answer, on the call and as often as a [`Fault`] says.
//!
//! ```
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use usage_sandbox::{Sandbox, Settings};
//! let sandbox = Sandbox::start(Settings::default()).await?;
//! sandbox.inject("drop-after-storing@post*1".parse()?);
//! // ... a client sends to sandbox.base_url() ...
//! sandbox.settle().await;
//! assert_eq!(sandbox.state().charge("anvil.example.org"), "0");
//! sandbox.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it serves
//!
//! Under `/api/v1_test`, with `XA-SITE` and `XA-API-KEY` on every request, a slash at the end or not:
//!
//! | call | answer |
//! |---|---|
//! | `POST usage` | 200 with `Message` and `ValidationFailedRecords`; 400, 413, 415 with `error` for the whole message |
//! | `GET usage/status?FromTime=&ToTime=` | per resource, what was processed in that time |
//! | `GET usage/failed` | `ValidationFailedRecords`: what failed to load, until it is cleared |
//! | `DELETE usage/failed/1,2` | clears them |
//! | `GET usage/loaded?MinLoadedTime=&Limit=&Offset=&LocalRecordID=` | `Records`, compute only, at most 25,000 |
//! | `GET usage/summary` | 501 |
//!
//! Beside it, without any key, for whoever can reach the port: `GET /` is a page for people, `GET /sandbox/state` the
//! [`State`] as JSON, `GET /sandbox/totals` its totals alone, `GET`, `POST` and `DELETE /sandbox/faults` list, arm and clear [faults](fault), and
//! `POST /sandbox/settle` loads everything that is queued.
//!
//! # What it is not
//!
//! The real service. Where that one's behaviour is not documented, the sandbox takes the answer that shows a client's mistakes
//! best, and [`Settings`] has the other one.

mod api;
mod clock;
mod decimal;
pub mod fault;
mod http;
mod journal;
mod judge;
mod known;
mod page;
mod parcel;
mod record;
mod sandbox;
mod server;
mod service;
mod settings;
mod state;
mod store;
mod time;
mod wire;

pub use fault::{Call, Fault, FaultError, FaultKind, RetryAfter, When};
pub use journal::StateFileError;
pub use known::{Allocation, Known, KnownError};
pub use sandbox::{Sandbox, SandboxError};
pub use settings::{Rule, Settings};
pub use state::{
    History, HistoryVersion, RecordFate, RefusedRecord, State, StoredRecord, Total, TurnedMessage,
};
pub use wire::UsageType;

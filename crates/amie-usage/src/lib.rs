//! Record types and client of the ACCESS (formerly XSEDE) AMIE Usage API.
#![doc = ""]
#![doc = include_str!("../README.md")]
// What the README says of the client has nothing to point at without it.
#![cfg_attr(not(all(feature = "client", feature = "blocking")), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod config;
mod decimal;
#[cfg(feature = "client")]
mod delivery;
#[cfg(feature = "client")]
mod key;
#[cfg(feature = "client")]
mod outcome;
#[cfg(feature = "client")]
mod pace;
#[cfg(feature = "client")]
mod pages;
mod record;
#[cfg(feature = "client")]
mod refusals;
#[cfg(feature = "client")]
mod retry;
pub mod wire;

#[cfg(feature = "client")]
pub use client::{CallError, Client, LoadedQuery};
#[cfg(feature = "client")]
pub use config::{ClientConfig, ConfigError};
pub use decimal::{Decimal, DecimalError};
#[cfg(feature = "client")]
pub use delivery::{Cancel, Delivery, Limits, RecordOutcome, Stop, deliver};
#[cfg(feature = "client")]
pub use key::{ApiKey, KeyError};
#[cfg(feature = "client")]
pub use outcome::{Refused, SendOutcome};
#[cfg(feature = "client")]
pub use pages::LoadedPages;
pub use record::{
    AdjustmentType, AdjustmentUsageRecord, ComputeAttributes, ComputeUsageRecord, StorageAttributes,
    StorageUsageRecord, UsageType,
};
#[cfg(feature = "client")]
pub use retry::{RetryBudget, ask};
pub use wire::{FailedRecord, LoadedPage, LoadedRecord, ResourceStatus, StatusError};

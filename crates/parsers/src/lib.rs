//! Reads HPC accounting: Slurm `sacct` text and JSON, PBS accounting logs, file-system quota reports.
//!
#![doc = include_str!("../README.md")]

mod duration;
#[cfg(test)]
mod fixtures;
#[doc(hidden)]
pub mod grammar;
mod hosts;
mod memory;
pub mod pbs;
pub mod quota;
pub mod reading;
pub mod run;
pub mod sacct;
pub mod sacct_json;
mod split;
pub mod time;
mod tres;

pub use hosts::{HostsError, MAX_HOSTS};
pub use reading::{OwnerKind, QuotaFrame, Reading};
pub use run::{
    Assigned, Finding, Frame, Kind, Note, NoteKind, Phase, Place, Quarantined, Reason, Requested, Run,
    Scheduler, State,
};

/// A text that is not of the form that is read; what stands around it names the column and shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

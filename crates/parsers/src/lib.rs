//! Reads HPC accounting: Slurm `sacct` text and JSON, PBS accounting logs, file-system quota reports.
//!
//! Bytes in, records out: no I/O, no clock, nothing is dropped, and no input makes it panic.

mod duration;
#[cfg(test)]
mod fixtures;
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

pub use reading::{OwnerKind, QuotaFrame, Reading};
pub use run::{
    Finding, Frame, Kind, Note, NoteKind, Place, Quarantined, Reason, Requested, Run, Scheduler, State,
};

/// A text that is not of the form that is read; what stands around it names the column and shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

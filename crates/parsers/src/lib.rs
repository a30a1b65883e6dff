//! Reads HPC accounting: Slurm `sacct` text, PBS accounting logs, file-system quota reports.
//!
//! Bytes in, records out: no I/O, no clock, nothing is dropped, and no input makes it panic.

pub mod pbs;
pub mod quota;
pub mod reading;
pub mod run;

pub use reading::{OwnerKind, QuotaFrame, Reading};
pub use run::{
    Finding, Frame, Kind, Note, NoteKind, Place, Quarantined, Reason, Requested, Run, Scheduler, State,
};

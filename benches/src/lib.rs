//! Input for measurements: accounting of an imagined centre, of any size, the same bytes from the same seed.
//!
//! The generator writes a stream in constant memory and counts while it writes ([`Truth`]), so that the totals of a
//! parser can be held against something that the parser had no hand in. It is shaped after what real Slurm and PBS
//! servers wrote: activity of users and accounts follows Zipf, arrays come in bursts of like rows, jobs are requeued,
//! cancelled before they start, suspended; rows are nearly sorted by end, the records of a PBS log are interleaved.
//! It is still synthetic: the benchmarks measure real fixtures beside it.

mod clock;
mod pbs;
mod random;
mod sacct;
mod site;
mod truth;

pub use pbs::{PbsOptions, pbs};
pub use random::{Random, Zipf};
pub use sacct::{Columns, SacctOptions, Times, sacct};
pub use truth::Truth;

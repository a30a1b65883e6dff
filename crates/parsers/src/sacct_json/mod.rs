//! Slurm: the documents of `sacct --json` and of slurmrestd's `/slurmdb/*/jobs`.
//!
//! Nothing that a user writes can forge a job here: JSON quotes it. What differs is the shape, by the version of Slurm and by the
//! version of its data parser that was asked for (`dbv0.0.37` of 21.08 to `v0.0.45` of 26.05, each also with `+complex`). It is
//! told from each value itself, not from the version that the document names: a number may stand bare, as `null`, or as
//! `{"set": true, "infinite": false, "number": 5}`; a state may be a word or a list of words.
//!
//! A frame is one element of the list `jobs`. The document around that list is no frame: it says whether the list can be
//! believed at all. So a document is gone through twice: [`Survey`] finds the list, and refuses a document that reports errors,
//! wherever they stand in it; then [`read`] gives the frames, of the whole list or of any part that [`cut`] gives.
//! Steps stand inside their job and are not read: they repeat what the job has used.
//!
//! ```
//! use parsers::{Frame, State, sacct_json};
//!
//! let text = br#"{"jobs": [{"job_id": 83, "array": {"job_id": 66, "task_id": {"set": true, "infinite": false, "number": 1}},
//!     "account": "tg-abc123456", "cluster": "testhpc", "partition": "cpu", "user": "alice",
//!     "state": {"current": ["PENDING", "REQUEUED"]},
//!     "time": {"submission": 1795427140, "start": 1795427143, "end": 1795427160, "elapsed": 17},
//!     "tres": {"allocated": [{"type": "cpu", "name": "", "id": 1, "count": 2}]}, "steps": []}], "errors": []}"#;
//! let document = sacct_json::survey(text)?;
//! let elements = document.slice(text);
//!
//! let mut ids = Vec::new();
//! sacct_json::read(elements, |frame| {
//!     let Frame::Run(run) = frame else { panic!("{frame:?}") };
//!     assert_eq!((run.state, run.elapsed, run.cores, run.gpus), (State::Requeued, Some(17), Some(2), Some(0)));
//!     ids.push((run.job_id.to_string(), run.raw_id.to_string()));
//! });
//! assert_eq!(ids, [("66_1".to_owned(), "83".to_owned())]);
//! # Ok::<(), parsers::sacct_json::DocumentError>(())
//! ```

mod elements;
mod job;
mod nesting;
mod read;
mod survey;
mod value;

pub use elements::{Ending, cut};
pub use read::read;
pub use survey::{Document, DocumentError, Survey, survey};

//! Slurm: the text of `sacct -P` and `sacct -p`.
//!
//! `sacct` escapes nothing, so that a job name with a newline prints rows of its own: the rules by which torn rows and what stands
//! beside them are set aside are those of `frames`; where the names of users cannot be trusted, [`Framing::Counted`] with a
//! delimiter that nobody could know is the only reading that cannot be forged.
//!
//! A text is read in three steps: a [`Layout`] from its header, [`Layout::cut`] for how much of a block is whole rows, and
//! [`Layout::read`] for the frames.
//!
//! ```
//! use parsers::{Frame, State};
//! use parsers::sacct::{Layout, Options};
//!
//! let text = b"JobID|State|Submit|Start|End|ElapsedRaw|AllocTRES|Account|User\n\
//!     61_5|COMPLETED|1795426540|1795426542|1795426629|87|billing=2,cpu=2,mem=200M,node=1|tg-abc123456|alice\n";
//! let layout = Layout::from_header(b"JobID|State|Submit|Start|End|ElapsedRaw|AllocTRES|Account|User", &Options::default())?;
//! let mut frames = Vec::new();
//! layout.read(text, 0..text.len(), true, |frame| frames.push(frame));
//!
//! let [Frame::Note(_), Frame::Run(run)] = frames.as_slice() else { panic!("{frames:?}") };
//! assert_eq!((run.state, run.elapsed, run.cores, run.gpus), (State::Completed, Some(87), Some(2), Some(0)));
//! assert_eq!(run.mem_bytes, Some(200 << 20));
//! # Ok::<(), parsers::sacct::HeaderError>(())
//! ```

mod columns;
mod fold;
mod frames;
mod groups;
mod header;
mod ids;
mod row;
mod survey;
mod words;

pub use header::{HeaderError, Layout, guess_delimiter};
pub use survey::{PartialRead, Survey};

/// For [`crate::grammar`].
pub(crate) fn job_id_readings(text: &[u8]) -> crate::grammar::Readings {
    crate::grammar::said(ids::form(text), ids::by_grammar(text))
}

/// How a text was written, as far as it does not say so itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What stands between fields. `sacct --delimiter='\t'` is a backslash and a `t`.
    pub delimiter: Vec<u8>,
    /// The zone of times that are printed without an offset.
    pub zone: chrono_tz::Tz,
    /// The columns, where the text has no header line (`sacct -n`).
    pub columns: Option<Vec<String>>,
    /// True: job steps are read as runs of [`crate::Kind::Step`]. False: they are noted and not read further.
    pub read_steps: bool,
    /// What ends a row.
    pub framing: Framing,
}

impl Default for Options {
    /// `|`, UTC, with a header, steps noted, one row a line.
    fn default() -> Self {
        Self {
            delimiter: b"|".to_vec(),
            zone: chrono_tz::Tz::UTC,
            columns: None,
            read_steps: false,
            framing: Framing::Lines,
        }
    }
}

/// What ends a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Framing {
    /// A newline.
    #[default]
    Lines,
    /// Its number of delimiters, and a newline after the last: for `sacct -p` with a delimiter that occurs in no value.
    /// Newlines inside fields are text.
    Counted,
}

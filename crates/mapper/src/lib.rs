//! Turns runs and quota readings into usage records with exact charges.
//!
//! Pure: no I/O, no clock, no floating point. [`Rules`] are compiled once from a [`spec::RulesSpec`] and say everything
//! that is wrong with them at once. A [`Mapper`] then makes of each run a record, or the reason why there is none:
//!
//! ```
//! use mapper::{Mapper, Outcome, Rules, SourceRules, spec::*};
//! # use parsers::{Assigned, Kind, Place, Requested, Run, Scheduler, State};
//! # let run = Run {
//! #     scheduler: Scheduler::Slurm, kind: Kind::Run, job_id: "123".into(), raw_id: "123".into(),
//! #     cluster: Some("testhpc".into()), user: Some("alice".into()), account: Some("physics".into()), group: None,
//! #     project: None, partition: Some("cpu".into()), qos: None, reservation: None, name: None,
//! #     state: State::Completed, state_text: "COMPLETED".into(), submit: Some(1_795_427_125), eligible: None,
//! #     start: Some(1_795_427_130), end: Some(1_795_430_730), elapsed: Some(3600), suspended: None, nodes: Some(1),
//! #     cores: Some(8), gpus: Some(0), mem_bytes: None, billing: None, tres: None, node_list: None, allocated: true,
//! #     requested: Requested::default(), assigned: Assigned::default(), phases: vec![], resources: "".into(),
//! #     exit_code: None, signal: None, run_count: None, finding: None,
//! #     text: "".into(), place: Place::default(),
//! # };
//! let rules = Rules::compile(RulesSpec {
//!     timezone: chrono_tz::UTC,
//!     projects: vec![ProjectRow { account: "physics".into(), project: "PHY26001".into(), ..Default::default() }],
//!     project_patterns: vec![],
//!     skip: vec![],
//!     users: None,
//!     pi_fallback: vec![],
//!     node_types: vec![],
//!     resources: vec![ResourceSpec {
//!         name: "cpu.example.org".into(),
//!         when: When { partition: vec!["cpu".into()], ..Default::default() },
//!         rates: vec![RateSpec {
//!             from: "2026-01-01".parse()?,
//!             until: None,
//!             rate_by: RateBy::Submit,
//!             charge: "core_hours / 16".into(),
//!             round: Rounding::default(),
//!             minimum: None,
//!             minimum_seconds: None,
//!             factors: Default::default(),
//!         }],
//!         ..ResourceSpec::default()
//!     }],
//!     storage: vec![],
//!     policy: PolicySpec::default(),
//! })
//! .map_err(|errors| errors[0].clone())?;
//! let source = SourceRules::compile(SourceSpec {
//!     name: "slurm".into(),
//!     ..SourceSpec::default()
//! })?;
//! let mut mapper = Mapper::new(&rules, &source);
//! let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("8 cores for an hour are charged") };
//! assert_eq!(mapped.record.charge.to_string(), "0.5");
//! assert_eq!(mapped.key.as_str(), "slurm/testhpc/0000000123/1795427125");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reading order: [`spec`] (what a site writes), `rules`, `plan` (what is decided once per combination of names),
//! `terms` (what a run is charged), `formula` and `number` (the arithmetic), `mapper` (the order of decisions), `explain`.

#![deny(
    clippy::disallowed_types,
    clippy::float_arithmetic,
    clippy::float_cmp,
    clippy::lossy_float_literal,
    clippy::cast_precision_loss
)]

mod cache;
mod digest;
mod explain;
mod formula;
mod identity;
mod interval;
mod keys;
mod limits;
mod mapper;
mod node_types;
mod number;
mod outcome;
mod plan;
mod problems;
mod projects;
mod quantity;
mod resources;
mod rules;
mod source;
pub mod spec;
mod storage;
mod suggest;
mod supplied;
mod terms;
mod text;
mod users;

pub use digest::source_digest;
pub use explain::{Explanation, Line, Section};
pub use identity::RunKey;
pub use keys::{Keys, Times};
pub use mapper::Mapper;
pub use outcome::{
    Hold, HoldReason, MappedReading, MappedRun, Outcome, RunFacts, Skip, SkipReason, StorageOutcome,
};
pub use plan::Plan;
pub use quantity::Measures;
pub use rules::Rules;
pub use source::{Source, SourceRules};
pub use storage::StorageMapper;

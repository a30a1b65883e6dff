//! The generator against readers that know nothing of how it works.

mod generated;

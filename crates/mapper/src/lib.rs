//! Turns runs and quota readings into usage records with exact charges.

#![deny(
    clippy::float_arithmetic,
    clippy::float_cmp,
    clippy::lossy_float_literal,
    clippy::cast_precision_loss
)]

mod formula;
mod number;
mod quantity;
pub mod spec;
mod suggest;

pub use quantity::Measures;

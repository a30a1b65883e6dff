//! Turns runs and quota readings into usage records with exact charges.

pub mod spec;

//! `amie-runner`: the command line.
fn main() {}

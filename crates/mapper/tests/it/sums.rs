//! A million runs, summed in any order by any number of threads, to the same digit.

use crate::support::*;
use amie_usage::Decimal;
use mapper::{Mapper, Outcome, Rules};
use parsers::Run;
use std::num::NonZero;
use std::thread;

const RUNS: u64 = 1_000_000;

/// Cores and seconds of the run with this number: spread by multiplication, so that neighbours differ.
fn of(number: u64) -> (u64, u64) {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    (spread % 4096 + 1, spread / 4096 % 259_200)
}

/// The sum over runs of these numbers.
fn sum(rules: &Rules, numbers: impl Iterator<Item = u64>) -> Decimal {
    let source = source();
    let mut mapper = Mapper::new(rules, &source);
    let mut total = Decimal::ZERO;
    for number in numbers {
        let (cores, seconds) = of(number);
        let run = Run { cores: Some(cores), ..lasting(seconds, run()) };
        match mapper.map(&run) {
            Outcome::Mapped(mapped) | Outcome::Zero(mapped) => {
                total = total.checked_add(mapped.record.charge).unwrap();
            }
            outcome => panic!("{}", in_short(&outcome)),
        }
    }
    total
}

#[test]
fn a_million_runs_add_up_to_the_same_digit() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours / 7")])]));
    // cores x seconds / 25200 to 6 places, half to even, in whole numbers.
    let expected: u128 = (0..RUNS)
        .map(|number| {
            let (cores, seconds) = of(number);
            let (units, rest) = (cores * seconds * 1_000_000 / 25_200, cores * seconds * 1_000_000 % 25_200);
            let up = rest > 12_600 || (rest == 12_600 && units % 2 == 1);
            u128::from(units + u64::from(up))
        })
        .sum();
    let expected = format!("{}.{:06}", expected / 1_000_000, expected % 1_000_000);
    let expected = expected.trim_end_matches('0').trim_end_matches('.');
    assert_eq!(sum(&rules, (0..RUNS).rev()).to_string(), expected);
    // Each thread takes every n-th run; their sums are added in the order in which they end.
    let threads = thread::available_parallelism().map_or(2, NonZero::get).max(3) as u64;
    let total = thread::scope(|scope| {
        let rules = &rules;
        let parts: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || sum(rules, (thread..RUNS).step_by(usize::try_from(threads).unwrap())))
            })
            .collect();
        parts
            .into_iter()
            .rev()
            .fold(Decimal::ZERO, |total, part| total.checked_add(part.join().unwrap()).unwrap())
    });
    assert_eq!(total.to_string(), expected);
}

//! Whatever the order in which runs come in, and in whatever pieces, the same rows are there in the end: many together
//! take another way into the ledger than one alone, and both must agree.

use super::super::{NOW, Run, chunk};
use super::{CASES, Site};
use proptest::prelude::*;
use runner::ledger::{Ingested, Row};

/// A run of a few jobs, some of them with several runs, some of those a quarter hour apart; some share an identity, some
/// are charged nothing, some changed since they were read first.
fn run() -> impl Strategy<Value = Run> {
    (0..12_u32, 0..4_i64, 0..6_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.2)).prop_map(
        |(job, quarter, charge, shared, changed)| {
            let submit = 1_700_000_000 + quarter * 900;
            let mut run = Run {
                key: format!("slurm/c1/{job:010}/{submit}"),
                id: if shared { "7".into() } else { job.to_string() },
                submit,
                source: 1 + u128::from(changed),
                ..Run::new(job, &charge.to_string())
            };
            run.facts.start = submit + 100;
            run.facts.end = submit + 3_700 + i64::from(charge) * 60;
            run.facts.elapsed = 3_600 + u64::from(charge) * 60;
            run
        },
    )
}

/// Takes runs in as they are cut into pieces; answers what became of them.
fn take(site: &mut Site, pieces: &[&[Run]]) -> Ingested {
    let mut sum = Ingested::default();
    for piece in pieces {
        sum.merge(&site.ledger().ingest(&chunk(piece), NOW).unwrap());
    }
    sum
}

/// All rows, but for where their bytes lie and what made them.
fn rows(site: &mut Site) -> Vec<Row> {
    let mut rows = site.ledger().rows(None, "", 1_000).unwrap();
    for row in &mut rows {
        row.born = None;
        row.line = 0;
        if let Some(wanted) = &mut row.wanted {
            wanted.payload = None;
        }
    }
    rows
}

fn in_key_order(runs: &[Run]) -> Vec<Run> {
    let mut sorted: Vec<Run> = runs.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    sorted.dedup_by(|a, b| a.key == b.key);
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES / 5, failure_persistence: None, ..ProptestConfig::default() })]

    /// In one transaction records are taken by key, whatever their order in it: as if they had come one by one.
    #[test]
    fn many_together_become_what_they_become_one_by_one(
        known in prop::collection::vec(run(), 0..20),
        new in prop::collection::vec(run(), 1..40),
    ) {
        let (Some(mut together), Some(mut alone)) = (Site::new(), Site::new()) else { return Ok(()) };
        let (known, sorted) = (in_key_order(&known), in_key_order(&new));
        // What is known came one by one in both.
        let one_by_one = |runs: &[Run]| -> Vec<Vec<Run>> { runs.iter().map(|run| vec![run.clone()]).collect() };
        let singles = one_by_one(&known);
        let pieces: Vec<&[Run]> = singles.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(take(&mut together, &pieces), take(&mut alone, &pieces));
        let reversed: Vec<Run> = sorted.iter().rev().cloned().collect();
        let singles = one_by_one(&sorted);
        let pieces: Vec<&[Run]> = singles.iter().map(Vec::as_slice).collect();
        let (one, other) = (take(&mut together, &[&reversed]), take(&mut alone, &pieces));
        prop_assert_eq!(one, other);
        prop_assert_eq!(rows(&mut together), rows(&mut alone));
        together.sound();
    }
}

//! Properties of any input: nothing panics, nothing is lost, blocks do not matter, what is printed is read.

use super::*;
use crate::fuzzed::sacct::in_blocks;
use crate::fuzzed::{conserved, text_of};
use parsers::State;
use parsers::sacct::{Framing, Options};
use proptest::prelude::*;
use std::sync::LazyLock;

const HEADER: &str =
    "JobID|JobName|State|Submit|Start|End|ElapsedRaw|Suspended|AllocTRES|ReqMem|Account|User";

/// Layouts of all kinds; making one costs a zone's table.
static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    let counted = Options { delimiter: b"<~>".to_vec(), framing: Framing::Counted, ..Options::default() };
    let multi = Options { delimiter: b"<~>".to_vec(), ..Options::default() };
    let plain = Options::default();
    let steps = Options { read_steps: true, zone: chrono_tz::America::Denver, ..Options::default() };
    vec![
        Layout::lenient(HEADER.as_bytes(), &plain).unwrap(),
        Layout::lenient(b"JobID|State|JobName|", &steps).unwrap(),
        Layout::lenient(b"JobIDRaw|Comment|Start|End|JobName|Elapsed", &steps).unwrap(),
        Layout::lenient(b"JobID<~>JobName<~>State", &multi).unwrap(),
        Layout::lenient(b"JobID<~>JobName<~>State<~>", &counted).unwrap(),
    ]
});

/// Text that is made of the pieces of rows.
fn rows() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"|".to_vec()),
        3 => Just(b"\n".to_vec()),
        2 => Just(b"<~>".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        4 => "[0-9]{1,3}([_+.][0-9]{1,2}|_\\[1-9\\]|[.]batch)?".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["COMPLETED", "CANCELLED by 0", "2026-11-01T01:30:00", "1795426540", "00:01:27", "cpu=2,node=1", "Unknown", "x", "é"])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
        1 => Just(b"61|COMPLETED|x\n".to_vec()),
        1 => Just(b"61|x|COMPLETED|1795426540|1795426542|1795426629|87|00:00:00|cpu=2,node=1||a|u\n".to_vec()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_conserved_and_cut_into_blocks_gives_the_same_frames(text in rows(), block in 1..80usize) {
        for (index, layout) in LAYOUTS.iter().enumerate() {
            let whole = read(layout, &text);
            conserved(whole.iter().map(text_of), &text);
            if index < 4 {
                prop_assert_eq!(whole.len(), lines(&text));
            }
            prop_assert_eq!(in_blocks(layout, &text, &[block]), whole);
        }
    }

    #[test]
    fn any_bytes_are_conserved(text in prop::collection::vec(any::<u8>(), 0..400)) {
        for layout in LAYOUTS.iter() {
            conserved(read(layout, &text).iter().map(text_of), &text);
            prop_assert!(layout.cut(&text) <= text.len());
        }
    }

    #[test]
    fn any_bytes_as_a_header_are_a_layout_or_an_error(header in prop_oneof![rows(), prop::collection::vec(any::<u8>(), 0..200), "(JobID|State|[a-z]{0,3}|[|,;]){0,9}".prop_map(String::into_bytes)]) {
        let delimiter = guess_delimiter(&header).unwrap_or(b"|".to_vec());
        for framing in [Framing::Lines, Framing::Counted] {
            match Layout::from_header(&header, &Options { delimiter: delimiter.clone(), framing, ..Options::default() }) {
                Ok(layout) => prop_assert!(!layout.columns().is_empty()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn a_body_outside_of_the_text_is_empty(text in rows(), from in 0..500usize, to in 0..500usize) {
        let layout = &LAYOUTS[0];
        let mut seen = 0;
        layout.read(&text, from..to, true, |_| seen += 1);
        prop_assert!(seen <= lines(&text) + 1);
    }

    /// Prints rows as Slurm does, with names that hold anything but an end of line, and reads them back.
    #[test]
    fn what_is_printed_is_read(
        jobs in prop::collection::vec((1..u32::MAX, "[^\n\r]{0,40}", 0..3usize, 0..2_000_000_000i64, 0..5000i64, 0..10_000_000u64, 1..4096u64, 1..64u64, 0..9u64, 1..1u64 << 22), 1..8),
        trailing in any::<bool>(),
    ) {
        let end_of_row = if trailing { "|\n" } else { "\n" };
        let mut text = HEADER.to_owned() + end_of_row;
        for (id, name, state, submit, wait, elapsed, cores, nodes, gpus, mem) in &jobs {
            let state = ["COMPLETED", "CANCELLED by 20005", "REQUEUED"][*state];
            let gpu = if *gpus > 0 { format!("gres/gpu:a100={gpus},gres/gpu={gpus},") } else { String::new() };
            let (submit, start) = (submit + 1, submit + 1 + wait);
            let end = start + *elapsed as i64;
            text += &format!("{id}|{name}|{state}|{submit}|{start}|{end}|{elapsed}|00:00:00|billing={cores},cpu={cores},{gpu}mem={mem}M,node={nodes}|{mem}M|acct|user{end_of_row}");
        }
        let layout = strict(text.as_bytes());
        let found = understand(&layout, text.as_bytes());
        prop_assert_eq!(found.quarantined_lines(), vec![]);
        prop_assert_eq!(found.runs.len(), jobs.len());
        for (run, (id, name, state, submit, wait, elapsed, cores, nodes, gpus, mem)) in found.runs.iter().zip(&jobs) {
            prop_assert_eq!(run.job_id.to_string(), id.to_string());
            prop_assert_eq!(run.name.map(ToString::to_string).unwrap_or_default(), name.as_str());
            prop_assert_eq!(run.state, [State::Completed, State::Cancelled, State::Requeued][*state]);
            prop_assert_eq!((run.submit, run.start), (Some(submit + 1), Some(submit + 1 + wait)));
            prop_assert_eq!((run.elapsed, run.cores, run.nodes), (Some(*elapsed), Some(*cores), Some(*nodes)));
            prop_assert_eq!((run.gpus, run.billing, run.mem_bytes), (Some(*gpus), Some(*cores), Some(mem << 20)));
            prop_assert_eq!(run.finding, None);
        }
    }
}

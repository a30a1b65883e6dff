//! Where whole rows end, and files that are read in blocks. (Cuts of every real file: `../torn.rs`.)

use super::*;
use crate::fuzzed::sacct::in_blocks;

/// A small file with everything in it: a torn name, steps, a pending array, requeues, a blank line.
fn small() -> Vec<u8> {
    let file = fixture("slurm/22.05/P-D-all.txt.gz");
    let lines: Vec<_> = file.split_inclusive(|byte| *byte == b'\n').collect();
    // Around the rows whose names hold newlines, of all columns only those that are read.
    let keep = [
        "JobIDRaw",
        "JobID",
        "User",
        "Account",
        "State",
        "Submit",
        "Start",
        "End",
        "ElapsedRaw",
        "AllocTRES",
        "JobName",
    ];
    let names: Vec<_> = std::str::from_utf8(lines[0]).unwrap().trim_end().split('|').collect();
    let mut text = keep.join("|").into_bytes();
    text.push(b'\n');
    for line in lines[1..].iter().take(40) {
        let fields: Vec<_> = line.trim_ascii_end().split(|byte| *byte == b'|').collect();
        if fields.len() == names.len() {
            let of = |name: &str| fields[names.iter().position(|other| *other == name).unwrap()];
            text.extend(keep.map(of).join(&b'|'));
            text.push(b'\n');
        }
    }
    text.extend(b"\n");
    text
}

#[test]
fn a_file_cut_at_any_byte_gives_the_same_runs_and_at_most_one_cut_off_frame() {
    let text = small();
    let layout = strict(&text);
    let whole = read(&layout, &text);
    assert!(whole.len() > 30 && whole.iter().filter(|frame| matches!(frame, Frame::Run(_))).count() > 8);
    for at in 0..text.len() {
        let head = read(&layout, &text[..at]);
        let complete = text[..at].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(head[..complete], whole[..complete], "cut at {at}");
        match &head[complete..] {
            [] => assert!(at == 0 || text[at - 1] == b'\n'),
            [Frame::Quarantined(bad)] => assert_eq!(bad.reason, Reason::CutOff, "cut at {at}"),
            more => panic!("cut at {at}: {more:?}"),
        }
        assert_eq!(layout.cut(&text[..at]), place(&whole[complete]).offset, "cut at {at}");
    }
}

#[test]
fn blocks_of_any_size_give_the_frames_of_the_whole() {
    for name in ["P-D-X-all.txt.gz", "P-D-X-usual.txt", "P-delim-multi.txt", "p-lower-all.txt"] {
        let text = fixture(&format!("slurm/22.05/{name}"));
        let layout = lenient(&text);
        let whole = read(&layout, &text);
        for block in [1, 63, 64, 65, 300, 1000, 4096, 100_000] {
            assert_eq!(in_blocks(&layout, &text, &[block]), whole, "{name} in blocks of {block}");
        }
    }
}

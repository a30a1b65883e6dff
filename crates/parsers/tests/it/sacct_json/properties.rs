//! What is true of any bytes, and of any division into blocks.

use super::*;
use parsers::sacct_json::{Document, DocumentError, Ending, Survey, cut, survey};
use proptest::prelude::*;

fn surveyed_in_pieces(text: &[u8], sizes: &[usize]) -> Result<Document, DocumentError> {
    let mut survey = Survey::default();
    let (mut rest, mut sizes) = (text, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        survey.push(piece);
        rest = behind;
    }
    survey.finish()
}

/// The frames of a list that is cut into blocks of about `size`, with their places in the whole.
fn in_blocks(elements: &[u8], size: usize) -> Vec<Owned> {
    let (mut found, mut done, mut line) = (Vec::new(), 0, 0);
    while done < elements.len() {
        let mut wanted = size;
        let len = loop {
            let Some(window) = elements.get(done..done + wanted) else { break elements.len() - done };
            match cut(window) {
                0 => wanted *= 2,
                len => break len,
            }
        };
        let block = &elements[done..done + len];
        found.extend(frames(block).into_iter().map(|mut frame| {
            frame.place.offset += done;
            frame.place.line += line;
            frame
        }));
        done += len;
        line += block.iter().filter(|byte| **byte == b'\n').count();
    }
    found
}

fn bits() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        " ",
        "5",
        "-2",
        "null",
        "\"jobs\": [",
        "\"errors\": []",
        "\"job_id\": 5",
        "\"time\": {}",
        "\"state\": {\"current\": \"COMPLETED\"}",
        "{\"set\": true, \"number\": 5}",
        "\u{e9}",
        "]}",
    ]);
    (any::<bool>(), prop::collection::vec(parts, 0..60)).prop_map(|(begun, parts)| {
        let begin = if begun { "{\"jobs\": [" } else { "" };
        format!("{begin}{}", parts.concat()).into_bytes()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        _ = survey(&text);
        _ = cut(&text);
        _ = frames(&text);
        _ = frames(&[b"{".as_slice(), &text].concat());
    }

    #[test]
    fn the_survey_is_the_same_in_any_pieces(text in bits(), sizes in prop::collection::vec(1_usize..90, 1..6)) {
        prop_assert_eq!(surveyed_in_pieces(&text, &sizes), survey(&text));
    }

    #[test]
    fn blocks_change_nothing_of_any_list(text in bits(), size in 1_usize..200) {
        if let Ok(document) = survey(&text) {
            let elements = document.slice(&text);
            let whole = frames(elements);
            prop_assert_eq!(whole.len() as u64, document.count);
            prop_assert_eq!(in_blocks(elements, size), whole);
        }
    }

    #[test]
    fn the_end_of_a_long_element_is_found_in_any_pieces(text in bits(), sizes in prop::collection::vec(1_usize..90, 1..6)) {
        if let Ok(document) = survey(&text) {
            let elements = document.slice(&text);
            let second = frames(elements).get(1).map(|frame| frame.place.offset);
            let (mut ending, mut at, mut found) = (Ending::default(), 0, None);
            for size in sizes.iter().cycle() {
                if at >= elements.len() {
                    break;
                }
                let piece = &elements[at..(at + size).min(elements.len())];
                if let Some(end) = ending.find(piece) {
                    found = Some(at + end);
                    break;
                }
                at += piece.len();
            }
            prop_assert_eq!(found, second);
        }
    }
}

#[test]
fn a_real_document_is_the_same_in_blocks_of_any_size() {
    for file in ["slurm/24.05/json-default-sample.json.gz", "slurm/22.05/json-default-D.json.gz"] {
        let text = fixture(file);
        let document = survey(&text).unwrap();
        let whole = frames(document.slice(&text));
        for size in [1, 1000, 4096, 20_000, 65_537, 1 << 20] {
            assert_eq!(in_blocks(document.slice(&text), size), whole, "{file} in {size}");
        }
        for sizes in [&[1][..], &[63, 64, 65], &[1 << 16]] {
            assert_eq!(surveyed_in_pieces(&text, sizes), Ok(document.clone()), "{file} in {sizes:?}");
        }
        assert!(document.complete && document.len == text.len() as u64);
        let lines = |to: u64| text[..to as usize].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(document.line, lines(document.elements.start));
    }
}

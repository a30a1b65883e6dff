//! Documents that are torn, forged at, wrong, or that speak against themselves.

use super::*;
use parsers::sacct_json::{DocumentError, survey};

#[test]
fn names_that_forge_rows_of_text_are_only_names_here() {
    let found = facts(&fixture("slurm/adversarial-22.05/same.json"));
    let rows = tsv("expected/slurm-adversarial-22.05-rows.tsv");
    assert_eq!(found.len(), rows.len());
    for row in rows {
        let run = found.iter().find(|run| run.raw_id == row["job_id"]).unwrap();
        let word = |index: usize| {
            String::from_utf8_lossy(run.words[index].as_deref().unwrap_or_default()).into_owned()
        };
        assert_eq!(
            (word(0), word(1), word(5)),
            (row["user"].clone(), row["account"].clone(), row["name"].clone())
        );
    }
}

#[test]
fn one_malformed_element_does_not_stop_the_rest() {
    for (wrong, says) in [
        ("7", "an object is expected"),
        ("\"x, ] }\"", "an object is expected"),
        ("null", "an object is expected"),
        ("[1, [2]]", "an object is expected"),
        (r#"{"job_id": "5"}"#, "expected a whole number that is not negative at line 1 column 14"),
        (r#"{"job_id": 5}"#, "time is missing"),
        ("{}", "job_id is missing"),
        (&element(5, r#""job_id": 6, "#), "duplicate field"),
        (&element(5, "").replace("\"count\": 4", "\"count\": null"), "a count is expected for cpu"),
        (&element(5, "").replace("300", "-300"), "not negative"),
        (&element(5, "").replace("\"COMPLETED\"", "5"), "invalid type"),
        (r#"{"job_id": 5,}"#, "trailing comma"),
        ("{]", ""),
        ("{} {}", "trailing characters"),
    ] {
        let text = document(&format!("{},\n{wrong},\n {}", element(1, ""), element(2, "")));
        let document = survey(&text).unwrap();
        let found = frames(document.slice(&text));
        assert_eq!(found.len(), 3, "{wrong}");
        let ids: Vec<_> = found
            .iter()
            .map(|frame| match &frame.said {
                Said::Run(facts) => facts.raw_id.clone(),
                Said::Quarantined(reason) => {
                    assert!(reason.to_string().contains(says), "{wrong}: {reason}");
                    "-".to_owned()
                }
            })
            .collect();
        assert_eq!(ids, ["1", "-", "2"], "{wrong}");
        assert_eq!(found[1].text, wrong.as_bytes());
        let before = text[..document.elements.start as usize + found[1].place.offset].iter();
        assert_eq!(
            document.line as usize + found[1].place.line,
            before.filter(|byte| **byte == b'\n').count()
        );
    }
}

#[test]
fn errors_refuse_the_document_wherever_they_stand() {
    let jobs = element(1, "");
    let error = r#""errors": [{"description": "slurmdbd is gone", "error": "Connection refused", "error_number": 111, "source": "x"}]"#;
    for text in [
        format!("{{{error}, \"jobs\": [{jobs}]}}"),
        format!("{{\"jobs\": [{jobs}], {error}}}"),
        format!(
            "{{\"meta\": {{\"errors\": []}}, \"jobs\": [{jobs}], \"x\": [{{\"jobs\": [1]}}], {error}, \"warnings\": []}}"
        ),
        format!("{{{error}, \"jobs\": [{jobs}"),
        format!("{{{error}}}"),
    ] {
        let Err(DocumentError::Errors { what }) = survey(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(what, "slurmdbd is gone (Connection refused)");
    }
    for (text, says) in [
        (fixture("slurm/24.05/rest-v0.0.41-jobs-epoch.json"), "Parsing of 1795427128 for timestamp failed"),
        (fixture("slurm/22.05/rest-v0.0.38-jobs-epoch.json"), "Unable to parse time format"),
    ] {
        assert!(survey(&text).unwrap_err().to_string().contains(says));
    }
    // In a shape that is not known it is an error all the same.
    for odd in [r#""broken""#, r#"{"description": "x"}"#, "[5]", "true"] {
        let text = format!("{{\"jobs\": [], \"errors\": {odd}}}");
        assert!(matches!(survey(text.as_bytes()), Err(DocumentError::Errors { .. })), "{odd}");
    }
    for none in ["[]", "[\n  ]", "null", "{}"] {
        let text = format!("{{\"jobs\": [], \"errors\": {none}}}");
        assert!(survey(text.as_bytes()).is_ok(), "{none}");
    }
}

#[test]
fn warnings_are_said_once_with_how_often() {
    let document = survey(&fixture("slurm/24.05/json-default-D.json.gz")).unwrap();
    assert_eq!(document.warnings, ["Unknown association with id#0. Unable to dump association. (3 times)"]);
    assert!(survey(&fixture("slurm/22.05/json-default-D.json.gz")).unwrap().warnings.is_empty());
}

#[test]
fn what_is_no_document_of_jobs_is_refused_in_words() {
    for (text, says) in [
        ("", "is not a document"),
        ("JobID|State\n1|COMPLETED\n", "begins with \"J\""),
        ("[1]", "begins with \"[\""),
        ("{}", "holds no list"),
        (r#"{"jobs": null}"#, "holds no list"),
        (r#"{"meta": {"jobs": []}, "job": []}"#, "holds no list"),
        (r#"{"jobs": [], "jobs": []}"#, "two lists"),
        (r#"{"jobs": []} {"jobs": []}"#, "behind the document"),
        (r#"{"meta": {"#, "cut off"),
        (r#"{"jobs""#, "cut off"),
        (r#"{"jobs" []}"#, "expected a colon"),
        (r#"{"jobs": [] "errors": []}"#, "expected a comma"),
        (r#"{jobs: []}"#, "expected a key"),
        (r#"{"x": , "jobs": []}"#, "expected a value"),
    ] {
        let error = survey(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_torn_document_gives_its_whole_elements_at_every_byte() {
    let whole = document(&format!("\n  {},\n  {}\n", element(1, r#""name": "a]}\"\\", "#), element(2, "")));
    let all = frames(survey(&whole).unwrap().slice(&whole));
    let list = whole.iter().position(|byte| *byte == b'[').unwrap();
    for len in 0..whole.len() {
        let text = &whole[..len];
        let document = match survey(text) {
            Ok(document) => document,
            Err(error) => {
                assert!(len <= list, "{len}: {error}");
                continue;
            }
        };
        assert!(!document.complete, "{len}");
        let found = frames(document.slice(text));
        assert_eq!(found.len() as u64, document.count);
        for (found, whole) in found.iter().zip(&all) {
            let (begin, end) = (whole.place.offset, whole.place.offset + whole.place.len);
            let there = len - document.elements.start as usize;
            assert!(there > begin);
            if there >= end {
                assert_eq!(found, whole, "{len}");
            } else {
                assert_eq!(found.said, Said::Quarantined(Reason::CutOff), "{len}");
            }
        }
    }
}

#[test]
fn a_byte_order_mark_and_odd_spacing_do_not_matter() {
    let plain = format!("{{\"jobs\":[{},{}],\"errors\":[]}}", element(1, ""), element(2, ""));
    let odd = format!(
        "\u{feff} \t\r\n{{ \"x\" : -1.5e3 , \"jobs\" :\r\n[\n\n{} \n,\n {} \n]\n, \"errors\" : [ ] }}\n\n",
        element(1, ""),
        element(2, "")
    );
    assert_eq!(facts(plain.as_bytes()), facts(odd.as_bytes()));
    assert_eq!(survey(odd.as_bytes()).unwrap().line, 4);
    assert!(facts(b"{\"jobs\": [\n  ]}").is_empty());
}

//! Values by their shape, where the fixtures do not show them.

use super::*;

fn only(text: &str) -> Facts {
    let found = facts(&document(text));
    assert_eq!(found.len(), 1);
    found.into_iter().next().unwrap()
}

#[test]
fn ids_are_put_together_as_the_text_shows_them() {
    let job = |more: &str| {
        let facts = only(&element(70, more));
        (facts.job_id, facts.raw_id)
    };
    for (more, shown) in [
        ("", "70"),
        (
            r#""array": {"job_id": 0, "task_id": {"set": false, "infinite": false, "number": 0}, "task": ""},"#,
            "70",
        ),
        (r#""array": {"job_id": 61, "task_id": 5, "task": null},"#, "61_5"),
        (r#""array": {"job_id": 61, "task_id": 0},"#, "61_0"),
        (
            r#""array": {"job_id": 61, "task_id": {"set": true, "infinite": false, "number": 5}, "task": ""},"#,
            "61_5",
        ),
        (r#""array": {"job_id": 62, "task_id": null, "task": "1-2,4-6,10-20%4"},"#, "62_[1-2,4-6,10-20%4]"),
        (r#""array": {"job_id": 62, "task_id": 4294967294, "task": "1-9:2"},"#, "62_[1-9:2]"),
        (r#""het": {"job_id": 66, "job_offset": 1},"#, "66+1"),
        (r#""het": {"job_id": 66, "job_offset": {"set": true, "infinite": false, "number": 0}},"#, "66+0"),
        (r#""het": {"job_id": 0, "job_offset": null},"#, "70"),
    ] {
        assert_eq!(job(more), (shown.to_owned(), "70".to_owned()), "{more}");
    }
}

#[test]
fn an_array_that_waits_is_a_parent() {
    let waiting = r#"{"job_id": 62, "array": {"job_id": 62, "task_id": null, "task": "1-9%2"}, "state": {"current": ["PENDING"]},
        "time": {"submission": 100, "start": 0, "end": 0, "elapsed": 0}, "tres": {"allocated": []}}"#;
    let facts = only(waiting);
    assert_eq!((facts.kind, facts.job_id.as_str(), facts.allocated), (Kind::Parent, "62_[1-9%2]", false));
    assert_eq!((facts.times, facts.counts), ([Some(100), None, None, None], [None; 5]));
}

#[test]
fn what_never_started_has_no_start_and_nothing_allocated() {
    for start in ["0", "null", "4294967294", r#"{"set": false, "infinite": false, "number": 0}"#] {
        let text = element(1, "").replace("\"start\": 200", &format!("\"start\": {start}"));
        let facts = only(&text);
        assert_eq!((facts.times[2], facts.allocated, facts.counts), (None, false, [None; 5]), "{start}");
    }
}

#[test]
fn absent_words_are_none_and_numbers_are_never_guessed() {
    let facts =
        only(&element(1, r#""user": null, "qos": "", "reservation": {"id": 0, "name": 94012345678}, "#));
    assert_eq!(facts.words, [None, Some(b"tg-abc123456".to_vec()), None, None, None, None]);
    assert_eq!(facts.counts, [None, Some(4), Some(0), None, Some(0)]);
    assert_eq!((facts.seconds[1], facts.exit), (None, [None, None]));
    let reserved = only(&element(1, r#""reservation": {"id": 3, "name": "maint"}, "#));
    assert_eq!(reserved.words[4], Some(b"maint".to_vec()));
}

#[test]
fn steps_are_passed_over_whatever_they_hold() {
    let steps = r#""steps": [{"job_id": 9, "time": {"elapsed": -1}, "tres": {"allocated": [{"type": "cpu", "count": 999}]}}, 7], "#;
    assert_eq!(only(&element(1, steps)), only(&element(1, "")));
}

#[test]
fn exit_codes_are_said_only_where_the_version_can_be_trusted() {
    for (exit, expected) in [
        (r#"{"status": "SUCCESS", "return_code": 0}"#, [None, None]),
        (
            r#"{"status": "SIGNALED", "return_code": -127, "signal": {"signal_id": 9, "name": "Killed"}}"#,
            [None, Some(9)],
        ),
        (
            r#"{"status": ["SUCCESS"], "return_code": {"set": true, "infinite": false, "number": 0}, "signal": {"id": {"set": false, "infinite": false, "number": 0}, "name": ""}}"#,
            [Some(0), Some(0)],
        ),
        (
            r#"{"status": ["ERROR"], "return_code": 137, "signal": {"id": null, "name": null}}"#,
            [Some(137), Some(0)],
        ),
        (
            r#"{"status": ["SIGNALED"], "return_code": {"set": false, "infinite": false, "number": 0}, "signal": {"id": {"set": true, "infinite": false, "number": 11}}}"#,
            [Some(0), Some(11)],
        ),
    ] {
        assert_eq!(only(&element(1, &format!("\"exit_code\": {exit}, "))).exit, expected, "{exit}");
    }
}

#[test]
fn an_unknown_state_is_found_and_shown() {
    let facts = only(&element(1, "").replace("[\"COMPLETED\"]", "[\"COMPLETED\", \"ASCENDED\"]"));
    assert_eq!(
        (facts.state, facts.state_text.as_str(), facts.finding),
        (State::Unknown, "ASCENDED", Some(Finding::UnknownState))
    );
}

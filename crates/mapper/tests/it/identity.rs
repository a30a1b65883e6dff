//! Keys and ids: one run, one key, for ever.

use crate::support::*;
use mapper::spec::*;
use mapper::{Mapper, Outcome, RunKey, SourceRules};
use parsers::{Run, Scheduler};
use proptest::prelude::*;
use std::collections::HashMap;

#[test]
fn keys_by_hand() {
    for (run, expected) in [
        (run(), "slurm/testhpc/0000000123/1795427125"),
        (Run { raw_id: "67108865".into(), ..run() }, "slurm/testhpc/0067108865/1795427125"),
        (Run { cluster: name("a/b c%"), ..run() }, "slurm/a%2Fb%20c%25/0000000123/1795427125"),
        (Run { cluster: None, ..run() }, "slurm/%/0000000123/1795427125"),
        (Run { submit: None, ..run() }, "slurm/testhpc/0000000123/%"),
        (pbs_run(), "pbs/pbssrv/0000000091/1795427125/1"),
        (Run { run_count: Some(12), ..pbs_run() }, "pbs/pbssrv/0000000091/1795427125/12"),
        (Run { run_count: None, ..pbs_run() }, "pbs/pbssrv/0000000091/1795427125/s1795428000"),
        (
            Run { job_id: "91[4].pbssrv.example.org".into(), ..pbs_run() },
            "pbs/pbssrv/0000000091[0000004]/1795427125/1",
        ),
        (Run { job_id: "123-4.server".into(), ..pbs_run() }, "pbs/pbssrv/0000000123-4/1795427125/1"),
        (Run { job_id: "R87.pbssrv".into(), ..pbs_run() }, "pbs/pbssrv/R87/1795427125/1"),
    ] {
        assert_eq!(RunKey::of(&run, None).as_str(), expected);
    }
    assert_eq!(
        RunKey::of(&Run { cluster: None, ..run() }, Some("other".into())).as_str(),
        "slurm/other/0000000123/1795427125"
    );
}

#[test]
fn the_key_is_the_same_however_it_is_asked_for() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours")])]));
    let source =
        SourceRules::compile(SourceSpec { cluster: Some("fallback".to_owned()), ..source_spec() }).unwrap();
    let mut mapper = Mapper::new(&rules, &source);
    for run in [run(), pbs_run(), Run { cluster: None, ..run() }, Run { cluster: name(""), ..run() }] {
        let key = mapper.key(&run);
        assert_eq!(key, RunKey::of(&run, Some("fallback".into())));
        let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
        assert_eq!(mapped.key, key);
        assert_eq!(mapped.record.local_reference.as_deref(), Some(key.as_str()));
    }
}

#[test]
fn ids_on_the_wire() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours")])]));
    let slurm = |job, raw| Run { job_id: job, raw_id: raw, ..run() };
    let pbs = |count| Run { run_count: count, ..pbs_run() };
    for (template, run, expected) in [
        (None, slurm("61_5".into(), "66".into()), "61_5"),
        (None, slurm("66+1".into(), "67".into()), "66+1"),
        (Some("{raw_id}"), slurm("61_5".into(), "66".into()), "66"),
        (Some("{cluster}.{job_id}"), slurm("61_5".into(), "66".into()), "testhpc.61_5"),
        // A requeued run of Slurm differs in its submit time already.
        (None, Run { run_count: Some(2), ..slurm("5".into(), "5".into()) }, "5"),
        (None, pbs(None), "91.pbssrv"),
        (None, pbs(Some(0)), "91.pbssrv"),
        (None, pbs(Some(1)), "91.pbssrv"),
        (None, pbs(Some(3)), "91.pbssrv.r3"),
        (Some("{job_id}"), pbs(Some(3)), "91.pbssrv.r3"),
        (Some("x/{raw_id}"), pbs(Some(2)), "x/91.pbssrv.r2"),
        (
            Some("{partition}-{user}-{raw_id}-{submit}-{start}"),
            slurm("5".into(), "5".into()),
            "cpu-alice-5-1795427125-1795428000",
        ),
    ] {
        let source = SourceRules::compile(SourceSpec {
            local_record_id: template.map(str::to_owned),
            ..source_spec()
        })
        .unwrap();
        let mut mapper = Mapper::new(&rules, &source);
        let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped: {expected}") };
        assert_eq!(mapped.record.local_record_id, expected);
    }
}

/// A part names its whole only where the source says how; what is no part names none.
#[test]
fn parents_on_the_wire() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours")])]));
    let slurm = |job| Run { job_id: job, ..run() };
    let pbs = |job| Run { job_id: job, ..pbs_run() };
    for (template, run, expected) in [
        (None, slurm("61_5".into()), None),
        (Some("{parent}"), slurm("61_5".into()), Some("61")),
        (Some("{parent}"), slurm("66+1".into()), Some("66")),
        (Some("{cluster}.{parent}"), slurm("66+0".into()), Some("testhpc.66")),
        (Some("{parent}"), slurm("61".into()), None),
        (Some("{parent}"), slurm("61_".into()), None),
        (Some("{parent}"), slurm("61_[5-7]".into()), None),
        (Some("{parent}"), pbs("91[4].pbssrv".into()), Some("91[].pbssrv")),
        (Some("{parent}"), pbs("91[4]".into()), Some("91[]")),
        (Some("{parent}"), pbs("91[].pbssrv".into()), None),
        (Some("{parent}"), pbs("91.pbssrv".into()), None),
        (Some("{parent}"), pbs("61_5".into()), None),
    ] {
        let source = SourceRules::compile(SourceSpec {
            parent_record_id: template.map(str::to_owned),
            ..source_spec()
        })
        .unwrap();
        let mut mapper = Mapper::new(&rules, &source);
        let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped: {expected:?}") };
        assert_eq!(mapped.record.parent_record_id.as_deref(), expected, "{}", run.job_id);
    }
    // A parent that cannot be sent holds its part, as its own id would.
    let source = SourceRules::compile(SourceSpec {
        parent_record_id: Some(format!("{}{{parent}}", "x".repeat(254))),
        ..source_spec()
    })
    .unwrap();
    assert_eq!(outcome(&rules, &source, &slurm("61_5".into())), "held identity");
    assert_eq!(outcome(&rules, &source, &slurm("6_5".into())), "mapped 1");
    // A template that needs what the run does not have.
    let by_partition = SourceRules::compile(SourceSpec {
        local_record_id: Some("{partition}.{job_id}".to_owned()),
        ..source_spec()
    })
    .unwrap();
    assert_eq!(outcome(&rules, &by_partition, &Run { partition: None, ..run() }), "held identity");
}

#[test]
fn what_cannot_be_sent_is_held() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours")])]));
    let long = "x".repeat(256);
    let long: &'static str = long.leak();
    let bytes = |bytes: &'static [u8]| Some(bstr::BStr::new(bytes));
    for (what, run) in [
        ("user", Run { user: name("a\nb"), ..run() }),
        ("user not UTF-8", Run { user: bytes(b"a\xff"), ..run() }),
        ("long user", Run { user: name(long), ..run() }),
        ("project", Run { account: name("a\tb"), ..run() }),
        ("project not UTF-8", Run { account: bytes(b"\xe9tude"), ..run() }),
        ("long project", Run { account: name(long), ..run() }),
        ("id", Run { job_id: "1\x1b[2J".into(), ..run() }),
        ("id not UTF-8", Run { job_id: b"1\xff"[..].into(), ..run() }),
        ("no id", Run { job_id: "".into(), ..run() }),
        ("long key", Run { cluster: name(long), ..run() }),
        ("queue", Run { partition: name("q\r"), ..run() }),
        ("no cluster", Run { cluster: None, ..run() }),
    ] {
        assert_eq!(outcome(&rules, &source(), &run), "held identity", "{what}");
    }
    // 255 characters fit, however many bytes they are.
    let fits: &'static str = "é".repeat(255).leak();
    assert_eq!(outcome(&rules, &source(), &Run { user: name(fits), ..run() }), "mapped 1");
    // A queue that is no UTF-8 is only an attribute.
    assert_eq!(outcome(&rules, &source(), &Run { partition: bytes(b"q\xff"), ..run() }), "mapped 1");
}

#[test]
fn job_names_are_sent_only_where_configured_and_never_hold_a_run() {
    let rules = compile(spec(vec![resource(vec![rate("core_hours")])]));
    let source = SourceRules::compile(SourceSpec { send_job_name: true, ..source_spec() }).unwrap();
    let long: &'static str = "n".repeat(300).leak();
    for (job, expected) in [
        (name("relax"), Some("relax".to_owned())),
        (name("a\nb\x1b"), Some("a\u{fffd}b\u{fffd}".to_owned())),
        (Some(bstr::BStr::new(&b"a\xff"[..])), Some("a\u{fffd}".to_owned())),
        (name(long), Some("n".repeat(255))),
        (name(""), None),
        (None, None),
    ] {
        let run = Run { name: job, ..run() };
        let mut mapper = Mapper::new(&rules, &source);
        let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
        assert_eq!(mapped.record.attributes.job_name.as_deref(), expected.as_deref());
    }
    let plain = crate::support::source();
    let run = run();
    let mut mapper = Mapper::new(&rules, &plain);
    let Outcome::Mapped(mapped) = mapper.map(&run) else { panic!("mapped") };
    assert_eq!(mapped.record.attributes.job_name, None);
}

proptest! {
    /// Different runs have different keys, whatever is in their names.
    #[test]
    fn keys_are_unambiguous(
        runs in prop::collection::vec(
            (any::<bool>(), "[a/%.b]{0,3}", "[1-9][0-9]{0,2}(\\[[1-9]{0,2}\\]|_[1-9]|\\+1|/|%)?", 0_i64..3, prop::option::of(1_u32..3), 0_i64..2),
            2..40,
        ),
    ) {
        let mut seen = HashMap::new();
        for values in &runs {
            let (slurm, cluster, id, submit, count, start) = values;
            let run = Run {
                scheduler: if *slurm { Scheduler::Slurm } else { Scheduler::Pbs },
                cluster: Some(cluster.as_str().into()),
                job_id: id.as_str().into(),
                raw_id: id.as_str().into(),
                submit: Some(*submit),
                run_count: *count,
                start: Some(*start),
                ..run()
            };
            // What tells runs apart: Slurm's have no count, and PBS's start matters only without one.
            let told = match (*slurm, count) {
                (true, _) => (None, None),
                (false, Some(count)) => (Some(*count), None),
                (false, None) => (None, Some(*start)),
            };
            let identity = (slurm, cluster, id, submit, told);
            let key = RunKey::of(&run, None);
            prop_assert!(key.as_str().chars().all(|c| c.is_ascii_alphanumeric() || "._+-%/[]".contains(c)));
            if let Some(other) = seen.insert(key.clone(), identity) {
                prop_assert_eq!(other, identity, "{}", key);
            }
        }
    }
}

//! What is supported: a table of claims, each with the sample, the expectation and the tests that make it one. `docs/support.md` is
//! written from it, and nothing else may claim support: `AMIE_BLESS=1 cargo test -p parsers support` writes the page, every other
//! run compares it.

use super::sacct::{fixture, header};
use parsers::quota;
use parsers::sacct::{Framing, HeaderError, Layout, Options};
use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Something that is read, and what shows that it is read rightly. Tests are named by their path in this test binary.
struct Claim {
    scheduler: &'static str,
    versions: &'static str,
    form: &'static str,
    /// Real input, under `fixtures/`.
    samples: &'static [&'static str],
    /// What is true of it, written by something else than this project's Rust code, under `fixtures/expected/`.
    expectations: &'static [&'static str],
    totals: &'static [&'static str],
    traps: &'static [&'static str],
    torn: &'static [&'static str],
    /// None where a file is read whole.
    blocks: &'static [&'static str],
    guide: &'static str,
}

const CLAIMS: [Claim; 7] = [
    Claim {
        scheduler: "Slurm",
        versions: "22.05, 24.05",
        form: "`sacct -P`, epoch times (`SLURM_TIME_FORMAT=%s`)",
        samples: &[
            "slurm/22.05/P-D-X-usual-epoch.txt",
            "slurm/24.05/P-D-X-usual-epoch.txt",
            "slurm/22.05/P-D-X-usual-epoch-utc.txt.gz",
        ],
        expectations: &[
            "slurm-22.05-runs.tsv",
            "slurm-24.05-runs.tsv",
            "slurm-22.05-totals.json",
            "slurm-24.05-totals.json",
        ],
        totals: &[
            "sacct::table::every_number_is_the_job_tables_in_epoch_times",
            "sacct::table::sums_are_the_job_tables",
            "sacct::table::the_demo_reads_to_the_runs_of_its_table",
        ],
        traps: &[
            "sacct::traps::runs_of_a_requeued_job_are_different_runs_and_all_are_read",
            "sacct::traps::nothing_allocated_is_no_core_although_alloc_cpus_says_one",
            "sacct::traps::billing_that_is_not_printed_is_zero_and_gpus_are_not_added_twice",
            "sacct::traps::elapsed_is_taken_as_it_stands_without_suspension",
            "sacct::traps::array_tasks_and_het_components_are_runs_with_their_own_raw_ids",
            "sacct::traps::a_pending_array_is_a_parent_unless_it_ran",
            "sacct::traps::memory_for_people_is_the_same_memory",
            "sacct::table::honest_rows_are_not_doubted",
            "sacct::table::steps_are_never_counted",
        ],
        torn: &["torn::sacct_in_epoch_times_is_true_wherever_it_is_cut"],
        blocks: &[
            "sacct::torn::blocks_of_any_size_give_the_frames_of_the_whole",
            "sacct::properties::any_text_is_conserved_and_cut_into_blocks_gives_the_same_frames",
        ],
        guide: "slurm.md",
    },
    Claim {
        scheduler: "Slurm",
        versions: "22.05, 24.05",
        form: "`sacct -P`, local times without offset, the zone configured",
        samples: &[
            "slurm/22.05/P-D-X-usual.txt",
            "slurm/24.05/P-D-X-usual.txt",
            "slurm/22.05/P-dst-back.txt",
        ],
        expectations: &["slurm-22.05-runs.tsv", "slurm-24.05-runs.tsv"],
        totals: &["sacct::table::every_number_is_the_job_tables_in_local_times"],
        traps: &[
            "sacct::times::local_times_of_a_zone_are_the_epoch_times_of_the_table",
            "sacct::times::elapsed_tells_the_two_hours_of_the_night_when_the_clock_goes_back",
            "sacct::times::an_ambiguous_submit_alone_is_the_earlier_one_and_is_found",
            "sacct::times::a_time_that_the_clock_jumped_over_is_set_aside_by_its_column",
            "sacct::times::offsets_are_obeyed_and_22_05_loses_them",
            "sacct::times::relative_times_are_refused_row_by_row",
        ],
        torn: &["torn::sacct_in_local_times_is_true_wherever_it_is_cut"],
        blocks: &["sacct::torn::blocks_of_any_size_give_the_frames_of_the_whole"],
        guide: "slurm.md",
    },
    Claim {
        scheduler: "Slurm",
        versions: "22.05",
        form: "`sacct -p --delimiter=NONCE`, rows counted out by their delimiters",
        samples: &["slurm/adversarial-22.05/nonce.bin", "slurm/adversarial-22.05/same.json"],
        expectations: &["slurm-adversarial-22.05-rows.tsv"],
        totals: &["sacct::hostile::a_delimiter_that_nobody_knew_gives_every_name_byte_for_byte"],
        traps: &[
            "sacct::hostile::a_lost_delimiter_shifts_counted_rows_into_quarantine_and_never_into_a_run",
            "sacct::hostile::of_the_real_hostile_rows_by_lines_one_cannot_be_told_and_the_text_says_that_it_can_be_forged",
            "sacct::traps::lower_case_p_ends_rows_with_the_delimiter",
        ],
        torn: &["torn::counted_sacct_is_true_wherever_it_is_cut"],
        blocks: &[
            "sacct::hostile::counted_rows_are_cut_between_rows_at_every_byte",
            "sacct::properties::any_text_is_conserved_and_cut_into_blocks_gives_the_same_frames",
        ],
        guide: "slurm.md",
    },
    Claim {
        scheduler: "Slurm",
        versions: "22.05, 24.05",
        form: "`sacct --json -D`, data parsers of 22.05 and v0.0.39 to v0.0.41",
        samples: &[
            "slurm/22.05/json-default-D.json.gz",
            "slurm/24.05/json-default-D.json.gz",
            "slurm/24.05/rest-v0.0.41-jobs.json.gz",
        ],
        expectations: &["slurm-22.05-runs.tsv", "slurm-24.05-runs.tsv"],
        totals: &[
            "sacct_json::table::every_number_is_the_job_tables",
            "sacct_json::table::all_is_as_the_text_of_the_same_cluster_says",
        ],
        traps: &[
            "sacct_json::table::requeued_and_resized_runs_are_ends_with_their_own_usage",
            "sacct_json::table::the_shapes_of_one_cluster_say_the_same",
            "sacct_json::shapes::what_never_started_has_no_start_and_nothing_allocated",
            "sacct_json::shapes::ids_are_put_together_as_the_text_shows_them",
            "sacct_json::shapes::exit_codes_are_said_only_where_the_version_can_be_trusted",
            "sacct_json::hostile::names_that_forge_rows_of_text_are_only_names_here",
            "sacct_json::hostile::errors_refuse_the_document_wherever_they_stand",
        ],
        torn: &["sacct_json::hostile::a_torn_document_gives_its_whole_elements_at_every_byte"],
        blocks: &["sacct_json::properties::a_real_document_is_the_same_in_blocks_of_any_size"],
        guide: "slurm.md",
    },
    Claim {
        scheduler: "OpenPBS",
        versions: "23.06.06",
        form: "accounting log, `server_priv/accounting/YYYYMMDD`",
        samples: &["pbs/openpbs/20261031", "pbs/openpbs/20261101", "pbs/openpbs/20261123"],
        expectations: &["pbs-jobs.tsv", "pbs-openpbs-runs.tsv", "pbs-openpbs-totals.json"],
        totals: &[
            "pbs::labelled::every_labelled_job_used_what_was_worked_out",
            "pbs::labelled::jobs_without_an_end_are_those_of_the_table",
            "pbs::expected::every_e_and_r_record_is_read_as_expected",
            "pbs::expected::the_sums_are_those_of_the_independent_reader",
            "pbs::expected::every_record_is_a_frame_and_the_letters_are_counted",
        ],
        traps: &[
            "pbs::folds::the_time_of_an_e_after_releases_is_the_rest_and_its_nodes_are_those_of_the_start",
            "pbs::folds::what_a_u_says_was_used_may_be_nothing_though_time_had_passed",
            "pbs::folds::a_server_that_was_killed_forgets_what_it_subtracted",
            "pbs::folds::later_runs_of_a_job_that_released_nodes_are_charged_from_start_to_end",
            "pbs::folds::nodes_released_when_files_are_staged_out_are_released_to_the_end",
            "pbs::folds::every_run_of_a_job_is_one",
            "pbs::folds::usage_that_the_execution_host_took_with_it_is_zero",
            "pbs::folds::a_second_start_without_an_end_between_is_a_restart_of_the_server",
            "pbs::folds::suspension_is_told_and_explains_a_short_walltime",
            "pbs::folds::files_staged_out_for_long_are_no_reason_to_doubt",
            "pbs::folds::a_start_of_zero_is_no_start",
            "pbs::folds::a_deletion_does_not_end_a_run",
            "pbs::folds::a_checkpoint_moves_the_start_and_what_was_used_before_it_is_in_no_record",
            "pbs::folds::exclusive_placement_takes_more_than_it_gives",
            "pbs::folds::the_hour_that_comes_twice_is_told_by_the_records_around",
            "pbs::folds::a_run_may_end_in_the_next_file_and_its_zone_needs_no_configuration",
            "pbs::folds::an_id_that_is_given_again_is_another_job",
            "pbs::folds::without_its_start_a_walltime_below_the_span_is_held",
            "pbs::folds::a_record_that_comes_again_is_no_run",
            "pbs::traps::reruns_are_runs_of_their_own",
            "pbs::traps::an_array_as_a_whole_is_a_parent_and_holds_no_allocation",
            "pbs::traps::a_chunk_split_over_vnodes_counts_its_cores_though_exec_host_says_0",
            "pbs::traps::a_job_that_never_started_was_given_nothing",
            "pbs::traps::a_newline_in_an_account_does_not_end_the_record",
            "pbs::traps::keys_injected_through_an_account_are_text",
            "pbs::traps::suspension_is_not_in_the_walltime",
            "pbs::traps::reservations_are_noted",
            "pbs::forged::hostile_text_never_changes_a_run",
            "pbs::forged::of_two_records_on_one_line_the_second_counts_where_no_user_can_have_written_it",
        ],
        torn: &[
            "torn::a_log_that_grows_is_folded_as_the_whole",
            "torn::openpbs_logs_are_true_wherever_they_are_cut",
            "pbs::blocks::a_torn_file_shows_no_run_that_was_not_there",
        ],
        blocks: &[
            "pbs::blocks::blocks_of_any_size_give_what_one_block_gives",
            "pbs::blocks::any_split_of_any_scrap_is_as_one_block",
            "pbs::simulated::every_run_used_what_it_was_seen_to_use",
        ],
        guide: "pbs.md",
    },
    Claim {
        scheduler: "TORQUE",
        versions: "6.1.3",
        form: "accounting log, `server_priv/accounting/YYYYMMDD`",
        samples: &["pbs/torque/20261123"],
        expectations: &["pbs-jobs-torque.tsv", "pbs-torque-runs.tsv", "pbs-torque-totals.json"],
        totals: &[
            "pbs::labelled::every_labelled_job_used_what_was_worked_out",
            "pbs::labelled::jobs_without_an_end_are_those_of_the_table",
            "pbs::expected::every_e_and_r_record_is_read_as_expected",
            "pbs::expected::the_sums_are_those_of_the_independent_reader",
        ],
        traps: &[
            "pbs::folds::torques_empty_rerun_is_usage_that_no_record_has",
            "pbs::traps::an_empty_rerun_of_torque_is_noted_and_the_next_run_counts_on",
            "pbs::traps::torque_job_names_hold_equals_signs_and_semicolons",
            "pbs::traps::torque_slots_are_ranges_lists_and_repetitions",
            "pbs::traps::torque_gpus_are_in_the_nodes_request",
            "pbs::traps::torque_cput_in_bare_seconds_stands_beside_a_walltime",
            "pbs::traps::walltime_limits_are_other_codes_in_torque_and_in_pbs_pro",
            "pbs::forged::hostile_text_never_changes_a_run_of_torque",
        ],
        torn: &[
            "torn::torque_logs_are_true_wherever_they_are_cut",
            "torn::a_log_that_grows_is_folded_as_the_whole",
        ],
        blocks: &["pbs::blocks::any_split_of_any_scrap_is_as_one_block"],
        guide: "pbs.md",
    },
    Claim {
        scheduler: "quota-tools",
        versions: "4.06 (ext4, XFS)",
        form: "`repquota -p -n -O csv`, one file system and one of `-u`, `-g`, `-P`",
        samples: &[
            "demo/quota/scratch-2026-11-23.csv",
            "quota/ext4-repquota-csv-p-n.out",
            "quota/xfs-repquota-p-n-csv.out",
        ],
        expectations: &["quota-readings.tsv"],
        totals: &["quota::every_row_is_read_as_expected"],
        traps: &[
            "quota::joined_reports_of_real_commands_are_refused",
            "quota::a_user_whose_name_is_a_number_is_not_an_id",
        ],
        torn: &["quota::a_report_cut_at_any_byte_gives_no_other_number"],
        blocks: &[],
        guide: "quota.md",
    },
];

/// What is refused, by a message of this crate: made by refusing it.
fn refused_here() -> Vec<(&'static str, String)> {
    let sacct = |path: &str, delimiter: &[u8], framing| {
        let text = fixture(path);
        let options = Options { delimiter: delimiter.to_vec(), framing, ..Options::default() };
        let refused: HeaderError = Layout::from_header(header(&text), &options).expect_err(path);
        refused.to_string()
    };
    let report = |path: &str| {
        let text = fixture(path);
        let refused =
            quota::read(quota::Format::RepquotaCsv, &text, &mut |_| panic!("{path}")).expect_err(path);
        refused.to_string()
    };
    let format = |name: &str| name.parse::<quota::Format>().expect_err(name).to_string();
    let lines = Framing::Lines;
    vec![
        ("`sacct` without `-P` or `-p` (fixed width)", sacct("slurm/24.05/fixed-default.txt", b"|", lines)),
        ("`sacct --delimiter=,` with AllocTRES", sacct("slurm/24.05/P-delim-comma.txt", b",", lines)),
        ("another delimiter than the one configured", sacct("slurm/24.05/P-delim-multi.txt", b"|", lines)),
        ("`sacct -P` read as counted rows", sacct("slurm/24.05/P-D-X-usual.txt", b"|", Framing::Counted)),
        ("columns without which nothing can be charged", sacct("slurm/24.05/P-state-cd.txt", b"|", lines)),
        ("a file that is no `sacct` text", sacct("pbs/openpbs/20261101", b"|", lines)),
        ("`repquota -s`", report("quota/ext4-repquota-csv-s.out")),
        ("several quota reports in one", report("quota/ext4-repquota-csv.out")),
        ("a quota report without rows", empty_report()),
        ("Lustre: `lfs quota`", format("lfs-quota")),
        ("IBM Storage Scale: `mmrepquota`", format("mmrepquota")),
        ("XFS: `xfs_quota -c report`", format("xfs-quota")),
    ]
}

fn empty_report() -> String {
    quota::read(quota::Format::RepquotaCsv, b"", &mut |_| panic!("nothing is there"))
        .expect_err("no row")
        .to_string()
}

/// What is refused by a message of another part: where that stands, and its text.
const REFUSED_ELSEWHERE: [(&str, &str, &str); 3] = [
    ("files compressed with xz", "crates/runner/src/input/open.rs", "compression(\"xz\")"),
    ("files compressed with bzip2", "crates/runner/src/input/open.rs", "compression(\"bzip2\")"),
    ("zip archives", "crates/runner/src/input/open.rs", "compression(\"zip\")"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The paths that the manifest of the fixtures lists.
fn manifest() -> HashSet<String> {
    let text = source(&root().join("fixtures/MANIFEST.tsv"));
    text.lines().skip(1).filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}

/// `a::b::name` is `fn name` in tests/it/a/b.rs (or a.rs), with `#[test]` in front of it or inside `proptest!`.
fn is_test(name: &str) -> bool {
    let (module, function) = name.rsplit_once("::").expect("module::function");
    let file = root().join("crates/parsers/tests/it").join(module.replace("::", "/")).with_extension("rs");
    let text = source(&file);
    let Some(at) = text.find(&format!("fn {function}(")) else { return false };
    let before = text[..at].trim_end();
    before.ends_with("#[test]")
}

fn links(page: &mut String, paths: &[&str], folder: &str) {
    let links: Vec<_> = paths.iter().map(|path| format!("[`{path}`](../fixtures/{folder}{path})")).collect();
    page.push_str(&links.join("<br>"));
}

/// The page.
fn page() -> String {
    let mut page = String::from(
        "<!-- Written by `AMIE_BLESS=1 cargo test -p parsers support` from crates/parsers/tests/it/support.rs. Do not edit. -->\n\
         # What is supported\n\n\
         Supported means: a real sample, totals from something that is not this program, a test for each trap of the format that\n\
         is known to matter, the file cut everywhere, and a page for its users. This page is written from the tests that hold it.\n\n\
         | source | versions | form | guide |\n| --- | --- | --- | --- |\n",
    );
    for (number, claim) in CLAIMS.iter().enumerate() {
        let Claim { scheduler, versions, form, guide, .. } = claim;
        let _ =
            writeln!(page, "| [{scheduler}](#{}) | {versions} | {form} | [{guide}]({guide}) |", number + 1);
    }
    page.push_str(
        "\nFiles may be plain, gzip or zstd. Files of other versions of these programs are read by the same rules, but no totals of\n\
         them were compared with anything; differences that are known stand in the guides.\n",
    );
    for (number, claim) in CLAIMS.iter().enumerate() {
        let _ = write!(
            page,
            "\n## <a name=\"{}\"></a>{} {}: {}\n\n| | |\n| --- | --- |\n| samples | ",
            number + 1,
            claim.scheduler,
            claim.versions,
            claim.form
        );
        links(&mut page, claim.samples, "");
        page.push_str(" |\n| expected | ");
        links(&mut page, claim.expectations, "expected/");
        page.push_str(" |\n");
        for (what, tests) in [
            ("totals", claim.totals),
            ("traps", claim.traps),
            ("torn files", claim.torn),
            ("blocks", claim.blocks),
        ] {
            let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
            let tests =
                if tests.is_empty() { "none: it is read whole".to_owned() } else { tests.join("<br>") };
            let _ = writeln!(page, "| {what} | {tests} |");
        }
    }
    page.push_str("\n## Everything else is refused by name\n\n| what | the message |\n| --- | --- |\n");
    for (what, message) in refused_here() {
        let _ = writeln!(page, "| {what} | {} |", message.replace('|', "\\|"));
    }
    for (what, _, message) in REFUSED_ELSEWHERE {
        let message = match message.strip_prefix("compression(\"").and_then(|rest| rest.strip_suffix("\")")) {
            Some(format) => compressed(format),
            None => message.to_owned(),
        };
        let _ = writeln!(page, "| {what} | {message} |");
    }
    page
}

/// The sentence of `InputError::Compression`.
fn compressed(format: &str) -> String {
    format!(
        "is compressed with {format}, which this version does not read; decompress it, or use gzip or zstd"
    )
}

#[test]
fn every_claim_has_its_samples_its_expectations_its_tests_and_its_guide() {
    let (listed, root) = (manifest(), root());
    for claim in &CLAIMS {
        let what = format!("{} {}", claim.scheduler, claim.form);
        let expectations = claim.expectations.iter().map(|name| format!("expected/{name}"));
        for path in claim.samples.iter().map(|path| (*path).to_owned()).chain(expectations) {
            assert!(root.join("fixtures").join(&path).is_file(), "{what}: {path}");
            assert!(listed.contains(&path), "{what}: {path} is not in MANIFEST.tsv");
        }
        for tests in [claim.totals, claim.traps, claim.torn] {
            assert!(!tests.is_empty(), "{what}");
        }
        for test in [claim.totals, claim.traps, claim.torn, claim.blocks].concat() {
            assert!(is_test(test), "{what}: no test {test}");
        }
        assert!(root.join("docs").join(claim.guide).is_file(), "{what}: {}", claim.guide);
    }
    assert!(!is_test("support::page"), "a function that is no test is told from one");
}

/// The columns that the guide recommends: enough to charge by, and none of them is text that users write.
#[test]
fn the_columns_of_the_guide_are_enough_and_cannot_be_forged() {
    let guide = source(&root().join("docs/slurm.md"));
    let (_, columns) = guide.split_once("--format=").expect("a command");
    let header = columns.lines().next().unwrap().replace(',', "|");
    let layout = Layout::from_header(header.as_bytes(), &Options::default()).unwrap();
    assert!(layout.columns().len() > 15 && !layout.is_forgeable() && layout.unknown_columns().is_empty());
}

#[test]
fn refusals_of_other_parts_are_what_they_say() {
    let sentence =
        "is compressed with {format}, which this version does not read; decompress it, or use gzip or zstd";
    assert_eq!(compressed("{format}"), sentence);
    assert!(source(&root().join("crates/runner/src/input/mod.rs")).contains(sentence));
    for (what, path, text) in REFUSED_ELSEWHERE {
        assert!(source(&root().join(path)).contains(text), "{what}: {path} does not say \"{text}\"");
    }
}

#[test]
fn the_page_of_what_is_supported_is_written_from_these_claims() {
    let (path, expected) = (root().join("docs/support.md"), page());
    if std::env::var_os("AMIE_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(
        source(&path) == expected,
        "docs/support.md is not what the claims say: run AMIE_BLESS=1 cargo test -p parsers support"
    );
}

//! PBS logs: every labelled job is charged what was worked out by hand and by a script from what was submitted and done.

use crate::support::{Said, Service, Site, fixtures, run};
use amie_usage::Decimal;
use runner::pipeline::format::Format;
use runner::pipeline::parsing::{ParseWork, Parsed};
use runner::pipeline::{self, Emitted};
use runner::tally::Tally;
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use usage_sandbox::Settings;

/// A server with its logs and what is expected of them.
struct Server {
    logs: &'static [&'static str],
    expected: &'static str,
}

const SERVERS: [Server; 2] = [
    Server {
        logs: &["pbs/openpbs/20261031", "pbs/openpbs/20261101", "pbs/openpbs/20261123"],
        expected: "pbs-jobs.tsv",
    },
    Server { logs: &["pbs/torque/20261123"], expected: "pbs-jobs-torque.tsv" },
];

impl Server {
    fn files(&self) -> Vec<PathBuf> {
        self.logs.iter().map(|log| fixtures().join(log)).collect()
    }

    /// The rows of the table: column -> cell.
    fn rows(&self) -> Vec<BTreeMap<String, String>> {
        let text = std::fs::read_to_string(fixtures().join("expected").join(self.expected)).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
        let cells = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<_> = lines
            .map(|line| header.iter().map(|name| (*name).to_owned()).zip(cells(line)).collect())
            .collect();
        assert!(rows.len() > 30);
        rows
    }

    /// Those of runs that are charged.
    fn charged(&self) -> Vec<BTreeMap<String, String>> {
        self.rows().into_iter().filter(|row| row["decision"] == "charged").collect()
    }
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// File name and line: every record has its own.
fn place(file: &str, line: &str) -> (String, String) {
    (Path::new(file).file_name().unwrap().to_str().unwrap().to_owned(), line.to_owned())
}

#[test]
fn every_labelled_job_used_what_was_submitted_and_done() {
    for server in SERVERS {
        let files: Vec<String> =
            server.files().iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        let mut arguments = vec!["parse", "--format", "pbs", "--timezone", "America/Denver"];
        arguments.extend(files.iter().map(String::as_str));
        let said = run(&std::env::temp_dir(), &arguments);
        assert_eq!(said.status, 0, "{}", said.stderr);
        let mut found: BTreeMap<_, _> = json(&said.stdout)
            .into_iter()
            .filter(|run| run["kind"] == "run")
            .map(|run| (place(run["file"].as_str().unwrap(), &run["line"].to_string()), run))
            .collect();
        for row in server.charged() {
            let run = found.remove(&place(&row["file"], &row["line"])).expect(&row["id"]);
            let at = format!("{} {}", row["id"], row["run"]);
            let number = |name: &str| match &run[name] {
                Value::Null => String::new(),
                value => value.to_string(),
            };
            assert_eq!(run["job_id"], row["id"].as_str(), "{at}");
            assert_eq!(format!("{}/{}", run["run_count"], run["start"]), row["run"], "{at}");
            for name in
                ["start", "end", "cores", "nodes", "gpus", "mem_bytes", "elapsed", "exit_code", "signal"]
            {
                assert_eq!(number(name), row[name], "{at}: {name}");
            }
            let suspended = number("suspended");
            assert_eq!(if suspended.is_empty() { "0" } else { &suspended }, row["suspended"], "{at}");
            let phases: Vec<String> = run["phases"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|phase| {
                    let cell = |name: &str| match &phase[name] {
                        Value::Null => String::new(),
                        value => value.to_string(),
                    };
                    ["seconds", "cores", "nodes", "gpus", "mem_bytes"].map(cell).join(",")
                })
                .collect();
            assert_eq!(phases.join(";"), row["phases"], "{at}");
            assert!(run["finding"].is_null(), "{at}: {run}");
        }
        // What is left never started, as the table says.
        for run in found.values() {
            let id = run["job_id"].as_str().unwrap();
            let row = server.rows().into_iter().find(|row| row["id"] == id).unwrap();
            assert_eq!(row["decision"], "no-record: never started", "{run}");
            assert!(run["start"].is_null(), "{run}");
        }
        assert!(found.len() < 2, "{found:?}");
    }
}

/// A site that charges everything that it finds in `logs/` by one formula.
fn site(charge: &str, project_from: &str) -> Site {
    let site = Site::new();
    let config = format!(
        "[site]\nname = \"TestSite\"\ntimezone = \"UTC\"\n\
         [api]\nurl = \"https://usage.example.org/api\"\nkey_file = \"api-key\"\n\
         [ledger]\nurl = \"sqlite:ledger.db\"\n\
         [projects]\nmatch = [{{ account = '.*', project = \"$0\" }}]\n\
         [[source]]\nname = \"pbs\"\nkind = \"pbs\"\ntimezone = \"America/Denver\"\npaths = [\"logs/*\"]\nproject_from = [\"{project_from}\"]\n\
         [[resource]]\nname = \"pbs.example.org\"\n[[resource.rate]]\nfrom = 2020-01-01\ncharge = \"{charge}\"\n"
    );
    site.write("config.toml", &config);
    std::fs::create_dir(site.path("logs")).unwrap();
    site
}

impl Site {
    fn put_logs(&self, server: &Server) {
        for file in server.files() {
            let to = self.path("logs").join(file.file_name().unwrap());
            std::fs::write(to, std::fs::read(&file).unwrap()).unwrap();
        }
    }
}

#[test]
fn every_labelled_job_is_charged_what_it_used() {
    // Core-seconds, and behind the point node-seconds and GPU-seconds.
    let formula = "(core_hours + node_hours / 10000 + gpu_hours / 100000000) * 3600";
    for server in SERVERS {
        let site = site(formula, "group");
        site.put_logs(&server);
        site.configure("charge =", "round = { places = 8 }\ncharge =");
        let said = site.run(&["transform"]);
        assert_eq!(said.status, 0, "{}", said.stderr);
        let mut found: BTreeMap<_, _> = json(&said.stdout)
            .into_iter()
            .map(|line| {
                let source = &line["Source"];
                let at = place(source["file"].as_str().unwrap(), &source["line"].to_string());
                (at, line["Record"]["Charge"].as_str().unwrap().to_owned())
            })
            .collect();
        for row in server.charged() {
            let number = |name: &str| row[name].parse::<i128>().unwrap();
            let (cores, nodes, gpus) =
                (number("core_seconds"), number("node_seconds"), number("gpu_seconds"));
            let expected = Decimal::new(cores * 100_000_000 + nodes * 10_000 + gpus, 8);
            let charged = found.remove(&place(&row["file"], &row["line"]));
            let expected = (!expected.is_zero()).then(|| expected.to_string());
            assert_eq!(charged, expected, "{} {}", row["id"], row["run"]);
        }
        assert_eq!(found.len(), 0, "{found:?}");
    }
}

#[test]
fn what_the_log_says_beside_the_runs_is_counted_and_said() {
    let site = site("core_hours", "group");
    site.put_logs(&SERVERS[0]);
    let said = site.run(&["transform", "--summary", "summary.json"]);
    let observed = site.summary()["observed"].clone();
    let count = |what: &str| observed[what].as_u64().unwrap_or(0);
    // By the table of labelled jobs: 75, 77, 90, 108, 109, 110, 1009, 1010, 1011 gave nodes back; 109 and 1011 ran again.
    assert_eq!((count("in-phases"), count("after-releases")), (9, 2), "{observed}");
    // 71, 94, 95, 96, 1010.
    assert_eq!(count("suspended"), 5, "{observed}");
    assert_eq!((count("lost"), count("running")), (1, 0), "{observed}");
    assert_eq!((count("server-restart"), count("from-checkpoint")), (1, 1), "{observed}");
    assert!(said.stderr.contains("1004.pbssrv"), "the lost run is named: {}", said.stderr);
}

/// Cuts a log in two where runs are under way, in front of a line.
fn halves(log: &str, line: usize) -> (String, String) {
    let at: usize = log.split_inclusive('\n').take(line - 1).map(str::len).sum();
    (log[..at].to_owned(), log[at..].to_owned())
}

/// What the service holds: resource, id, submit time, charge.
fn loaded(service: &Service) -> Vec<[String; 4]> {
    let mut records: Vec<_> = service
        .state()
        .loaded
        .iter()
        .map(|record| {
            [&record.resource, &record.local_record_id, &record.submit_time, &record.charge].map(Clone::clone)
        })
        .collect();
    records.sort();
    records
}

/// Nights over the given files of `logs/`, each with what the service holds after it, and how it ended.
fn nights(logs: &[(&str, &str)], nights: &[&[&str]]) -> Vec<(Vec<[String; 4]>, Value, Said)> {
    let service = Service::start(Settings::default());
    let site = site("max(cores, gpus * 16) * hours", "group");
    site.configure("https://usage.example.org/api", &service.url());
    let night = |files: &&[&str]| {
        std::fs::remove_dir_all(site.path("logs")).unwrap();
        std::fs::create_dir(site.path("logs")).unwrap();
        for (name, text) in logs.iter().filter(|(name, _)| files.contains(name)) {
            site.write(&format!("logs/{name}"), text);
        }
        let said = site.run(&["run", "--wait", "20", "--summary", "summary.json"]);
        (loaded(&service), site.summary(), said)
    };
    nights.iter().map(night).collect()
}

#[test]
fn runs_that_span_files_are_charged_the_same_whatever_files_are_left() {
    let log = std::fs::read_to_string(fixtures().join("pbs/openpbs/20261123")).unwrap();
    // In front of 334, job 90 has given back n02; of 424, 95 has been resumed; of 487, 1009 to 1011 run, and 1011 has been requeued of
    // which the second run is to come; of 440, 1000 has begun twice.
    for line in [334, 424, 434, 440, 460, 484, 487, 491, 494] {
        let (first, second) = halves(&log, line);
        let logs = [("20261123", first.as_str()), ("20261124", second.as_str())];
        let (one, two) = ("20261123", "20261124");
        let whole = nights(&logs, &[&[one, two]]);
        let (expected, summary, _) = &whole[0];
        assert!(expected.len() > 90, "{line}: {} records", expected.len());
        for plan in
            [&[&[one][..], &[one, two], &[two]][..], &[&[one], &[two]], &[&[one, two], &[two], &[one, two]]]
        {
            let nights = nights(&logs, plan);
            let (held, after, said) = nights.last().unwrap();
            assert_eq!(held, expected, "{line} {plan:?}: {}", said.stderr);
            for name in ["loaded", "pending", "accepted", "held_total", "superseded", "rejected"] {
                assert_eq!(after[name], summary[name], "{line} {plan:?}: {name}");
            }
        }
    }
}

#[test]
fn without_what_was_carried_a_run_in_phases_is_held_and_not_charged_by_its_last_part() {
    let log = std::fs::read_to_string(fixtures().join("pbs/openpbs/20261123")).unwrap();
    // The u and c of 1009 stand before, its e and E behind.
    let (_, second) = halves(&log, 494);
    let nights = nights(&[("20261124", second.as_str())], &[&["20261124"]]);
    let (held, summary, said) = &nights[0];
    assert!(!held.iter().any(|record| record[1] == "1009.pbssrv"), "{held:?}");
    assert_eq!(summary["held"], serde_json::json!({ "log-incomplete": 1 }), "{}", said.stderr);
    assert_eq!(said.status, 1, "{}", said.stderr);
}

#[test]
fn a_log_that_is_there_twice_charges_nothing_twice() {
    let site = site("core_hours * 3600", "group");
    site.put_logs(&SERVERS[0]);
    let once = site.run(&["transform", "--summary", "summary.json"]);
    let (runs, charge) = (site.summary()["runs"].clone(), site.summary()["charge"].clone());
    std::fs::copy(site.path("logs/20261123"), site.path("logs/20261123-copy")).unwrap();
    let twice = site.run(&["transform", "--summary", "summary.json"]);
    assert_eq!((&site.summary()["runs"], &site.summary()["charge"]), (&runs, &charge));
    assert_eq!(once.stdout, twice.stdout);
    // Every E and R of the copy but those of array parents.
    assert!(site.summary()["informational"]["repeated"].as_u64().unwrap() > 130);
}

#[test]
fn blocks_of_any_size_and_any_number_of_threads_give_the_same() {
    let format = Format::Pbs { reader: parsers::pbs::Reader::default() };
    for server in SERVERS {
        let read = |size: Option<usize>| {
            let (mut out, mut counts) = (Vec::new(), Tally::default());
            pipeline::run(&format, &server.files(), size, None, &ParseWork, |emitted| {
                if let Emitted::Output(_, Parsed { lines, tally, .. }, _) = emitted {
                    out.extend(lines);
                    counts.merge(&tally);
                }
                Ok::<_, Infallible>(())
            })
            .unwrap();
            counts.check().unwrap();
            (out, counts)
        };
        let whole = read(None);
        for size in [1, 300, 1000, 4096, 30_000] {
            assert!(read(Some(size)) == whole, "blocks of {size} bytes");
        }
    }
    let site = site("core_hours", "group");
    site.put_logs(&SERVERS[0]);
    let log = std::fs::read_to_string(site.path("logs/20261123")).unwrap();
    // Many blocks: the same log of other servers, as a site with several would join them.
    let many: String = (0..60).map(|number| log.replace("pbssrv", &format!("srv{number}"))).collect();
    site.write("logs/20261123", &many);
    let one = site.run(&["--threads", "1", "transform"]);
    assert!(one.stdout.len() > 2 << 20, "{} bytes: {}", one.stdout.len(), one.stderr);
    for threads in ["2", "5"] {
        let more = site.run(&["--threads", threads, "transform"]);
        assert!(more.stdout == one.stdout, "{threads} threads write other bytes than one");
    }
}

#[test]
fn the_project_comes_from_where_the_source_says_and_from_nowhere_else() {
    let projects = |server: &Server, from: &str| {
        // No charge is zero, so that no run is skipped; runs in phases are held for this formula, after their project is known.
        let site = site("core_hours + hours + 1", from);
        site.put_logs(server);
        let said = site.run(&["transform", "--summary", "summary.json"]);
        let mut names: Vec<String> = json(&said.stdout)
            .iter()
            .map(|line| line["Record"]["LocalProjectID"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names.dedup();
        let held = site.summary()["held"]["no-account"].as_u64().unwrap_or(0);
        (names, held)
    };
    let [openpbs, torque] = &SERVERS;
    let (groups, held) = projects(openpbs, "group");
    assert_eq!((groups, held), (vec!["chemgrp".to_owned(), "domain users".into(), "physics".into()], 0));
    let (groups, held) = projects(torque, "group");
    assert_eq!((groups, held), (vec!["chemgrp".to_owned(), "domain users".into(), "physics".into()], 0));
    // What every job without a project says is no project. 26 and 27 name one, and a hook gave 98 one.
    let (names, held) = projects(openpbs, "project");
    let default = "_pbs_project_default".to_owned();
    assert!(names.contains(&"climate.2026".to_owned()) && names.contains(&"proj with space".to_owned()));
    assert!(!names.contains(&default) && names.len() == 3, "{names:?}");
    assert_eq!(held, openpbs.charged().len() as u64 - 3);
    // TORQUE has no projects: nothing else is taken in their place.
    let (names, held) = projects(torque, "project");
    let runs = torque.charged().len() as u64;
    assert_eq!((names, held), (Vec::new(), runs));
    // Accounts: most jobs name none.
    let (names, held) = projects(openpbs, "account");
    assert!(
        held > 100 && names.contains(&"acctR".into()) && names.contains(&"my acct; x=1".into()),
        "{names:?}"
    );
    assert!(!names.contains(&"physics".to_owned()) && !names.contains(&default), "{names:?}");
    let (names, held) = projects(torque, "account");
    assert_eq!(held, runs - 3, "8, 9 and 10 name one: {names:?}");
}

#[test]
fn explain_shows_the_phases_and_the_records_that_they_come_from() {
    let site = site("core_hours", "group");
    site.put_logs(&SERVERS[0]);
    for id in ["110", "110.pbssrv", "pbs/pbssrv/0000000110/1795426922/1"] {
        let said = site.run(&["explain", id]);
        assert_eq!(said.status, 0, "{}", said.stderr);
        for wanted in [
            "20261123:428 (pbs)",
            "S: a run began",
            "20261123:430 (pbs)",
            "u: nodes were released",
            "20261123:433 (pbs)",
            "c: this is what the run had from then on",
            "e: this is what a run that released nodes had at its end",
            "20261123:436 (pbs)",
            "20 s on 6 cores, 3 nodes, 0 GPUs, 3221225472 bytes",
            "20 s on 4 cores, 2 nodes",
            "22 s on 2 cores, 1 node",
            "sum of the phases",
            "= 0.067778",
        ] {
            assert!(said.stdout.contains(wanted), "{id}: {wanted}\n{}", said.stdout);
        }
        assert!(!said.stdout.contains("111.pbssrv"), "{}", said.stdout);
    }
}

#[test]
fn explain_knows_what_was_carried_out_of_files_that_are_gone() {
    let service = Service::start(Settings::default());
    let site = site("core_hours * 3600", "group");
    site.configure("https://usage.example.org/api", &service.url());
    let log = std::fs::read_to_string(fixtures().join("pbs/openpbs/20261123")).unwrap();
    let (first, second) = halves(&log, 436);
    site.write("logs/20261123", &first);
    site.run(&["run", "--wait", "20"]);
    std::fs::remove_file(site.path("logs/20261123")).unwrap();
    site.write("logs/20261124", &second);
    site.run(&["run", "--wait", "20"]);
    // The E of 110 is the first line of what is left.
    let said = site.run(&["explain", "110"]);
    for wanted in ["20261124:1 (pbs)", "20 s on 6 cores, 3 nodes", "22 s on 2 cores, 1 node", "= 244"] {
        assert!(said.stdout.contains(wanted), "{wanted}: {}{}", said.stdout, said.stderr);
    }
    assert!(!said.stdout.contains("u: nodes were released"), "{}", said.stdout);
    assert!(loaded(&service).iter().any(|record| record[1] == "110.pbssrv" && record[3] == "244"));
}

#[test]
fn a_held_run_in_phases_keeps_them_until_its_project_is_known() {
    let service = Service::start(Settings::default());
    let site = site("core_hours * 3600", "group");
    site.configure("https://usage.example.org/api", &service.url());
    site.configure("{ account = '.*', project = \"$0\" }", "{ account = 'chemgrp', project = \"$0\" }");
    site.put_logs(&SERVERS[0]);
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!(night.status, 1, "{}", night.stderr);
    // The log is gone, and the group is known now.
    std::fs::remove_dir_all(site.path("logs")).unwrap();
    site.configure("'chemgrp'", "'.*'");
    let night = site.run(&["run", "--wait", "20"]);
    assert_eq!(night.status, 0, "{}", night.stderr);
    let charge = |id: &str| {
        let records = loaded(&service);
        records.into_iter().find(|record| record[1] == id).map(|record| record[3].clone())
    };
    assert_eq!(charge("110.pbssrv").as_deref(), Some("244"));
    assert_eq!(charge("1009.pbssrv").as_deref(), Some("342"));
}

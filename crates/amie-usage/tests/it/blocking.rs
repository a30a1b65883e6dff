//! The blocking client against the sandbox: every call, from several threads, and where it must not wait.

use amie_usage::blocking::Client;
use amie_usage::{
    ApiKey, CallError, Cancel, ClientConfig, ComputeAttributes, ComputeUsageRecord, Decimal, Limits,
    LoadedQuery, RecordOutcome, RetryBudget, SendOutcome, UsageType, wire,
};
use std::time::Duration;
use tokio::runtime::Runtime;
use usage_sandbox::{Rule, Sandbox, Settings};

fn sandbox(runtime: &Runtime) -> Sandbox {
    let settings = Settings {
        load_delay: Duration::ZERO,
        refuse: vec![Rule::new("LocalRecordID", "3", "Username mallory is not known")],
        fail_load: vec![Rule::new("LocalRecordID", "5", "Allocation could not be found for user ada")],
        ..Settings::default()
    };
    runtime.block_on(Sandbox::start(settings)).unwrap()
}

fn config(sandbox: &Sandbox) -> ClientConfig {
    ClientConfig::new(sandbox.base_url(), "TestSite", ApiKey::new("a-key").unwrap())
}

fn records(count: i64) -> Vec<Vec<u8>> {
    (0..count)
        .map(|id| {
            let record = ComputeUsageRecord {
                username: "ada".into(),
                local_project_id: "TG-ABC123456".into(),
                local_record_id: id.to_string().into(),
                resource: "cpu.example.org".into(),
                submit_time: 1_790_899_200 + id,
                start_time: 1_790_899_260 + id,
                end_time: 1_790_902_860 + id,
                charge: Decimal::new(125 + i128::from(id), 1),
                attributes: ComputeAttributes { node_count: 1, ..ComputeAttributes::default() },
                parent_record_id: None,
                local_reference: Some(format!("reference-{id}").into()),
            };
            let mut json = Vec::new();
            wire::render_compute(&record, &mut json).unwrap();
            json
        })
        .collect()
}

#[test]
fn all_calls_wait_for_their_answers() {
    let runtime = Runtime::new().unwrap();
    let sandbox = sandbox(&runtime);
    let client = Client::new(config(&sandbox)).unwrap();
    let records = records(8);
    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let limits = Limits { max_records: 3, ..Limits::default() };
    let delivery =
        client.deliver(UsageType::Compute, &slices, &limits, &RetryBudget::default(), &Cancel::new());
    assert_eq!((delivery.posts, &delivery.stop), (3, &None));
    for (id, outcome) in delivery.outcomes.iter().enumerate() {
        match outcome {
            RecordOutcome::Refused(why) => assert!(id == 3 && why.contains("mallory"), "{id}: {why}"),
            outcome => assert_eq!((outcome, id == 3), (&RecordOutcome::Accepted, false), "{id}"),
        }
    }
    runtime.block_on(sandbox.settle());

    let failed = client.failed().unwrap();
    assert_eq!(failed[0].local_reference.as_deref(), Some("reference-5"));
    let ids: Vec<String> = failed.into_iter().filter_map(|record| record.failed_record_id).collect();
    client.clear_failed(&ids).unwrap();
    assert_eq!(client.failed(), Ok(vec![]));
    let status = client.status(0, 253_402_300_799).unwrap();
    assert_eq!((status[0].loaded_record_count, status[0].failed_record_count), (Some(6), Some(1)));

    let query = LoadedQuery { limit: Some(4), ..LoadedQuery::default() };
    let pages: Vec<_> = client.loaded_pages(query.clone()).collect::<Result<_, _>>().unwrap();
    let charges: Vec<String> = pages
        .iter()
        .flat_map(|page| &page.records)
        .map(|record| record.charge.unwrap().to_string())
        .collect();
    assert_eq!(pages.iter().map(|page| page.records.len()).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(charges, ["12.5", "12.6", "12.7", "12.9", "13.1", "13.2"]);
    assert_eq!(client.loaded(&query).unwrap().records.len(), 4);

    // The sandbox's own table says the same.
    assert_eq!(sandbox.state().charge("cpu.example.org"), "77");
}

#[test]
fn several_threads_may_use_one_client() {
    let runtime = Runtime::new().unwrap();
    let sandbox = sandbox(&runtime);
    let client = Client::new(config(&sandbox)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = client.clone();
            scope.spawn(move || {
                for record in records(40).iter().skip(thread * 10).take(10) {
                    let outcome = client.send(UsageType::Compute, &[record]);
                    assert!(matches!(outcome, SendOutcome::Answered { .. }), "{outcome:?}");
                }
            });
        }
    });
    let state = sandbox.state();
    assert_eq!((state.posts, state.history.len()), (40, 39), "one is refused");
}

#[test]
fn within_an_async_program_nothing_is_sent_and_nothing_panics() {
    let runtime = Runtime::new().unwrap();
    let sandbox = sandbox(&runtime);
    let client = Client::new(config(&sandbox)).unwrap();
    runtime.block_on(async move {
        let outcome = client.send(UsageType::Compute, &[b"{}"]);
        assert!(
            matches!(&outcome, SendOutcome::NotSent { reason } if reason.contains("async")),
            "{outcome:?}"
        );
        assert!(matches!(client.failed(), Err(CallError::Impossible { .. })));
        let (budget, cancel) = (RetryBudget::default(), Cancel::new());
        let delivery = client.deliver(UsageType::Compute, &[b"{}"], &Limits::default(), &budget, &cancel);
        assert!(matches!(delivery.outcomes.as_slice(), [RecordOutcome::NotSent(_)]));
        assert_eq!(client.loaded_pages(LoadedQuery::default()).count(), 1, "one error");
        // The last clone, and with it the runtime that it waits on, goes here.
        drop(client);
    });
    assert_eq!(sandbox.state().posts, 0);
}

/// `examples/send.rs`, as it is.
#[path = "../../examples/send.rs"]
#[allow(dead_code, unused_qualifications)]
mod example;

#[tokio::test]
async fn the_example_sends_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let settings = Settings { refuse: vec![Rule::new("LocalRecordID", "3", "no")], ..Settings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (folder.path().join("key"), folder.path().join("records.ndjson"));
    std::fs::write(&key, "a-key\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, records(5).join(b"\n".as_slice())).unwrap();
    let (key, file) = (key.to_str().unwrap(), file.to_str().unwrap());
    let code = example::send(&sandbox.base_url(), "TestSite", key, "Compute", file).await.unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::from(1)), "one is refused");
    assert_eq!(sandbox.state().history.len(), 4);
    assert!(example::send(&sandbox.base_url(), "TestSite", key, "Printing", file).await.is_err());
}

//! Batches: splitting, bisecting, trying again, stopping, and what is known of each record afterwards.

use crate::server::{Reply, Request, Server, config};
use amie_usage::{
    Cancel, Client, ClientConfig, Delivery, Limits, RecordOutcome, RetryBudget, Stop, UsageType, deliver,
    wire,
};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Records of one length, with `LocalReference` and `LocalRecordID` "0", "1", ...
fn records(count: usize) -> Vec<Vec<u8>> {
    let time = r#""SubmitTime":"2026-10-02T00:00:00Z""#;
    (0..count)
        .map(|id| {
            format!(r#"{{"LocalRecordID":"{id:05}","Resource":"r",{time},"LocalReference":"ref-{id:05}"}}"#)
                .into_bytes()
        })
        .collect()
}

fn slices(records: &[Vec<u8>]) -> Vec<&[u8]> {
    records.iter().map(Vec::as_slice).collect()
}

fn budget() -> RetryBudget {
    RetryBudget::new(20).with_backoff(Duration::from_millis(1), Duration::from_secs(2)).with_seed(1)
}

async fn deliver_all(client: &Client, usage_type: UsageType, records: &[Vec<u8>]) -> Delivery {
    deliver(client, usage_type, &slices(records), &Limits::default(), &budget(), &Cancel::new()).await
}

fn ids(request: &Request) -> Vec<usize> {
    request
        .records()
        .iter()
        .map(|record| record["LocalRecordID"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn count(delivery: &Delivery, wanted: impl Fn(&RecordOutcome) -> bool) -> usize {
    delivery.outcomes.iter().filter(|outcome| wanted(outcome)).count()
}

fn accepted(delivery: &Delivery) -> usize {
    count(delivery, |outcome| *outcome == RecordOutcome::Accepted)
}

fn refused(delivery: &Delivery) -> Vec<usize> {
    let outcomes = delivery.outcomes.iter().enumerate();
    outcomes
        .filter(|(_, outcome)| matches!(outcome, RecordOutcome::Refused(_)))
        .map(|(index, _)| index)
        .collect()
}

fn unknown(delivery: &Delivery) -> usize {
    count(delivery, |outcome| matches!(outcome, RecordOutcome::Unknown(_)))
}

fn not_sent(delivery: &Delivery) -> usize {
    count(delivery, |outcome| matches!(outcome, RecordOutcome::NotSent(_)))
}

/// Refuses whole messages that hold one of the guilty, with a text that the test makes.
async fn strict(guilty: &[usize], text: impl Fn(usize) -> String + Send + Sync + 'static) -> Server {
    let guilty = guilty.to_vec();
    Server::new(move |request| match ids(request).into_iter().find(|id| guilty.contains(id)) {
        Some(id) => Reply::json(400, &format!(r#"{{"error":"{}"}}"#, text(id))),
        None => Reply::taken(),
    })
    .await
}

/// Ids that the server took, over all messages it answered with 200.
fn taken(server: &Server, guilty: &[usize]) -> Vec<usize> {
    let good = server.requests();
    let good = good.iter().filter(|request| !ids(request).iter().any(|id| guilty.contains(id)));
    let mut taken: Vec<usize> = good.flat_map(ids).collect();
    taken.sort_unstable();
    taken
}

#[tokio::test]
async fn nothing_to_send_is_no_post() {
    let server = Server::script(vec![Reply::taken()]).await;
    let delivery = deliver_all(&server.client(), UsageType::Compute, &[]).await;
    assert_eq!(delivery, Delivery { outcomes: vec![], stop: None, stop_reason: None, posts: 0 });
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn messages_are_as_full_as_the_limits_allow_and_never_fuller() {
    let records = records(100);
    let length = records[0].len();
    let envelope = wire::envelope_len(UsageType::Compute);
    // Exactly 7 records fit, to the byte; one byte less, and only 6 do.
    let exact = envelope + 7 * length + 6;
    for (max_body_bytes, max_records, in_each) in
        [(exact, 1000, 7), (exact - 1, 1000, 6), (exact, 5, 5), (usize::MAX, 1000, 100), (exact, 0, 1)]
    {
        let server = Server::script(vec![Reply::taken()]).await;
        let limits = Limits { max_body_bytes, max_records };
        let client = server.client();
        let delivery =
            deliver(&client, UsageType::Compute, &slices(&records), &limits, &budget(), &Cancel::new()).await;
        assert_eq!(accepted(&delivery), 100);
        let requests = server.requests();
        assert_eq!(requests.len(), 100_usize.div_ceil(in_each));
        assert_eq!(delivery.posts as usize, requests.len());
        assert!(requests.iter().all(|request| request.body.len() <= max_body_bytes));
        assert!(requests.iter().rev().skip(1).all(|request| ids(request).len() == in_each));
        assert_eq!(taken(&server, &[]), (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_record_that_never_fits_is_refused_alone() {
    let mut records = records(5);
    records[2] = format!(r#"{{"LocalRecordID":"2","JobName":"{}"}}"#, "x".repeat(2000)).into_bytes();
    let server = Server::script(vec![Reply::taken()]).await;
    let limits = Limits { max_body_bytes: 1000, max_records: 1000 };
    let delivery =
        deliver(&server.client(), UsageType::Compute, &slices(&records), &limits, &budget(), &Cancel::new())
            .await;
    assert_eq!(refused(&delivery), [2]);
    assert_eq!((accepted(&delivery), delivery.stop), (4, None));
    assert_eq!(taken(&server, &[]), [0, 1, 3, 4]);
}

#[tokio::test]
async fn one_guilty_record_among_a_thousand_is_found_in_logarithmic_time() {
    let records = records(1000);
    for guilty in [0, 1, 499, 500, 777, 999] {
        let server = strict(&[guilty], |_| "bad Charge".to_owned()).await;
        let delivery = deliver_all(&server.client(), UsageType::Compute, &records).await;
        assert_eq!(refused(&delivery), [guilty]);
        assert_eq!(delivery.outcomes[guilty], RecordOutcome::Refused("bad Charge".to_owned()));
        assert_eq!((accepted(&delivery), &delivery.stop), (999, &None));
        assert!(delivery.posts <= 1 + 2 * 10, "{} posts", delivery.posts);
        // Each innocent record was taken exactly once.
        assert_eq!(taken(&server, &[guilty]), (0..1000).filter(|id| *id != guilty).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_limit_of_the_service_below_ours_is_found() {
    let server = Server::new(|request| {
        if ids(request).len() > 30 { Reply::html(413, "<title>Too Large</title>") } else { Reply::taken() }
    })
    .await;
    let delivery = deliver_all(&server.client(), UsageType::Storage, &records(100)).await;
    assert_eq!((accepted(&delivery), delivery.stop), (100, None));
    // 100; 50 and 25 twice; 50 and 25 twice.
    assert_eq!(delivery.posts, 7);
}

#[tokio::test]
async fn a_few_guilty_records_are_refused_each_with_its_text() {
    let guilty = [3, 64, 65, 99];
    let server = strict(&guilty, |_| "bad Charge".to_owned()).await;
    let delivery = deliver_all(&server.client(), UsageType::Adjustment, &records(100)).await;
    assert_eq!(refused(&delivery), guilty);
    assert_eq!((accepted(&delivery), delivery.stop), (96, None));
}

#[tokio::test]
async fn five_single_refusals_with_one_text_stop_and_mark_nothing() {
    for text in [|_| "database is down".to_owned(), |id: usize| format!("record {id} is bad")] {
        let everything: Vec<usize> = (0..1000).collect();
        let server = strict(&everything, text).await;
        let delivery = deliver_all(&server.client(), UsageType::Compute, &records(1000)).await;
        assert!(
            matches!(&delivery.stop, Some(Stop::SomethingWrong { text }) if text.contains("bad") || text.contains("down"))
        );
        assert!(refused(&delivery).is_empty());
        assert_eq!(not_sent(&delivery), 1000);
        let alone: Vec<usize> =
            server.requests().iter().map(ids).filter(|ids| ids.len() == 1).map(|ids| ids[0]).collect();
        // Five by bisecting, and five from all over what was left.
        assert_eq!(alone.len(), 10);
        assert!(alone[5] == 999 && alone[7] > 300 && alone[7] < 700, "{alone:?}");
        assert!(delivery.posts < 30, "{}", delivery.posts);
    }
}

#[tokio::test]
async fn records_that_are_wrong_in_one_way_are_refused_where_others_are_taken() {
    // The tasks of one array, side by side: at the beginning, in the middle, and many of them.
    for guilty in [0..5, 500..507, 300..400] {
        let guilty: Vec<usize> = guilty.collect();
        let server = strict(&guilty, |_| "Username mallory is not known".to_owned()).await;
        let delivery = deliver_all(&server.client(), UsageType::Compute, &records(1000)).await;
        assert_eq!((refused(&delivery), accepted(&delivery)), (guilty.clone(), 1000 - guilty.len()));
        assert_eq!(delivery.stop, None);
        let innocent: Vec<usize> = (0..1000).filter(|id| !guilty.contains(id)).collect();
        assert_eq!(taken(&server, &guilty), innocent, "each once");
        // At most 2 log2(1000) posts a guilty record, and one probe for five of them.
        assert!(delivery.posts as usize <= 22 + guilty.len() * 11 / 5 + 20, "{}", delivery.posts);
    }
}

#[tokio::test]
async fn five_at_the_very_end_wait_for_a_run_that_has_others_behind_them() {
    let guilty: Vec<usize> = (95..100).collect();
    let server = strict(&guilty, |_| "no".to_owned()).await;
    let client = server.client();
    let delivery = deliver_all(&client, UsageType::Storage, &records(100)).await;
    assert_eq!((accepted(&delivery), not_sent(&delivery), refused(&delivery).len()), (95, 5, 0));
    assert!(matches!(&delivery.stop, Some(Stop::SomethingWrong { text }) if text.ends_with(": no")));
    // The next run leases them again, with what came since.
    let next = deliver_all(&client, UsageType::Storage, &records(120)[95..]).await;
    assert_eq!((refused(&next), accepted(&next), &next.stop), (vec![0, 1, 2, 3, 4], 20, &None));
}

#[tokio::test]
async fn refusals_are_counted_over_the_whole_run() {
    let broken = Arc::new(AtomicBool::new(false));
    let now_broken = Arc::clone(&broken);
    let server = Server::new(move |request| {
        if now_broken.load(Ordering::SeqCst) || ids(request).contains(&9) {
            Reply::json(400, r#"{"error":"no such table"}"#)
        } else {
            Reply::taken()
        }
    })
    .await;
    let (client, budget, records) = (server.client(), budget(), records(20));
    let run = async |part: Range<usize>| {
        deliver(
            &client,
            UsageType::Compute,
            &slices(&records)[part],
            &Limits::default(),
            &budget,
            &Cancel::new(),
        )
        .await
    };
    let first = run(8..10).await;
    assert_eq!((refused(&first), first.stop), (vec![1], None));
    // Then the service refuses everything. Four more are one too many; the first is a mark that was made before.
    broken.store(true, Ordering::SeqCst);
    let second = run(0..3).await;
    assert_eq!((refused(&second), second.stop), (vec![0, 1, 2], None));
    let third = run(10..20).await;
    assert_eq!((refused(&third), not_sent(&third)), (vec![], 10));
    assert!(matches!(third.stop, Some(Stop::SomethingWrong { .. })), "{third:?}");
    // The others of this run do not even try; another run does.
    let posts = server.requests().len();
    let fourth = run(10..20).await;
    assert_eq!((not_sent(&fourth), fourth.posts, &fourth.stop), (10, 0, &third.stop));
    assert_eq!(server.requests().len(), posts);
    broken.store(false, Ordering::SeqCst);
    assert_eq!(accepted(&deliver_all(&client, UsageType::Compute, &records[10..]).await), 10);
}

#[tokio::test]
async fn a_refused_key_is_tried_once_by_a_run() {
    let server = Server::script(vec![Reply::json(401, "{}")]).await;
    let (client, budget, records) = (server.client(), budget(), records(2));
    for posts in [1, 0, 0] {
        let limits = Limits::default();
        let delivery =
            deliver(&client, UsageType::Compute, &slices(&records), &limits, &budget, &Cancel::new()).await;
        assert_eq!((delivery.posts, delivery.stop), (posts, Some(Stop::KeyRefused)));
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn charges_go_out_as_the_settings_say() {
    let records: Vec<Vec<u8>> = (0..3)
        .map(|id| {
            format!(r#"{{"LocalRecordID":"{id}","Charge":"{id}.25","LocalReference":"\"Charge\":\"1\""}}"#)
                .into_bytes()
        })
        .collect();
    for (form, charge) in [(wire::ChargeForm::String, r#""2.25""#), (wire::ChargeForm::Number, "2.25")] {
        let server = Server::script(vec![Reply::taken()]).await;
        let mut config = server.config();
        config.settings.charge = form;
        let client = Client::new(config).unwrap();
        assert_eq!(accepted(&deliver_all(&client, UsageType::Adjustment, &records).await), 3);
        client.send(UsageType::Adjustment, &slices(&records)).await;
        let requests = server.requests();
        assert_eq!(requests[0].body, requests[1].body);
        let body = String::from_utf8(requests[0].body.clone()).unwrap();
        let last =
            format!(r#"{{"LocalRecordID":"2","Charge":{charge},"LocalReference":"\"Charge\":\"1\""}}]}}"#);
        assert!(body.ends_with(&last), "{body}");
    }
}

#[tokio::test]
async fn requests_keep_their_distance() {
    let server = Server::script(vec![Reply::taken()]).await;
    let config = ClientConfig { min_interval: Duration::from_millis(100), ..server.config() };
    let client = Client::new(config).unwrap();
    let started = Instant::now();
    let limits = Limits { max_records: 1, ..Limits::default() };
    let (records, budget, cancel) = (records(3), budget(), Cancel::new());
    let (one, two) = (slices(&records), slices(&records[..2]));
    // Two deliveries and a call, all with clones of one client.
    let also = client.clone();
    let (first, second, failed) = tokio::join!(
        deliver(&client, UsageType::Compute, &one, &limits, &budget, &cancel),
        deliver(&also, UsageType::Compute, &two, &limits, &budget, &cancel),
        also.failed(),
    );
    assert_eq!((accepted(&first), accepted(&second), failed.is_err()), (3, 2, false));
    assert!(started.elapsed() >= Duration::from_millis(500), "six requests: {:?}", started.elapsed());

    // Nobody waits for a turn longer than a delivery may last.
    let config = ClientConfig { min_interval: Duration::from_secs(60), ..server.config() };
    let client = Client::new(config).unwrap();
    let brief = RetryBudget::new(20).with_delivery_limit(Duration::from_millis(300));
    let started = Instant::now();
    let delivery = deliver(&client, UsageType::Compute, &one, &limits, &brief, &Cancel::new()).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!((accepted(&delivery), not_sent(&delivery), delivery.posts), (1, 2, 1));

    // Nor behind a cancel.
    let config = ClientConfig { min_interval: Duration::from_secs(60), ..server.config() };
    let client = Client::new(config).unwrap();
    let cancel = Cancel::new();
    let started = Instant::now();
    let (delivery, ()) =
        tokio::join!(deliver(&client, UsageType::Compute, &one, &limits, &budget, &cancel), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel();
        });
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!((accepted(&delivery), not_sent(&delivery), delivery.posts), (1, 2, 1));
}

#[tokio::test]
async fn what_was_accepted_before_a_stop_stays_accepted() {
    let guilty: Vec<usize> = (500..1000).collect();
    let server = strict(&guilty, |_| "no".to_owned()).await;
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(1000)).await;
    assert!(matches!(delivery.stop, Some(Stop::SomethingWrong { .. })));
    assert_eq!((accepted(&delivery), not_sent(&delivery), refused(&delivery).len()), (500, 500, 0));
    assert_eq!(taken(&server, &guilty), (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn different_texts_are_different_records_faults() {
    let guilty: Vec<usize> = (0..8).collect();
    let server = strict(&guilty, |id| format!("bad {}", "x".repeat(id))).await;
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(16)).await;
    assert_eq!(refused(&delivery), guilty);
    assert_eq!((accepted(&delivery), delivery.stop), (8, None));
}

#[tokio::test]
async fn a_busy_service_is_asked_again_with_the_same_bytes() {
    for usage_type in UsageType::ALL {
        let busy = Reply::full(503, "Retry-After: 0\r\n", "");
        let server = Server::script(vec![busy, Reply::json(429, "{}"), Reply::taken()]).await;
        let budget = budget();
        let records = records(3);
        let delivery = deliver(
            &server.client(),
            usage_type,
            &slices(&records),
            &Limits::default(),
            &budget,
            &Cancel::new(),
        )
        .await;
        assert_eq!((accepted(&delivery), delivery.posts, budget.left()), (3, 3, 18), "{usage_type}");
        let requests = server.requests();
        assert!(requests.iter().all(|request| request.body == requests[0].body));
    }
}

#[tokio::test]
async fn after_an_unknown_outcome_only_what_overwrites_is_sent_again() {
    for fault in
        [Reply::Close, Reply::html(200, "<title>Log in</title>"), Reply::json(500, ""), Reply::json(504, "")]
    {
        let server = Server::script(vec![fault.clone(), Reply::taken()]).await;
        let delivery = deliver_all(&server.client(), UsageType::Compute, &records(3)).await;
        assert_eq!((accepted(&delivery), delivery.posts, delivery.stop), (3, 2, None), "{fault:?}");
        let requests = server.requests();
        assert_eq!(requests[0].body, requests[1].body);

        for usage_type in [UsageType::Storage, UsageType::Adjustment] {
            let server = Server::script(vec![fault.clone(), Reply::taken()]).await;
            let delivery = deliver_all(&server.client(), usage_type, &records(3)).await;
            assert_eq!((unknown(&delivery), delivery.posts), (3, 1), "{usage_type} {fault:?}");
            assert_eq!(delivery.stop, Some(Stop::ApiDown));
        }
    }
}

#[tokio::test]
async fn a_site_may_allow_re_sends_of_storage() {
    let server = Server::script(vec![Reply::Close, Reply::taken()]).await;
    let mut config = server.config();
    config.settings.resend.storage = wire::Resend::Overwrite;
    let client = Client::new(config).unwrap();
    let delivery = deliver_all(&client, UsageType::Storage, &records(3)).await;
    assert_eq!((accepted(&delivery), delivery.posts), (3, 2));
}

#[tokio::test]
async fn what_may_have_arrived_is_never_called_not_sent() {
    // The first try may have arrived; what follows surely did not, and does not make it so.
    for later in [
        Reply::full(503, "Retry-After: 9999\r\n", ""),
        Reply::json(401, "{}"),
        Reply::html(403, "<title>Blocked</title>"),
        Reply::json(404, "{}"),
        Reply::json(400, r#"{"error":"down"}"#),
    ] {
        let server = Server::script(vec![Reply::Close, later.clone()]).await;
        let delivery = deliver_all(&server.client(), UsageType::Compute, &records(8)).await;
        assert_eq!(unknown(&delivery), 8, "{later:?}: {delivery:?}");
        assert!(delivery.stop.is_some());
    }
}

#[tokio::test]
async fn parts_that_were_never_posted_are_not_sent() {
    let server = Server::script(vec![Reply::taken(), Reply::Close]).await;
    let limits = Limits { max_body_bytes: 192 * 1024, max_records: 10 };
    let records = records(40);
    let delivery =
        deliver(&server.client(), UsageType::Storage, &slices(&records), &limits, &budget(), &Cancel::new())
            .await;
    assert_eq!((accepted(&delivery), unknown(&delivery), not_sent(&delivery)), (10, 10, 20));
    assert!(matches!(delivery.outcomes[10], RecordOutcome::Unknown(_)));
    assert!(matches!(delivery.outcomes[20], RecordOutcome::NotSent(_)));
}

#[tokio::test]
async fn a_service_that_is_down_costs_the_attempts_of_one_message() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(config(&format!("http://{free}"))).unwrap();
    let delivery = deliver_all(&client, UsageType::Adjustment, &records(3)).await;
    assert_eq!((not_sent(&delivery), delivery.posts, delivery.stop), (3, 5, Some(Stop::ApiDown)));
    assert!(delivery.stop_reason.unwrap().contains("cannot be reached"));
}

#[tokio::test]
async fn a_refused_key_stops_at_once() {
    let server = Server::script(vec![Reply::json(403, r#"{"error":"unknown site"}"#)]).await;
    let limits = Limits { max_body_bytes: 192 * 1024, max_records: 1 };
    let records = records(10);
    let delivery =
        deliver(&server.client(), UsageType::Compute, &slices(&records), &limits, &budget(), &Cancel::new())
            .await;
    assert_eq!((not_sent(&delivery), delivery.posts, delivery.stop), (10, 1, Some(Stop::KeyRefused)));
    assert!(delivery.stop_reason.unwrap().contains("unknown site"));
}

#[tokio::test]
async fn a_wrong_address_needs_a_person_and_a_blocking_proxy_does_not() {
    let server =
        Server::script(vec![Reply::full(301, "Location: https://elsewhere.example.org/\r\n", "")]).await;
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(2)).await;
    assert!(
        matches!(&delivery.stop, Some(Stop::SomethingWrong { text }) if text.contains("elsewhere.example.org"))
    );
    let server = Server::script(vec![Reply::html(403, "<title>Blocked</title>")]).await;
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(2)).await;
    assert_eq!((not_sent(&delivery), delivery.posts, delivery.stop), (2, 1, Some(Stop::ApiDown)));
}

#[tokio::test]
async fn partial_failures_refuse_by_reference_across_messages() {
    let server = Server::new(|request| {
        // In reverse order, and without identity: a position would name the wrong ones.
        let failed: Vec<String> = ids(request)
            .into_iter()
            .rev()
            .filter(|id| id % 3 == 0)
            .map(|id| format!(r#"{{"LocalReference":"ref-{id:05}","Error":"no user for {id}"}}"#))
            .collect();
        Reply::json(200, &format!(r#"{{"Message":"","ValidationFailedRecords":[{}]}}"#, failed.join(",")))
    })
    .await;
    let limits = Limits { max_body_bytes: 192 * 1024, max_records: 7 };
    let records = records(20);
    let delivery =
        deliver(&server.client(), UsageType::Compute, &slices(&records), &limits, &budget(), &Cancel::new())
            .await;
    for (id, outcome) in delivery.outcomes.iter().enumerate() {
        let expected = if id % 3 == 0 {
            RecordOutcome::Refused(format!("no user for {id}"))
        } else {
            RecordOutcome::Accepted
        };
        assert_eq!(*outcome, expected, "{id}");
    }
    assert_eq!(delivery.stop, None);
}

#[tokio::test]
async fn a_refusal_that_names_nobody_leaves_all_others_unknown() {
    let body = r#"{"Message":"","ValidationFailedRecords":[{"Error":"one is bad"},{"LocalReference":"ref-00001","Error":"e"}]}"#;
    let server = Server::script(vec![Reply::json(200, body)]).await;
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(3)).await;
    assert_eq!((refused(&delivery), unknown(&delivery), accepted(&delivery)), (vec![1], 2, 0));
    assert!(matches!(&delivery.outcomes[0], RecordOutcome::Unknown(text) if text.contains("one is bad")));
}

#[tokio::test]
async fn a_long_retry_after_is_honoured_by_ending() {
    let server = Server::script(vec![Reply::full(429, "Retry-After: 3600\r\n", ""), Reply::taken()]).await;
    let started = Instant::now();
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(2)).await;
    assert_eq!((not_sent(&delivery), delivery.posts, delivery.stop), (2, 1, Some(Stop::ApiDown)));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for() {
    let server = Server::script(vec![Reply::full(429, "Retry-After: 1\r\n", ""), Reply::taken()]).await;
    let started = Instant::now();
    let delivery = deliver_all(&server.client(), UsageType::Compute, &records(2)).await;
    assert_eq!((accepted(&delivery), delivery.posts), (2, 2));
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_one_message_is_told_of_waiting_holds_for_all() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&arrived);
    let server = Server::new(move |request| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        // The second message is told to come back later, whoever's it is.
        match times.len() {
            2 => Reply::full(429, "Retry-After: 1\r\n", ""),
            _ if request.method == "GET" => Reply::json(200, "[]"),
            _ => Reply::taken(),
        }
    })
    .await;
    let (client, records, budget) = (server.client(), records(4), budget());
    let limits = Limits { max_records: 1, ..Limits::default() };
    let first = deliver_all(&client, UsageType::Compute, &records[..1]).await;
    assert_eq!(accepted(&first), 1);
    let (slices, cancel) = (slices(&records), Cancel::new());
    let (one, two, failed) = tokio::join!(
        deliver(&client, UsageType::Compute, &slices, &limits, &budget, &cancel),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            deliver(&client, UsageType::Compute, &slices, &limits, &budget, &cancel).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            client.failed().await
        },
    );
    assert_eq!((accepted(&one), accepted(&two), failed, budget.left()), (4, 4, Ok(vec![]), 19));
    let times = arrived.lock().unwrap().clone();
    let quiet = times[2].duration_since(times[1]);
    assert!(quiet >= Duration::from_millis(990), "{quiet:?}");

    // A wait that is too long for one is too long for all.
    let server = Server::script(vec![Reply::full(503, "Retry-After: 3600\r\n", "")]).await;
    let client = server.client();
    for posts in [1, 0] {
        let delivery = deliver(&client, UsageType::Compute, &slices, &limits, &budget, &cancel).await;
        assert_eq!((not_sent(&delivery), delivery.posts, &delivery.stop), (4, posts, &Some(Stop::ApiDown)));
    }
}

#[tokio::test]
async fn a_cancel_stops_before_the_next_post_and_ends_a_wait() {
    let server = Server::script(vec![Reply::taken()]).await;
    let cancel = Cancel::new();
    cancel.cancel();
    let records = records(2);
    let delivery = deliver(
        &server.client(),
        UsageType::Compute,
        &slices(&records),
        &Limits::default(),
        &budget(),
        &cancel,
    )
    .await;
    assert_eq!((not_sent(&delivery), delivery.posts, delivery.stop), (2, 0, None));
    assert_eq!(server.requests().len(), 0);

    let server = Server::script(vec![Reply::full(503, "Retry-After: 60\r\n", "")]).await;
    let patient = RetryBudget::new(5).with_backoff(Duration::from_secs(1), Duration::from_secs(100));
    let cancel = Cancel::new();
    let started = Instant::now();
    let client = server.client();
    let slices = slices(&records);
    let limits = Limits::default();
    let delivery = deliver(&client, UsageType::Compute, &slices, &limits, &patient, &cancel);
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    };
    let (delivery, ()) = tokio::join!(delivery, later);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!((not_sent(&delivery), delivery.posts, delivery.stop), (2, 1, None));
}

#[tokio::test]
async fn a_delivery_ends_within_its_time() {
    let server = Server::script(vec![Reply::full(503, "", "")]).await;
    let limited = RetryBudget::new(1000)
        .with_attempts(1000)
        .with_backoff(Duration::from_millis(50), Duration::from_millis(50))
        .with_delivery_limit(Duration::from_millis(300));
    let records = records(2);
    let started = Instant::now();
    let delivery = deliver(
        &server.client(),
        UsageType::Compute,
        &slices(&records),
        &Limits::default(),
        &limited,
        &Cancel::new(),
    )
    .await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(not_sent(&delivery), 2);
    assert!(delivery.posts > 1);
}

#[tokio::test]
async fn one_budget_serves_all_deliveries() {
    let server = Server::script(vec![Reply::full(503, "", "")]).await;
    let budget = budget();
    let client = server.client();
    let records = records(1);
    let posts = Mutex::new(0);
    for _ in 0..10 {
        let slices = slices(&records);
        let delivery =
            deliver(&client, UsageType::Compute, &slices, &Limits::default(), &budget, &Cancel::new()).await;
        *posts.lock().unwrap() += delivery.posts;
    }
    // 10 first tries and the 20 retries of the budget.
    assert_eq!(*posts.lock().unwrap(), 30);
}

#[tokio::test]
async fn a_delivery_whose_time_is_over_starts_no_other_post() {
    let records = records(30);
    // Over from the beginning; over while the second message is on its way.
    for (over_after, posts) in [(0, 0), (2, 2)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let server = Server::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Reply::taken()
        })
        .await;
        let client = server.client();
        let over = Cancel::new().or_when(move || seen.load(Ordering::SeqCst) >= over_after);
        let limits = Limits { max_records: 10, ..Limits::default() };
        let delivery =
            deliver(&client, UsageType::Compute, &slices(&records), &limits, &budget(), &over).await;
        assert_eq!((server.requests().len(), delivery.posts as usize), (posts, posts));
        assert_eq!((accepted(&delivery), not_sent(&delivery)), (posts * 10, 30 - posts * 10));
        assert_eq!(delivery.stop, None);
        assert!(delivery.stop_reason.unwrap().contains("too late to send"));
        assert!(!Cancel::new().is_over(), "another delivery is not over");
    }
}

//! Random faults against a service that remembers what it stored: what is reported is never more than what is true.

use crate::server::{Reply, Request, Server};
use amie_usage::{Cancel, Client, Limits, RecordOutcome, RetryBudget, Stop, UsageType, deliver};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// xorshift64*: the tests' own source of chance, so that a seed tells the whole story.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// A record of the model: the service refuses some for their content, with the message or alone.
const GOOD: &str = "good";
const REFUSED_ALONE: &str = "refused-alone";
const POISON: &str = "poison";

struct Service {
    chance: Chance,
    /// Faults in a hundred answers.
    faults: u64,
    /// How often each record was stored.
    stored: HashMap<String, u32>,
}

impl Service {
    fn answer(&mut self, request: &Request) -> Reply {
        let fault = self.chance.below(100) < self.faults;
        if fault && self.chance.below(2) == 0 {
            // Before anything is stored.
            return match self.chance.below(6) {
                0 => Reply::Close,
                1 => Reply::full(503, "Retry-After: 0\r\n", ""),
                2 => Reply::json(429, "{}"),
                3 => Reply::json(500, ""),
                4 => Reply::html(403, "<title>Blocked</title>"),
                _ => Reply::html(413, "<title>Too Large</title>"),
            };
        }
        let records = request.records();
        let kind = |record: &serde_json::Value| record["JobName"].as_str().unwrap().to_owned();
        if let Some(poison) = records.iter().find(|record| kind(record) == POISON) {
            let text = poison["Username"].as_str().unwrap();
            return Reply::json(400, &format!(r#"{{"error":"a bad record: {text}"}}"#));
        }
        let mut failed = Vec::new();
        for record in &records {
            if kind(record) == REFUSED_ALONE {
                let reference = &record["LocalReference"];
                failed.push(format!(r#"{{"LocalReference":{reference},"Error":"no such user"}}"#));
            } else {
                *self.stored.entry(record["LocalRecordID"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        if fault {
            // After all was stored.
            return match self.chance.below(4) {
                0 => Reply::Close,
                1 => Reply::json(504, ""),
                2 => Reply::html(200, "<title>Session expired</title>"),
                _ => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Message\":\"ok\"}"),
            };
        }
        Reply::json(200, &format!(r#"{{"Message":"","ValidationFailedRecords":[{}]}}"#, failed.join(",")))
    }
}

/// A record of this kind. Poisoned ones are refused in four texts.
fn rendered(id: usize, kind: &str) -> Vec<u8> {
    let who = ["ada", "grace", "joan", "mary"][id % 4];
    format!(
        r#"{{"LocalRecordID":"{id}","Resource":"r","Username":"{who}","JobName":"{kind}","LocalReference":"ref-{id}"}}"#
    )
    .into_bytes()
}

/// Delivers records, by their number and kind, in several deliveries side by side, as one run.
async fn one_run(
    client: &Client,
    usage_type: UsageType,
    records: &[(usize, &'static str)],
    deliveries: usize,
    limits: Limits,
    seed: u64,
) -> (Vec<RecordOutcome>, Option<Stop>) {
    let budget = RetryBudget::new(10)
        .with_backoff(Duration::from_micros(10), Duration::from_millis(10))
        .with_seed(seed);
    let budget = Arc::new(budget);
    let mut flight = Vec::new();
    for part in records.chunks(records.len().div_ceil(deliveries).max(1)) {
        let (client, budget, part) = (client.clone(), Arc::clone(&budget), part.to_vec());
        flight.push(tokio::spawn(async move {
            let rendered: Vec<Vec<u8>> = part.iter().map(|(id, kind)| rendered(*id, kind)).collect();
            let slices: Vec<&[u8]> = rendered.iter().map(Vec::as_slice).collect();
            deliver(&client, usage_type, &slices, &limits, &budget, &Cancel::new()).await
        }));
    }
    let (mut outcomes, mut stop) = (Vec::new(), None);
    for delivery in flight {
        let delivery = delivery.await.unwrap();
        outcomes.extend(delivery.outcomes);
        stop = stop.or(delivery.stop);
    }
    (outcomes, stop)
}

async fn one_story(seed: u64) {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut one_of = |choices: [u64; 4]| choices[usize::try_from(chance.below(4)).unwrap()];
    let (poisoned, refused) = (one_of([0, 5, 12, 60]), one_of([0, 5, 10, 20]));
    let (faults, deliveries) = (one_of([0, 10, 30, 60]), one_of([1, 2, 3, 4]));
    let usage_type = UsageType::ALL[usize::try_from(chance.below(3)).unwrap()];
    let count = chance.below(60) + 1;
    let kinds: Vec<&str> = (0..count)
        .map(|_| match chance.below(100) {
            roll if roll < poisoned => POISON,
            roll if roll < poisoned + refused => REFUSED_ALONE,
            _ => GOOD,
        })
        .collect();
    let limits =
        Limits { max_body_bytes: 192 * 1024, max_records: usize::try_from(chance.below(30) + 1).unwrap() };
    let records: Vec<(usize, &str)> = kinds.iter().copied().enumerate().collect();

    let service = Arc::new(Mutex::new(Service { chance, faults, stored: HashMap::new() }));
    let shared = Arc::clone(&service);
    let server = Server::new(move |request| shared.lock().unwrap().answer(request)).await;
    let client = server.client();
    let deliveries = usize::try_from(deliveries).unwrap();
    let (outcomes, stop) = one_run(&client, usage_type, &records, deliveries, limits, seed).await;

    assert_eq!(outcomes.len(), records.len(), "seed {seed}");
    for (id, (outcome, kind)) in outcomes.iter().zip(&kinds).enumerate() {
        let stored = service.lock().unwrap().stored.get(&id.to_string()).copied().unwrap_or(0);
        let story =
            format!("seed {seed}, record {id} ({kind}) of {usage_type}, stored {stored} times: {outcome:?}");
        match outcome {
            RecordOutcome::Accepted => assert!(stored >= 1, "{story}"),
            RecordOutcome::NotSent(_) => assert_eq!(stored, 0, "{story}"),
            RecordOutcome::Refused(_) => assert!(stored == 0 && (*kind != GOOD || faults > 0), "{story}"),
            RecordOutcome::Unknown(_) => assert!(faults > 0, "{story}"),
        }
        if usage_type != UsageType::Compute {
            assert!(stored <= 1, "{story}");
        }
    }
    if faults > 0 {
        return;
    }
    // Without faults, only refusals with nothing good behind them stop a run; and the next run gets through as soon as there
    // is one good record more.
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (record, outcome) in records.iter().zip(&outcomes) {
        match outcome {
            RecordOutcome::NotSent(_) => open.push(*record),
            outcome => {
                assert_eq!(*outcome == RecordOutcome::Accepted, record.1 == GOOD, "seed {seed}: {record:?}")
            }
        }
    }
    assert_eq!(open.is_empty(), stop.is_none(), "seed {seed}: {stop:?}");
    open.push((records.len(), GOOD));
    let (outcomes, stop) = one_run(&client, usage_type, &open, 1, limits, seed).await;
    assert_eq!(stop, None, "seed {seed}");
    for (record, outcome) in open.iter().zip(&outcomes) {
        assert_eq!(
            *outcome == RecordOutcome::Accepted,
            record.1 == GOOD,
            "seed {seed}: {outcome:?} of {record:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_report_claims_more_than_is_true() {
    for seed in 0..300 {
        one_story(seed).await;
    }
}

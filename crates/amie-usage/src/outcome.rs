//! One POST, typed: what is known about each record afterwards.
//!
//! Everything here is a pure function of the answer's bytes, so that every kind of answer can be tested as a literal.

use crate::wire::{self, FailedRecord, Verdict};
use crate::{ApiKey, UsageType};
use std::collections::HashMap;
use std::time::Duration;

/// The most characters of somebody else's text that a reason carries.
const REASON_CHARS: usize = 500;

/// What is known after one POST. The difference that matters is between surely not stored and maybe stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The message was taken, except for the records that the service refused.
    Answered {
        /// The refused ones, by ascending index.
        refused: Vec<Refused>,
        /// Refusals that belong to no record of the message, or not clearly to one. While there are any, a record that
        /// is not in `refused` may still be one that was refused.
        unmatched: Vec<FailedRecord>,
        /// The status: 2xx.
        http_status: u16,
    },
    /// The message was refused as a whole: nothing was taken.
    RefusedWhole {
        /// The status: 400, for example.
        http_status: u16,
        /// Why, in the service's words.
        reason: String,
    },
    /// The message is too large: nothing was taken.
    TooLarge {
        /// The status: 413.
        http_status: u16,
    },
    /// Not now.
    Busy {
        /// The status: 429 or 5xx.
        http_status: u16,
        /// How long the service asks to be left alone, at most a day.
        retry_after: Option<Duration>,
        /// What it said.
        reason: String,
        /// True where the message may have been stored all the same (500, 502, 504); 429 and 503 surely stored nothing.
        maybe_stored: bool,
    },
    /// Wrong site or key: nothing was taken.
    KeyRefused {
        /// The status: 401 or 403.
        http_status: u16,
        /// What it said.
        reason: String,
    },
    /// Somebody else than the API answered: a proxy, a redirect, a wrong address. Nothing was taken.
    Proxy {
        /// The status: 403 with a web page, 3xx, 404, 407.
        http_status: u16,
        /// What it said, and what to do.
        reason: String,
    },
    /// Surely nothing arrived: no connection, no name, no TLS.
    NotSent {
        /// What the system said.
        reason: String,
    },
    /// The message may have arrived: it was cut off or timed out after it may have left, or a 2xx cannot be read.
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// A record that the service refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which of the records that were sent.
    pub index: usize,
    /// Why, in the service's words; several reasons are joined by `; `.
    pub reason: String,
}

/// An answer as it came, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<String>,
    /// The server's own clock, which a `Retry-After` date is measured by.
    pub(crate) date: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Why the body is not complete, if it is not.
    pub(crate) broken: Option<String>,
}

impl Answer {
    pub(crate) fn verdict(&self) -> Verdict {
        wire::verdict(self.status, self.is_page())
    }

    /// True for a web page, which the API never sends.
    pub(crate) fn is_page(&self) -> bool {
        wire::is_html(self.content_type.as_deref(), &self.body)
    }

    /// True for 204, with which an empty list may be answered.
    pub(crate) fn is_nothing(&self) -> bool {
        self.status == 204
    }

    /// What the answer says, fit for people; the key, should the service repeat it, is taken out first.
    pub(crate) fn reason(&self, key: &ApiKey) -> String {
        clean(&wire::error_text(&self.body), key)
    }

    /// How long to wait, at most a day: seconds, or a date by the server's own clock, so that ours may be wrong.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        const DAY: Duration = Duration::from_secs(86_400);
        let text = self.retry_after.as_deref()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds).min(DAY));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(DAY); // more seconds than 64 bits hold
        }
        let until = httpdate::parse_http_date(text).ok()?;
        let now = httpdate::parse_http_date(self.date.as_deref()?.trim()).ok()?;
        Some(until.duration_since(now).unwrap_or_default().min(DAY))
    }

    /// What to tell people about an answer that is not the API's.
    pub(crate) fn not_the_api(&self, key: &ApiKey) -> String {
        let status = self.status;
        match (status, &self.location) {
            (300..=399, Some(location)) => {
                let location = clean(location, key);
                format!(
                    "HTTP {status} redirects to {location}; redirects are not followed: set the API address to where the API is"
                )
            }
            (300..=399, None) => format!("HTTP {status}, a redirect to nowhere: check the API address"),
            (401 | 403 | 407, _) => {
                format!("HTTP {status} from a proxy or gateway, not from the API: {}", self.reason(key))
            }
            _ => format!("HTTP {status}, no answer of the API: check the API address: {}", self.reason(key)),
        }
    }
}

/// Somebody else's text without the key, bounded and escaped.
pub(crate) fn clean(text: &str, key: &ApiKey) -> String {
    // Far more than is shown, so that no part of a key is left at the cut; a text of megabytes need not be copied.
    let end = text.char_indices().nth(64 * 1024).map_or(text.len(), |(at, _)| at);
    wire::printable(&key.redact(text.get(..end).unwrap_or(text)), REASON_CHARS)
}

/// A record that somebody else wrote, without the key. Its error is made fit for people; identities are compared, so they stay
/// as they are otherwise.
pub(crate) fn clean_record(record: &mut FailedRecord, key: &ApiKey) {
    record.error = clean(&record.error, key);
    [
        &mut record.failed_record_id,
        &mut record.resource,
        &mut record.local_record_id,
        &mut record.username,
        &mut record.local_project_id,
        &mut record.local_reference,
    ]
    .into_iter()
    .flatten()
    .for_each(|field| key.redact_name(field));
}

/// What an answer to a POST of these records means.
pub(crate) fn judge(usage_type: UsageType, records: &[&[u8]], answer: &Answer, key: &ApiKey) -> SendOutcome {
    let http_status = answer.status;
    match answer.verdict() {
        Verdict::Taken => match (&answer.broken, wire::read_sent(&answer.body)) {
            (Some(reason), _) => SendOutcome::Unknown {
                reason: format!("HTTP {http_status}, but its body is not complete: {reason}"),
            },
            (None, Err(unreadable)) => SendOutcome::Unknown {
                reason: format!("HTTP {http_status}, but {}", clean(&unreadable.to_string(), key)),
            },
            (None, Ok(failed)) => {
                let failed = failed.into_iter().map(|mut record| {
                    clean_record(&mut record, key);
                    record
                });
                let (refused, unmatched) = assign(usage_type, records, failed.collect());
                SendOutcome::Answered { refused, unmatched, http_status }
            }
        },
        Verdict::RefusedWhole => SendOutcome::RefusedWhole { http_status, reason: answer.reason(key) },
        Verdict::TooLarge => SendOutcome::TooLarge { http_status },
        Verdict::Busy { maybe_stored } => SendOutcome::Busy {
            http_status,
            retry_after: answer.retry_after(),
            reason: answer.reason(key),
            maybe_stored,
        },
        Verdict::KeyRefused => SendOutcome::KeyRefused { http_status, reason: answer.reason(key) },
        Verdict::NotTheApi => SendOutcome::Proxy { http_status, reason: answer.not_the_api(key) },
    }
}

/// Finds the record that each refusal is about: by `LocalReference`, else by (Resource, LocalRecordID, SubmitTime).
/// Never by position: the service returns only the failed ones, in an order of its own.
fn assign(
    usage_type: UsageType,
    records: &[&[u8]],
    failed: Vec<FailedRecord>,
) -> (Vec<Refused>, Vec<FailedRecord>) {
    if failed.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let ours: Vec<FailedRecord> =
        records.iter().map(|record| wire::read_record(usage_type, record).unwrap_or_default()).collect();
    let mut by_reference: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, record) in ours.iter().enumerate() {
        if let Some(reference) = &record.local_reference {
            by_reference.entry(reference).or_default().push(index);
        }
        if let Some(id) = &record.local_record_id {
            by_id.entry(id).or_default().push(index);
        }
    }
    let find = |failure: &FailedRecord| -> Vec<usize> {
        let identity: Vec<usize> = failure
            .local_record_id
            .as_deref()
            .and_then(|id| by_id.get(id))
            .into_iter()
            .flatten()
            .copied()
            .filter(|index| ours.get(*index).is_some_and(|record| agrees(record, failure)))
            .collect();
        let reference = failure.local_reference.as_deref().and_then(|reference| by_reference.get(reference));
        match reference {
            // Reference and identity name different records: nobody knows which is meant.
            Some(named) if !identity.is_empty() && !named.iter().any(|index| identity.contains(index)) => {
                Vec::new()
            }
            Some(named) => named.clone(),
            None => {
                let complete = failure.resource.is_some() && failure.submit_time.is_some();
                // What the service left out speaks for no record and against none: one candidate must be left.
                if complete || identity.len() == 1 { identity } else { Vec::new() }
            }
        }
    };
    let mut reasons: Vec<Option<String>> = vec![None; records.len()];
    let mut unmatched = Vec::new();
    for failure in failed {
        let found = find(&failure);
        if found.is_empty() {
            unmatched.push(failure);
            continue;
        }
        for index in found {
            match reasons.get_mut(index) {
                Some(Some(reason)) => {
                    reason.push_str("; ");
                    reason.push_str(&failure.error);
                }
                Some(empty) => *empty = Some(failure.error.clone()),
                None => {}
            }
        }
    }
    let refused = reasons.into_iter().enumerate();
    let refused =
        refused.filter_map(|(index, reason)| reason.map(|reason| Refused { index, reason })).collect();
    (refused, unmatched)
}

/// True where nothing that the failure says of its identity contradicts the record.
fn agrees(record: &FailedRecord, failure: &FailedRecord) -> bool {
    let same = |ours: &Option<String>, theirs: &Option<String>| theirs.is_none() || ours == theirs;
    same(&record.local_record_id, &failure.local_record_id)
        && same(&record.resource, &failure.resource)
        && (failure.submit_time.is_none() || record.submit_time == failure.submit_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKey {
        ApiKey::new("s3cr3t").unwrap()
    }

    fn record(id: &str, submit: &str, reference: &str) -> Vec<u8> {
        format!(
            r#"{{"LocalRecordID":"{id}","Resource":"r","SubmitTime":"2026-10-02T00:00:{submit}Z","LocalReference":"{reference}"}}"#
        )
        .into_bytes()
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() }
    }

    fn judged(records: &[Vec<u8>], failures: &str) -> (Vec<Refused>, Vec<FailedRecord>) {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let body = format!(r#"{{"Message":"m","ValidationFailedRecords":{failures}}}"#);
        match judge(UsageType::Compute, &records, &answer(200, &body), &key()) {
            SendOutcome::Answered { refused, unmatched, http_status: 200 } => (refused, unmatched),
            other => panic!("{other:?}"),
        }
    }

    fn refused(index: usize, reason: &str) -> Refused {
        Refused { index, reason: reason.to_owned() }
    }

    #[test]
    fn refusals_are_matched_by_reference_not_by_position() {
        let records = [record("1", "00", "a"), record("2", "00", "b"), record("3", "00", "c")];
        let (found, unmatched) = judged(
            &records,
            r#"[{"LocalReference":"c","Error":"third"},{"LocalReference":"b","Error":"second"},{"LocalReference":"c","Error":"again"}]"#,
        );
        assert_eq!(found, [refused(1, "second"), refused(2, "third; again")]);
        assert_eq!(unmatched, []);
    }

    #[test]
    fn runs_of_a_requeued_job_are_told_apart_by_submit_time() {
        let records = [record("1", "00", "a"), record("1", "30", "b")];
        let (found, _) = judged(
            &records,
            r#"[{"LocalRecordID":1,"Resource":"r","SubmitTime":"2026-10-02T01:00:30+01:00","Error":"late"}]"#,
        );
        assert_eq!(found, [refused(1, "late")]);
        // Without the submit time nobody knows which.
        let (found, unmatched) =
            judged(&records, r#"[{"LocalRecordID":"1","Resource":"r","Error":"which"}]"#);
        assert_eq!((found.len(), unmatched.len()), (0, 1));
    }

    #[test]
    fn what_the_service_leaves_out_does_not_speak_against_the_only_candidate() {
        let records = [record("1", "00", "a"), record("2", "00", "b")];
        let (found, _) = judged(&records, r#"[{"LocalRecordID":"2","Resource":null,"Error":"no resource"}]"#);
        assert_eq!(found, [refused(1, "no resource")]);
        for foreign in [
            r#"[{"LocalRecordID":"2","Resource":"other","Error":"e"}]"#,
            r#"[{"LocalRecordID":"9","Error":"e"}]"#,
            r#"[{"Error":"e"}]"#,
            r#"["e"]"#,
            // Reference of one record, identity of another.
            r#"[{"LocalReference":"a","LocalRecordID":"2","Resource":"r","SubmitTime":"2026-10-02T00:00:00Z","Error":"e"}]"#,
        ] {
            let (found, unmatched) = judged(&records, foreign);
            assert_eq!((found.len(), unmatched.len()), (0, 1), "{foreign}");
        }
    }

    #[test]
    fn a_reference_is_trusted_where_the_identity_comes_back_changed() {
        let records = [record("1", "00", "a"), record("2", "00", "b")];
        let (found, _) =
            judged(&records, r#"[{"LocalReference":"a","LocalRecordID":"1","Resource":"R","Error":"e"}]"#);
        assert_eq!(found, [refused(0, "e")]);
    }

    #[test]
    fn storage_and_adjustments_are_matched_by_their_own_times() {
        for (usage_type, field) in
            [(UsageType::Storage, "CollectionTime"), (UsageType::Adjustment, "StartTime")]
        {
            let one = format!(r#"{{"LocalRecordID":"s","Resource":"r","{field}":"2026-10-02T00:00:00Z"}}"#);
            let two = format!(r#"{{"LocalRecordID":"s","Resource":"r","{field}":"2026-10-03T00:00:00Z"}}"#);
            let body = format!(
                r#"{{"ValidationFailedRecords":[{{"UsageType":"{usage_type}","LocalRecordID":"s","Resource":"r","{field}":"2026-10-03T00:00:00Z","Error":"e"}}]}}"#
            );
            let outcome = judge(usage_type, &[one.as_bytes(), two.as_bytes()], &answer(200, &body), &key());
            let SendOutcome::Answered { refused: found, unmatched, .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!((found, unmatched.len()), (vec![refused(1, "e")], 0));
        }
    }

    #[test]
    fn a_2xx_that_cannot_be_read_is_unknown() {
        for body in ["", "OK", "{}", "<html><title>Guest network</title>", r#"{"Message":"ok","#] {
            let outcome = judge(UsageType::Compute, &[], &answer(200, body), &key());
            assert!(matches!(outcome, SendOutcome::Unknown { .. }), "{body}: {outcome:?}");
        }
        let cut = Answer { broken: Some("cut off".to_owned()), ..answer(200, r#"{"Message":"ok"}"#) };
        assert!(matches!(judge(UsageType::Compute, &[], &cut, &key()), SendOutcome::Unknown { .. }));
    }

    #[test]
    fn a_page_with_403_is_a_proxy_and_json_is_the_api() {
        let judged = |status, body| judge(UsageType::Compute, &[], &answer(status, body), &key());
        assert_eq!(
            judged(403, r#"{"error":"bad key s3cr3t"}"#),
            SendOutcome::KeyRefused { http_status: 403, reason: "bad key ****".to_owned() }
        );
        assert!(matches!(judged(401, ""), SendOutcome::KeyRefused { .. }));
        let SendOutcome::Proxy { reason, .. } = judged(403, "<title>Blocked</title>") else { panic!() };
        assert!(reason.contains("proxy") && reason.contains("Blocked"), "{reason}");
    }

    #[test]
    fn a_redirect_says_where_to_and_what_to_do() {
        let answer =
            Answer { location: Some("https://new.example.org/\u{1b}".to_owned()), ..answer(308, "") };
        let SendOutcome::Proxy { reason, .. } = judge(UsageType::Compute, &[], &answer, &key()) else {
            panic!()
        };
        assert!(
            reason.contains("https://new.example.org/\\u{1b}") && reason.contains("API address"),
            "{reason}"
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let after = |retry_after: &str, date: Option<&str>| {
            Answer { retry_after: Some(retry_after.into()), date: date.map(Into::into), ..Answer::default() }
                .retry_after()
        };
        let date = Some("Fri, 02 Oct 2026 00:00:00 GMT");
        assert_eq!(after("120", None), Some(Duration::from_secs(120)));
        assert_eq!(after("0", None), Some(Duration::ZERO));
        assert_eq!(after("99999999999999999999999", None), Some(Duration::from_secs(86_400)));
        assert_eq!(after("Fri, 02 Oct 2026 00:01:30 GMT", date), Some(Duration::from_secs(90)));
        assert_eq!(after("Thu, 01 Oct 2026 00:00:00 GMT", date), Some(Duration::ZERO));
        assert_eq!(after("Fri, 02 Oct 2099 00:01:30 GMT", date), Some(Duration::from_secs(86_400)));
        assert_eq!(after("Fri, 02 Oct 2026 00:01:30 GMT", None), None);
        for nonsense in ["", "soon", "-5", "1.5"] {
            assert_eq!(after(nonsense, date), None, "{nonsense}");
        }
    }
}

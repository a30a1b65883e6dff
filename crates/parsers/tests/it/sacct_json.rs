//! `sacct --json`: what is shared by its tests.

mod hostile;
mod properties;
mod shapes;
mod table;

use parsers::{Finding, Frame, Kind, Place, Quarantined, Reason, Run, State, sacct_json};

pub(crate) use crate::sacct::{fixture, tsv};

/// A frame that outlives the call in which it was handed out: everything that it says, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) place: Place,
    pub(crate) text: Vec<u8>,
    pub(crate) said: Said,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Run(Box<Facts>),
    Quarantined(Reason),
}

/// What a run says, besides its text and place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::type_complexity)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    pub(crate) job_id: String,
    pub(crate) raw_id: String,
    pub(crate) cluster: String,
    /// user, account, partition, qos, reservation, name
    pub(crate) words: [Option<Vec<u8>>; 6],
    pub(crate) state: State,
    pub(crate) state_text: String,
    /// submit, eligible, start, end
    pub(crate) times: [Option<i64>; 4],
    /// elapsed, suspended
    pub(crate) seconds: [Option<u64>; 2],
    /// nodes, cores, gpus, mem_bytes, billing
    pub(crate) counts: [Option<u64>; 5],
    pub(crate) allocated: bool,
    /// The same of what was asked for, without billing.
    pub(crate) requested: [Option<u64>; 4],
    pub(crate) exit: [Option<i32>; 2],
    pub(crate) finding: Option<Finding>,
}

impl Facts {
    pub(crate) fn of(run: &Run<'_>) -> Self {
        let word = |word: Option<&bstr::BStr>| word.map(|word| word.to_vec());
        Self {
            kind: run.kind,
            job_id: run.job_id.to_string(),
            raw_id: run.raw_id.to_string(),
            cluster: run.cluster.map(ToString::to_string).unwrap_or_default(),
            words: [run.user, run.account, run.partition, run.qos, run.reservation, run.name].map(word),
            state: run.state,
            state_text: run.state_text.to_string(),
            times: [run.submit, run.eligible, run.start, run.end],
            seconds: [run.elapsed, run.suspended],
            counts: [run.nodes, run.cores, run.gpus, run.mem_bytes, run.billing],
            allocated: run.allocated,
            requested: [
                run.requested.nodes,
                run.requested.cores,
                run.requested.gpus,
                run.requested.mem_bytes,
            ],
            exit: [run.exit_code, run.signal],
            finding: run.finding,
        }
    }
}

/// The frames of a list of elements.
pub(crate) fn frames(elements: &[u8]) -> Vec<Owned> {
    let mut frames = Vec::new();
    sacct_json::read(elements, |frame| {
        frames.push(match frame {
            Frame::Run(run) => Owned {
                place: run.place,
                text: run.text.to_vec(),
                said: Said::Run(Box::new(Facts::of(&run))),
            },
            Frame::Quarantined(Quarantined { reason, text, place }) => {
                Owned { place, text: text.to_vec(), said: Said::Quarantined(reason) }
            }
            Frame::Note(note) => panic!("{note:?}"),
        });
    });
    frames
}

/// The runs of a whole document of which nothing is quarantined, parents included.
pub(crate) fn facts(document: &[u8]) -> Vec<Facts> {
    let survey = sacct_json::survey(document).unwrap();
    let fact = |frame: Owned| match frame.said {
        Said::Run(facts) => *facts,
        Said::Quarantined(reason) => panic!("{reason}: {}", frame.text.escape_ascii()),
    };
    let facts: Vec<_> = frames(survey.slice(document)).into_iter().map(fact).collect();
    assert_eq!(facts.len() as u64, survey.count);
    facts
}

/// A document with these elements.
pub(crate) fn document(elements: &str) -> Vec<u8> {
    format!("{{\"jobs\": [{elements}], \"errors\": [], \"warnings\": []}}").into_bytes()
}

/// An element with everything that there must be, and `more` in front of it.
pub(crate) fn element(id: u64, more: &str) -> String {
    format!(
        r#"{{{more}"job_id": {id}, "cluster": "testhpc", "account": "tg-abc123456", "state": {{"current": ["COMPLETED"]}},
        "time": {{"submission": 100, "start": 200, "end": 300, "elapsed": 100}},
        "tres": {{"allocated": [{{"type": "cpu", "name": "", "id": 1, "count": 4}}]}}}}"#
    )
}

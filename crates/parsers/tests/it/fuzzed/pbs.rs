//! Any bytes as a PBS accounting log, and any text in the places of a record that users write.

use super::folded::{Folded, Folding};
use super::{conserved, moved, newlines, same, text_of};
use parsers::pbs::{Events, Fold, FoldOptions, Options, Reader, cut, last_record};
use parsers::{Finding, Frame, Kind, Run};
use std::sync::LazyLock;

/// A record of OpenPBS and one of TORQUE, whose account is `lab7`.
const OPENPBS: &str = "11/23/2026 02:29:41;E;1.srv;user=alice group=physics account=\"lab7\" project=_pbs_project_default \
                       jobname=plain queue=workq ctime=1795426177 qtime=1795426177 etime=1795426177 start=1795426177 \
                       exec_host=n01/0*2 exec_vnode=(n01:ncpus=2) Resource_List.ncpus=2 Resource_List.nodect=1 \
                       Resource_List.place=pack Resource_List.select=1:ncpus=2 Resource_List.walltime=01:00:00 session=26052 \
                       end=1795426181 Exit_status=0 resources_used.cpupercent=0 resources_used.cput=00:00:00 \
                       resources_used.mem=0kb resources_used.ncpus=2 resources_used.vmem=0kb resources_used.walltime=00:00:03 \
                       eligible_time=00:00:02 run_count=1\n";
const TORQUE: &str = "11/23/2026 03:07:19;E;1.trqsrv;user=alice group=physics account=lab7 jobname=plain queue=batch \
                      ctime=1795428436 qtime=1795428436 etime=1795428436 start_count=1 start=1795428436 \
                      owner=alice@trqsrv exec_host=trqsrv/0-1 Resource_List.nodes=1:ppn=2 Resource_List.mem=100mb \
                      Resource_List.nodect=1 Resource_List.neednodes=1:ppn=2 Resource_List.walltime=01:00:00 session=31930 \
                      total_execution_slots=2 unique_node_count=1 end=1795428439 Exit_status=0 resources_used.cput=0 \
                      resources_used.vmem=0kb resources_used.walltime=00:00:03 resources_used.mem=0kb \
                      resources_used.energy_used=0\n";

static HONEST: LazyLock<[Run<'static>; 2]> = LazyLock::new(|| {
    [OPENPBS, TORQUE].map(|record| match frames(record.as_bytes()).as_slice() {
        [Frame::Run(run)] => run.clone(),
        other => panic!("{other:?}"),
    })
});

/// The first byte says what the rest is: a log (and the sizes of its blocks), or the account of a record.
pub(crate) fn check(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else { return };
    match how & 3 {
        2 => account(0, rest),
        3 => account(1, rest),
        _ => log(rest, &[usize::from(how >> 2 & 7) * 9 + 1, usize::from(how >> 5) * 200 + 1]),
    }
}

fn log(log: &[u8], sizes: &[usize]) {
    let whole = frames(log);
    conserved(whole.iter().map(text_of), log);
    same(&in_blocks(log, sizes), &whole);
    folds(log, sizes);
    for frame in &whole {
        let Frame::Run(run) = frame else { continue };
        assert!(matches!(&**run.state_text, b"E" | b"R"), "{run:?}");
        assert!(run.user.is_some() && run.end.is_some(), "{run:?}");
        assert!(run.finding.is_some() || run.start.is_none_or(|start| Some(start) <= run.end), "{run:?}");
    }
}

/// What the fold makes of a log does not depend on its blocks, nor on where its state was saved and loaded; the log read a second
/// time has no run that the first had not, but what a torn end set aside. Bytes as a saved state are refused, or are one.
fn folds(log: &[u8], sizes: &[usize]) {
    let options = Options::default();
    let mut whole = Folding::new(&options, &[usize::MAX], None);
    let mut blocks = Folding::new(&options, sizes, Some(2));
    let first = whole.file(1, log);
    assert!(first == blocks.file(1, log), "{}", log.escape_ascii());
    assert_eq!(whole.fold.open_runs(), blocks.fold.open_runs());
    for folded in &first {
        let Folded::Frame(Frame::Run(run)) = folded else { continue };
        if !run.phases.is_empty() {
            assert_eq!(run.elapsed, Some(run.phases.iter().map(|phase| phase.seconds).sum()), "{run:?}");
            let span = run.end.zip(run.start).map_or(0, |(end, start)| end.abs_diff(start));
            assert!(run.elapsed <= Some(span) || run.finding.is_some() || has_restarts(&whole), "{run:?}");
        }
    }
    let second = whole.file(2, log);
    assert_eq!(first.len(), second.len());
    for (one, two) in first.iter().zip(&second) {
        match (one, two) {
            (Folded::Frame(Frame::Run(run)), Folded::Frame(Frame::Run(again))) => {
                // Arrays as a whole, and what no server can have written, are not remembered.
                let remembered = run.kind == Kind::Run && run.finding != Some(Finding::DateDisagrees);
                assert!(!remembered, "{run:?}\n{again:?}");
            }
            (Folded::Frame(Frame::Run(_)) | Folded::Repeated { .. }, Folded::Repeated { .. }) => {}
            (one, two) => assert!(one == two, "{one:?}\n{two:?}"),
        }
    }
    let _ = Fold::load(log, &FoldOptions::default());
}

/// A run goes on over a restart of the server, its start does not.
fn has_restarts(folding: &Folding) -> bool {
    folding.fold.counts().server_restarts > 0
}

/// Whatever an account holds, short of the start of a record: the run is read with its true values or not at all.
fn account(server: usize, account: &[u8]) {
    if account.windows(22).any(begins_a_record) {
        return;
    }
    let record = [OPENPBS, TORQUE][server];
    let (head, tail) = record.split_once("lab7").expect("it is there");
    let text = [head.as_bytes(), account, tail.as_bytes()].concat();
    for frame in frames(&text) {
        let Frame::Run(run) = frame else { continue };
        let quoted =
            server == 1 && account.len() > 1 && account.starts_with(b"\"") && account.ends_with(b"\"");
        let expected = if quoted { &account[1..account.len() - 1] } else { account };
        assert_eq!(run.account.map_or(&b""[..], |account| account), expected);
        let honest = &HONEST[server];
        let expected = Run { account: run.account, text: run.text, place: run.place, ..honest.clone() };
        assert_eq!(run, expected);
    }
}

fn begins_a_record(text: &[u8]) -> bool {
    text.iter().zip(b"00/00/0000 00:00:00;?;").all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        b'?' => true,
        other => byte == other,
    })
}

/// The frames of a whole log.
pub(crate) fn frames(log: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    Reader::default()
        .frames(log, 0..log.len(), true, &mut Events::default(), &mut |frame| frames.push(frame));
    frames
}

/// Reads a log as a program does that holds no more than a block.
fn in_blocks<'a>(log: &'a [u8], sizes: &[usize]) -> Vec<Frame<'a>> {
    let (mut events, mut frames) = (Events::default(), Vec::new());
    let (mut context, mut start, mut end, mut line) = (0, 0, 0, 0);
    let mut sizes = sizes.iter().copied().cycle();
    while start < log.len() {
        end = (end + sizes.next().unwrap_or(1)).min(log.len());
        let last = end == log.len();
        let whole = if last { end - start } else { cut(&log[start..end]) };
        if whole == 0 {
            continue;
        }
        let body = &log[start..start + whole];
        let (text, within) = (&log[context..start + whole], start - context..start + whole - context);
        Reader::default().frames(text, within, last, &mut events, &mut |frame| {
            frames.push(moved(frame, start, line));
        });
        context = start + last_record(body);
        line += newlines(body);
        start += whole;
    }
    frames
}

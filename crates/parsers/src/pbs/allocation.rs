//! What a job was given: `exec_vnode`, `exec_host`, and TORQUE's `nodes` requests.

use super::message::GpuNames;
use super::value::{size, span, sum, until};
use nom::branch::alt;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::{char, u64 as uint};
use nom::combinator::{all_consuming, map, map_opt, opt};
use nom::multi::fold_many0;
use nom::sequence::{delimited, preceded, separated_pair, terminated};
use nom::{IResult, Parser};

/// Different names, counted.
#[derive(Debug, Clone, Default)]
struct Distinct<'a> {
    first: Option<&'a [u8]>,
    /// Names other than the one before them. Most jobs run on one host: no allocation for them.
    others: Vec<&'a [u8]>,
}

impl<'a> Distinct<'a> {
    fn add(&mut self, name: &'a [u8]) {
        match self.others.last().copied().or(self.first) {
            None => self.first = Some(name),
            Some(last) if last != name => self.others.push(name),
            Some(_) => {}
        }
    }

    fn count(mut self) -> u64 {
        if self.others.is_empty() {
            return u64::from(self.first.is_some());
        }
        self.others.extend(self.first);
        self.others.sort_unstable();
        self.others.dedup();
        self.others.len() as u64
    }
}

/// What `exec_vnode` lists.
#[derive(Debug, Clone, Default)]
pub(super) struct Vnodes<'a> {
    /// Sum of `ncpus`; `None` where no vnode has any.
    pub(super) ncpus: Option<u64>,
    /// Sum of the resources that count GPUs: 0 where no vnode has any.
    pub(super) ngpus: u64,
    /// Sum of `mem`, bytes; `None` where no vnode has any.
    pub(super) mem: Option<u64>,
    hosts: Distinct<'a>,
}

impl<'a> Vnodes<'a> {
    /// With one more vnode; `None` where a sum does not fit.
    fn with(mut self, vnode: Vnode<'a>) -> Option<Self> {
        self.ncpus = add(self.ncpus, vnode.ncpus)?;
        self.ngpus = self.ngpus.checked_add(vnode.ngpus)?;
        self.mem = add(self.mem, vnode.mem)?;
        // `n03[0]` and `n03[1]` are vnodes of the host n03.
        let host = vnode.name.split(|&byte| byte == b'[').next().unwrap_or(vnode.name);
        self.hosts.add(host);
        Some(self)
    }

    /// Different hosts.
    pub(super) fn hosts(self) -> u64 {
        self.hosts.count()
    }
}

/// The sum of what is there; `None` where it does not fit.
#[expect(clippy::option_option, reason = "the outer one is for the overflow")]
fn add(sum: Option<u64>, more: Option<u64>) -> Option<Option<u64>> {
    match (sum, more) {
        (Some(sum), Some(more)) => sum.checked_add(more).map(Some),
        (sum, more) => Some(sum.or(more)),
    }
}

/// `(vnode+vnode...)+(vnode...)`: chunks joined by `+`, each of vnodes joined by `+`. Where a chunk ends does not matter here.
pub(super) fn exec_vnode<'a>(input: &'a [u8], gpus: &GpuNames) -> IResult<&'a [u8], Vnodes<'a>> {
    let vnode = |input| vnode(input, gpus);
    let (input, first) = preceded(char('('), vnode).parse(input)?;
    let (input, first) =
        map_opt(nom::combinator::success(()), |()| Vnodes::default().with(first)).parse(input)?;
    let next = preceded(alt((tag(")+("), tag("+"))), vnode);
    let all = fold_many0(next, || Some(first.clone()), |sums: Option<Vnodes<'_>>, vnode| sums?.with(vnode));
    terminated(map_opt(all, |sums| sums), char(')')).parse(input)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Vnode<'a> {
    name: &'a [u8],
    ncpus: Option<u64>,
    ngpus: u64,
    mem: Option<u64>,
}

/// `name:resource=value:...`. It may have no resources (`place=exclhost` lists the rest of the host so), and they stand in any order.
fn vnode<'a>(input: &'a [u8], gpus: &GpuNames) -> IResult<&'a [u8], Vnode<'a>> {
    let (input, name) = until(b":+()").parse(input)?;
    let bare = Vnode { name, ..Vnode::default() };
    let all = fold_many0(
        preceded(char(':'), |input| resource(input, gpus)),
        || Some(bare),
        |vnode: Option<Vnode<'_>>, given| {
            let vnode = vnode?;
            Some(match given {
                Given::Ncpus(count) => Vnode { ncpus: add(vnode.ncpus, Some(count))?, ..vnode },
                Given::Ngpus(count) => Vnode { ngpus: vnode.ngpus.checked_add(count)?, ..vnode },
                Given::Mem(bytes) => Vnode { mem: add(vnode.mem, Some(bytes))?, ..vnode },
                Given::Other => vnode,
            })
        },
    );
    map_opt(all, |vnode| vnode).parse(input)
}

/// A resource of a vnode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Ncpus(u64),
    Ngpus(u64),
    Mem(u64),
    Other,
}

/// `name=value`; a value may be quoted text.
fn resource<'a>(input: &'a [u8], gpus: &GpuNames) -> IResult<&'a [u8], Given> {
    let (input, name) = terminated(until(b"=:+()"), char('=')).parse(input)?;
    match name {
        b"ncpus" => map(uint, Given::Ncpus).parse(input),
        b"mem" => map(size, Given::Mem).parse(input),
        _ if gpus.contains(name) => map(uint, Given::Ngpus).parse(input),
        _ => {
            let quoted = alt((
                delimited(char('"'), take_until("\""), char('"')),
                delimited(char('\''), take_until("'"), char('\'')),
            ));
            map(opt(alt((quoted, until(b":+()")))), |_| Given::Other).parse(input)
        }
    }
}

/// What `exec_host` lists.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts<'a> {
    /// Execution slots. PBS Pro gives 0 for a chunk that is split over vnodes: there they are no count of cores.
    pub(super) slots: u64,
    hosts: Distinct<'a>,
}

impl<'a> Hosts<'a> {
    fn with(mut self, (host, slots): (&'a [u8], u64)) -> Option<Self> {
        self.slots = self.slots.checked_add(slots)?;
        self.hosts.add(host);
        Some(self)
    }

    /// Different hosts.
    pub(super) fn hosts(self) -> u64 {
        self.hosts.count()
    }
}

/// `host/index+host/index...`.
pub(super) fn exec_host(input: &[u8]) -> IResult<&[u8], Hosts<'_>> {
    let (input, first) = map_opt(host, |host| Hosts::default().with(host)).parse(input)?;
    let all = fold_many0(
        preceded(char('+'), host),
        || Some(first.clone()),
        |sums: Option<Hosts<'_>>, host| sums?.with(host),
    );
    map_opt(all, |sums| sums).parse(input)
}

/// `host/3` is one slot, `host/3*32` (PBS Pro) 32, `host/0-3,7` (TORQUE since 5.1) five.
fn host(input: &[u8]) -> IResult<&[u8], (&[u8], u64)> {
    let slots = |input| {
        let (input, indices) = sum(',', span)(input)?;
        let (input, times) = opt(preceded(char('*'), uint)).parse(input)?;
        Ok((input, times.unwrap_or(indices)))
    };
    separated_pair(until(b"/+"), char('/'), slots).parse(input)
}

/// What a `nodes` request says: `2:ppn=4:gpus=1+host7:ppn=2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NodesRequest {
    /// Nodes.
    pub(super) nodes: u64,
    /// `ppn`, 1 where it is not given, times nodes.
    pub(super) cores: u64,
    /// `gpus` times nodes.
    pub(super) gpus: u64,
}

/// Parts joined by `+`, each of a count of nodes or a node's name or property, and of properties; `#shared` and the like follow it all.
pub(super) fn nodes_request(input: &[u8]) -> IResult<&[u8], NodesRequest> {
    let (input, first) = nodes_part(input)?;
    let all = fold_many0(
        preceded(char('+'), nodes_part),
        || Some(first),
        |sum: Option<NodesRequest>, part| {
            let sum = sum?;
            Some(NodesRequest {
                nodes: sum.nodes.checked_add(part.nodes)?,
                cores: sum.cores.checked_add(part.cores)?,
                gpus: sum.gpus.checked_add(part.gpus)?,
            })
        },
    );
    let flags = opt(preceded(char('#'), nom::combinator::rest));
    terminated(map_opt(all, |sum| sum), flags).parse(input)
}

/// An item of a part of a `nodes` request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Ppn(u64),
    Gpus(u64),
    Property,
}

fn nodes_part(input: &[u8]) -> IResult<&[u8], NodesRequest> {
    let (input, first) = until(b":+#").parse(input)?;
    let nodes =
        all_consuming(uint::<&[u8], nom::error::Error<&[u8]>>).parse(first).map_or(1, |(_, count)| count);
    let item = alt((
        map(preceded(tag("ppn="), uint), Item::Ppn),
        map(preceded(tag("gpus="), uint), Item::Gpus),
        map(until(b":+#="), |_| Item::Property),
    ));
    // `key=value` of other kinds (`mics=1`) says nothing of cores and GPUs.
    let item = terminated(item, opt(preceded(char('='), opt(until(b":+#")))));
    map_opt(
        fold_many0(
            preceded(char(':'), item),
            || (1_u64, 0_u64),
            |(ppn, gpus), item| match item {
                Item::Ppn(count) => (count, gpus),
                Item::Gpus(count) => (ppn, count),
                Item::Property => (ppn, gpus),
            },
        ),
        |(ppn, gpus)| {
            Some(NodesRequest { nodes, cores: nodes.checked_mul(ppn)?, gpus: nodes.checked_mul(gpus)? })
        },
    )
    .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ncpus, ngpus, mem, hosts, and what is left.
    type Summed<'a> = (Option<u64>, u64, Option<u64>, u64, &'a [u8]);

    fn vnodes(text: &str) -> Option<Summed<'_>> {
        counting(&["ngpus"], text)
    }

    fn counting<'a>(gpus: &[&str], text: &'a str) -> Option<Summed<'a>> {
        let gpus = GpuNames(gpus.iter().map(|name| name.as_bytes().into()).collect());
        let (rest, vnodes) = exec_vnode(text.as_bytes(), &gpus).ok()?;
        Some((vnodes.ncpus, vnodes.ngpus, vnodes.mem, vnodes.hosts(), rest))
    }

    fn hosts(text: &str) -> Option<(u64, u64, &[u8])> {
        let (rest, hosts) = exec_host(text.as_bytes()).ok()?;
        Some((hosts.slots, hosts.hosts(), rest))
    }

    fn nodes(text: &str) -> Option<(u64, u64, u64)> {
        let (rest, request) = nodes_request(text.as_bytes()).ok()?;
        rest.is_empty().then_some((request.nodes, request.cores, request.gpus))
    }

    const REST: &[u8] = b"";
    const KIB: u64 = 1024;

    #[test]
    fn vnodes_are_summed_over_chunks() {
        assert_eq!(vnodes("(n01:ncpus=1)"), Some((Some(1), 0, None, 1, REST)));
        assert_eq!(
            vnodes("(n01:ncpus=2:mem=1048576kb)+(n02:ncpus=2:mem=1048576kb)+(n03[0]:ncpus=2:mem=1048576kb)"),
            Some((Some(6), 0, Some(3 * 1_048_576 * KIB), 3, REST))
        );
        assert_eq!(
            vnodes("(n1:ncpus=4)+(n2:ncpus=4) Resource"),
            Some((Some(8), 0, None, 2, &b" Resource"[..]))
        );
    }

    #[test]
    fn a_chunk_split_over_vnodes_of_one_host_is_one_node() {
        assert_eq!(
            vnodes("(n03[0]:mem=8388608kb:ngpus=2:ncpus=4+n03[1]:mem=1048576kb:ngpus=1:ncpus=2)"),
            Some((Some(6), 3, Some(9_437_184 * KIB), 1, REST))
        );
    }

    #[test]
    fn exclhost_filler_has_no_resources() {
        assert_eq!(vnodes("(n03[1]:ncpus=1)+(n03)+(n03[0])"), Some((Some(1), 0, None, 1, REST)));
        assert_eq!(vnodes("(n03)"), Some((None, 0, None, 1, REST)));
    }

    #[test]
    fn other_resources_and_quoted_values_are_passed_over() {
        assert_eq!(
            vnodes("(a-1.b:os=\"x:y+z)\":ncpus=3:foo='(':bar=1.5:empty=:ngpus=1)"),
            Some((Some(3), 1, None, 1, REST))
        );
        assert_eq!(vnodes("(n1:mem=2gb:mem=1gb)"), Some((None, 0, Some(3 * KIB.pow(3)), 1, REST)));
    }

    #[test]
    fn a_site_names_the_resources_that_count_gpus() {
        let text = "(n1:naccelerators=2:ngpus=1:ncpus=1)+(n1:mig=4)";
        assert_eq!(counting(&["naccelerators"], text), Some((Some(1), 2, None, 1, REST)));
        assert_eq!(counting(&["naccelerators", "mig"], text), Some((Some(1), 6, None, 1, REST)));
        assert_eq!(counting(&[], text), Some((Some(1), 0, None, 1, REST)));
    }

    #[test]
    fn what_is_no_exec_vnode_is_refused() {
        for text in [
            "",
            "n01",
            "()",
            "(n01",
            "(n01:ncpus=)",
            "(n01:ncpus=-1)",
            "(n01:ncpus)",
            "(:ncpus=1)",
            "(n01+)",
            "(n01:ncpus=18446744073709551615)+(n02:ncpus=1)",
        ] {
            assert_eq!(vnodes(text), None, "{text}");
        }
        assert_eq!(
            vnodes("(n01)+"),
            Some((None, 0, None, 1, &b"+"[..])),
            "what is left is seen by the caller"
        );
        assert_eq!(vnodes("(n01:ncpus=1x)"), None);
    }

    #[test]
    fn slots_of_exec_host() {
        for (text, slots, count) in [
            ("n01/0", 1, 1),
            ("n01/5*2+n02/1*2", 4, 2),
            ("n03/0*0", 0, 1),
            ("n03/2+n03/4*0+n03/5*0", 1, 1),
            ("h/0*32", 32, 1),
            ("trqsrv/0+trqsrv/3-4", 3, 1),
            ("h/0-3,7,9-10", 7, 1),
            ("dnode011/0-15+dnode010/0-15+dnode009/0-15+dnode008/0-15", 64, 4),
            ("a/0+b/0+a/1+b/1", 4, 2),
        ] {
            assert_eq!(hosts(text), Some((slots, count, REST)), "{text}");
        }
        assert_eq!(hosts("n01/0 exec"), Some((1, 1, &b" exec"[..])));
        for text in ["", "n01", "/0", "n01/", "n01/x", "n01/3-1", "a/0-18446744073709551614+b/0-1"] {
            assert_eq!(hosts(text), None, "{text}");
        }
    }

    #[test]
    fn nodes_requests_multiply_by_their_count() {
        for (text, expected) in [
            ("1", (1, 1, 0)),
            ("1:ppn=2", (1, 2, 0)),
            ("1:ppn=28:gpus=2", (1, 28, 2)),
            ("2:ppn=4:gpus=2", (2, 8, 4)),
            ("1:ppn=2+1:ppn=1", (2, 3, 0)),
            ("1:ppn=28:gpus=1:default", (1, 28, 1)),
            ("16:myrinet", (16, 16, 0)),
            ("node2801.banette:ppn=2+node2803.banette:ppn=2", (2, 4, 0)),
            ("pion1112+pion1113", (2, 2, 0)),
            ("2:gpus=1:mics=3#shared", (2, 2, 2)),
        ] {
            assert_eq!(nodes(text), Some(expected), "{text}");
        }
        for text in ["", "+", "1:", "1:ppn=1+", "9999999999999:ppn=9999999999999"] {
            assert_eq!(nodes(text), None, "{text}");
        }
    }
}

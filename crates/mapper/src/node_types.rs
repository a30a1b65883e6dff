//! Which type the nodes of a run are of, by partition and by the names of its hosts.

use crate::keys::Keys;
use crate::problems::Problems;
use crate::projects::compile_regex;
use crate::spec::{NodeTypeSpec, RulePlace};
use crate::text::{shown, unfit};
use parsers::{HostsError, Run};
use regex::bytes::Regex;

/// A compiled `[[node_type]]`.
#[derive(Debug)]
pub(crate) struct NodeType {
    pub(crate) name: String,
    cluster: Vec<String>,
    partition: Vec<String>,
    /// Anchored; without any, every host is of this type.
    hosts: Vec<Regex>,
    pub(crate) cores: Option<u64>,
    pub(crate) gpus: Option<u64>,
}

/// What the type of a run's nodes is.
#[derive(Debug, Clone)]
pub(crate) enum NodeTypeAnswer<'r> {
    Of(&'r NodeType),
    /// No `[[node_type]]` covers them.
    None,
    /// The hosts differ: two of them and their types.
    Several([String; 2]),
    /// The hosts decide, and are not known.
    NoHosts(HostsError),
}

impl NodeType {
    fn meets(&self, keys: &Keys<'_>) -> bool {
        let one_of = |list: &[String], value: Option<&bstr::BStr>| {
            list.is_empty()
                || value.is_some_and(|value| list.iter().any(|wanted| *wanted.as_bytes() == **value))
        };
        one_of(&self.cluster, keys.cluster) && one_of(&self.partition, keys.partition)
    }

    fn is_host(&self, host: &[u8]) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.is_match(host))
    }
}

pub(crate) fn compile(specs: Vec<NodeTypeSpec>, problems: &mut Problems) -> Vec<NodeType> {
    let compile_one = |(index, spec): (usize, NodeTypeSpec)| {
        let place = RulePlace::NodeType { index };
        if let Some(why) = unfit(&spec.name) {
            problems.error(place, format!("the node type's name {why}"), None);
        }
        let hosts = spec.hosts.iter().filter_map(|pattern| compile_regex(pattern, place, problems)).collect();
        for (what, count) in [("cores", spec.cores), ("gpus", spec.gpus)] {
            // Nodes without GPUs are told so by gpus = 0; a node without cores runs nothing.
            if count.is_some_and(|count| count > 1 << 20) || (what == "cores" && count == Some(0)) {
                problems.error(place, format!("{what}: no node has so many"), None);
            }
        }
        NodeType {
            name: spec.name,
            cluster: spec.cluster,
            partition: spec.partition,
            hosts,
            cores: spec.cores,
            gpus: spec.gpus,
        }
    };
    specs.into_iter().enumerate().map(compile_one).collect()
}

/// The types that a run with `keys` can be of, in the order in which they are tried.
pub(crate) fn candidates<'r>(types: &'r [NodeType], keys: &Keys<'_>) -> Vec<&'r NodeType> {
    types.iter().filter(|one| one.meets(keys)).collect()
}

/// The type of all hosts of `run`: each is of the first candidate that its name matches.
pub(crate) fn decide<'r>(candidates: &[&'r NodeType], run: Option<&Run<'_>>) -> NodeTypeAnswer<'r> {
    match candidates.first() {
        None => return NodeTypeAnswer::None,
        Some(first) if first.hosts.is_empty() => return NodeTypeAnswer::Of(first),
        Some(_) => {}
    }
    let Some(run) = run else { return NodeTypeAnswer::NoHosts(HostsError::NotListed) };
    let name = |found: Option<&NodeType>| found.map_or("of no type", |found| found.name.as_str()).to_owned();
    let mut first: Option<(String, Option<&'r NodeType>)> = None;
    let mut several = None;
    let read = run.each_host(|host| {
        let found = candidates.iter().copied().find(|one| one.is_host(host));
        match &first {
            None => first = Some((shown(host), found)),
            Some((other, before)) if before.map(std::ptr::from_ref) != found.map(std::ptr::from_ref) => {
                several.get_or_insert_with(|| {
                    [format!("{other} is {}", name(*before)), format!("{} is {}", shown(host), name(found))]
                });
            }
            Some(_) => {}
        }
    });
    match (read, several, first) {
        (Err(error), ..) => NodeTypeAnswer::NoHosts(error),
        (Ok(()), Some(two), _) => NodeTypeAnswer::Several(two),
        (Ok(()), None, Some((_, Some(found)))) => NodeTypeAnswer::Of(found),
        (Ok(()), None, _) => NodeTypeAnswer::None,
    }
}

impl NodeTypeAnswer<'_> {
    /// What is wrong and what to do, where the type is not known.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::Of(_) | Self::None => None,
            Self::Several([one, other]) => Some(format!(
                "the run's nodes are of several types ({one}, {other}), and the charge depends on the type: waive the run and charge it by hand, or write a formula that does without"
            )),
            Self::NoHosts(error) => Some(format!(
                "the charge depends on the type of the run's nodes, which [[node_type]] tells by their names, and {error}: sacct gives them in NodeList, PBS in exec_host"
            )),
        }
    }

    /// For explanations.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Of(found) => found.name.clone(),
            Self::None => "none".to_owned(),
            Self::Several(_) => "several".to_owned(),
            Self::NoHosts(_) => "not known".to_owned(),
        }
    }
}

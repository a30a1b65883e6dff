//! What a message says of cores, nodes, GPUs and memory: asked for, given, taken from others.

use super::allocation::{NodesRequest, exec_host, exec_vnode, nodes_request};
use super::key::Key;
use super::message::{GpuNames, Message, Resource};
use super::value::{A_NUMBER, refused, size, whole};
use crate::run::{Assigned, Reason, Requested};
use nom::character::complete::u64 as uint;

const A_SIZE: &str = "a size like 10gb";

/// The sum of numbers of one kind; `None` where there are none.
fn sum<'a>(name: &'static str, values: impl Iterator<Item = &'a [u8]>) -> Result<Option<u64>, Reason> {
    let mut sum = None;
    for value in values {
        let more: u64 = whole(name, value, uint, A_NUMBER)?;
        let total = sum.map_or(Some(more), |sum: u64| sum.checked_add(more));
        sum = Some(total.ok_or_else(|| refused(name, value, "a sum that fits"))?);
    }
    Ok(sum)
}

/// What was asked for, in all forms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Request {
    ncpus: Option<u64>,
    nodect: Option<u64>,
    gpus: Option<u64>,
    mem: Option<u64>,
    nodes: Option<NodesRequest>,
    cray: Option<Cray>,
}

/// Cray: the job proper runs where `exec_vnode` does not tell.
#[derive(Debug, Clone, Copy)]
struct Cray {
    cores: u64,
    nodes: Option<u64>,
}

impl Request {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Reason> {
        let number = |resource: Resource| {
            message.requested(resource).map(|text| whole(resource.name(), text, uint, A_NUMBER)).transpose()
        };
        let nodes = [Resource::Nodes, Resource::Neednodes]
            .into_iter()
            .find_map(|resource| Some((resource, message.requested(resource)?)))
            .map(|(resource, text)| {
                whole(resource.name(), text, nodes_request, "a request like 2:ppn=4:gpus=1")
            })
            .transpose()?;
        let mem = message
            .requested(Resource::Mem)
            .map(|text| whole(Resource::Mem.name(), text, size, A_SIZE))
            .transpose()?;
        let cray = match number(Resource::Mppwidth)? {
            None => None,
            Some(width) => {
                let depth = number(Resource::Mppdepth)?.unwrap_or(1).max(1);
                let on_a_node = number(Resource::Mppnppn)?.filter(|&count| count > 0);
                let cores = width.checked_mul(depth).ok_or_else(|| {
                    refused(
                        Resource::Mppwidth.name(),
                        message.requested(Resource::Mppwidth).unwrap_or_default(),
                        "a number of cores",
                    )
                })?;
                Some(Cray { cores, nodes: on_a_node.map(|count| width.div_ceil(count)) })
            }
        };
        Ok(Self {
            ncpus: number(Resource::Ncpus)?,
            nodect: number(Resource::Nodect)?,
            gpus: sum("Resource_List of GPUs", message.requested_gpus())?,
            mem,
            nodes,
            cray,
        })
    }

    pub(super) fn as_requested(&self) -> Requested {
        let gpus = self.nodes.map(|nodes| nodes.gpus).filter(|&gpus| gpus > 0);
        Requested {
            cores: self.cray.map(|cray| cray.cores).or(self.ncpus).or(self.nodes.map(|nodes| nodes.cores)),
            nodes: match self.cray {
                Some(cray) => cray.nodes,
                None => self.nodect.or(self.nodes.map(|nodes| nodes.nodes)),
            },
            gpus: self.gpus.or(gpus),
            mem_bytes: self.mem,
        }
    }
}

/// What was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Allocation {
    pub(super) cores: Option<u64>,
    pub(super) nodes: Option<u64>,
    pub(super) gpus: Option<u64>,
    pub(super) mem_bytes: Option<u64>,
}

impl Allocation {
    pub(super) fn read(message: &Message<'_>, request: &Request, gpus: &GpuNames) -> Result<Self, Reason> {
        let hosts = message.optional(Key::ExecHost, exec_host, "hosts like n01/0*4+n02/0")?;
        let vnodes = message.optional(
            Key::ExecVnode,
            |text| exec_vnode(text, gpus),
            "vnodes like (n01:ncpus=4)+(n02:ncpus=4)",
        )?;
        let slots = message.optional(Key::Slots, uint, A_NUMBER)?;
        let listed_slots = hosts.as_ref().map(|hosts| hosts.slots);
        let listed_hosts = hosts.map(super::allocation::Hosts::hosts);
        if let Some(cray) = request.cray {
            // exec_host and exec_vnode are the login node that starts the job.
            return Ok(Self {
                cores: Some(cray.cores),
                nodes: cray.nodes,
                gpus: vnodes.map(|vnodes| vnodes.ngpus),
                mem_bytes: request.mem,
            });
        }
        Ok(match vnodes {
            Some(vnodes) => Self {
                cores: vnodes.ncpus.or(request.ncpus),
                gpus: Some(vnodes.ngpus),
                mem_bytes: vnodes.mem.or(request.mem),
                nodes: listed_hosts.or_else(|| Some(vnodes.hosts())),
            },
            None => Self {
                cores: slots.or(listed_slots).or(request.ncpus),
                gpus: request.nodes.map(|nodes| nodes.gpus).or(request.gpus),
                mem_bytes: request.mem,
                nodes: listed_hosts.or(request.nodect),
            },
        })
    }
}

/// What was taken from others: `resource_assigned`, and the hosts that are listed. All `None` where the message has none of it.
pub(super) fn assigned(message: &Message<'_>, allocation: &Allocation) -> Result<Assigned, Reason> {
    let cores = sum("resource_assigned.ncpus", message.assigned_ncpus().into_iter())?;
    let mem_bytes =
        message.assigned_mem().map(|text| whole("resource_assigned.mem", text, size, A_SIZE)).transpose()?;
    let gpus = sum("resource_assigned of GPUs", message.assigned_gpus())?;
    if cores.is_none() && mem_bytes.is_none() && gpus.is_none() {
        return Ok(Assigned::default());
    }
    Ok(Assigned { cores, nodes: allocation.nodes, gpus: Some(gpus.unwrap_or(0)), mem_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> GpuNames {
        GpuNames(vec![(*b"ngpus").into()])
    }

    fn request(text: &str) -> Result<Requested, Reason> {
        let text = format!("queue=q start=1 {text} end=2");
        let message = Message::read(text.as_bytes(), &gpus()).unwrap();
        Request::read(&message).map(|request| request.as_requested())
    }

    /// Cores, nodes, GPUs, memory.
    fn allocation(text: &str) -> (Option<u64>, Option<u64>, Option<u64>, Option<u64>) {
        let text = format!("queue=q start=1 {text} end=2");
        let message = Message::read(text.as_bytes(), &gpus()).unwrap();
        let Allocation { cores, nodes, gpus, mem_bytes } =
            Allocation::read(&message, &Request::read(&message).unwrap(), &gpus()).unwrap();
        (cores, nodes, gpus, mem_bytes)
    }

    #[test]
    fn what_was_asked_for_is_in_resource_list() {
        let asked =
            "Resource_List.mem=9gb Resource_List.ncpus=6 Resource_List.ngpus=3 Resource_List.nodect=1";
        let expected =
            Requested { cores: Some(6), nodes: Some(1), gpus: Some(3), mem_bytes: Some(9_663_676_416) };
        assert_eq!(request(asked), Ok(expected));
        let torque = "Resource_List.nodes=2:ppn=4:gpus=1 Resource_List.neednodes=9";
        let expected = Requested { cores: Some(8), nodes: Some(2), gpus: Some(2), mem_bytes: None };
        assert_eq!(request(torque), Ok(expected));
        assert_eq!(request("Resource_List.foo=1"), Ok(Requested::default()));
        assert_eq!(request("Resource_List.mem=much").unwrap_err().code(), "value");
        let wide = "Resource_List.mppwidth=18446744073709551615 Resource_List.mppdepth=2";
        assert_eq!(request(wide).unwrap_err().code(), "value");
    }

    #[test]
    fn what_was_given_is_in_exec_vnode_and_else_in_the_next_best() {
        let asked = "Resource_List.mem=1kb Resource_List.ncpus=99 Resource_List.nodect=77";
        let of = |given: &str| allocation(&format!("{given} {asked}"));
        assert_eq!(
            of("exec_host=n1/0*0 exec_vnode=(n1[0]:ncpus=2:ngpus=1:mem=4kb+n1[1]:ncpus=3)"),
            (Some(5), Some(1), Some(1), Some(4096))
        );
        assert_eq!(of("exec_vnode=(n1[0]:ncpus=2)+(n2:ncpus=1)"), (Some(3), Some(2), Some(0), Some(1024)));
        assert_eq!(of("exec_host=a/0-3+b/1"), (Some(5), Some(2), None, Some(1024)));
        assert_eq!(of(""), (Some(99), Some(77), None, Some(1024)));
        assert_eq!(allocation(""), (None, None, None, None));
    }

    #[test]
    fn the_login_node_of_a_cray_is_not_what_was_given() {
        let given = "exec_host=nid7/24 exec_vnode=(login:ncpus=1)";
        assert_eq!(
            allocation(&format!("{given} Resource_List.mppnppn=2 Resource_List.mppwidth=33")),
            (Some(33), Some(17), Some(0), None)
        );
        assert_eq!(
            allocation(&format!("{given} Resource_List.mppdepth=4 Resource_List.mppwidth=8")),
            (Some(32), None, Some(0), None)
        );
    }

    #[test]
    fn several_resources_may_count_gpus() {
        let names = GpuNames(vec![(*b"mig").into(), (*b"ngpus").into()]);
        let of = |text: &str| {
            let text = format!("queue=q start=1 {text} end=2");
            let message = Message::read(text.as_bytes(), &names).unwrap();
            let asked = Request::read(&message).unwrap();
            let given = Allocation::read(&message, &asked, &names).unwrap();
            (asked.as_requested().gpus, given.gpus)
        };
        assert_eq!(
            of("exec_vnode=(a:mig=3:ngpus=1) Resource_List.ngpus=1 Resource_List.mig=3"),
            (Some(4), Some(4))
        );
        assert_eq!(of("Resource_List.mig=3"), (Some(3), Some(3)));
        let twice = "queue=q start=1 Resource_List.mig=1 Resource_List.mig=2";
        assert!(Message::read(twice.as_bytes(), &names).is_err());
    }

    #[test]
    fn what_was_taken_from_others_is_more_where_the_placement_is_exclusive() {
        let of = |text: &str| {
            let text = format!(
                "queue=q start=1 exec_host=n3/2+n3/4*0 exec_vnode=(n3[1]:ncpus=1)+(n3[0]) Resource_List.ncpus=1 {text}"
            );
            let message = Message::read(text.trim_end().as_bytes(), &gpus()).unwrap();
            let given = Allocation::read(&message, &Request::read(&message).unwrap(), &gpus()).unwrap();
            assigned(&message, &given)
        };
        let taken = "resource_assigned.mem=16777216kb resource_assigned.ncpus=8 resource_assigned.ngpus=4";
        let expected = Assigned { cores: Some(8), nodes: Some(1), gpus: Some(4), mem_bytes: Some(16 << 30) };
        assert_eq!(of(taken), Ok(expected));
        let expected = Assigned { cores: Some(8), nodes: Some(1), gpus: Some(0), mem_bytes: None };
        assert_eq!(of("resource_assigned.ncpus=8"), Ok(expected));
        assert_eq!(of(""), Ok(Assigned::default()));
        assert_eq!(of("resource_assigned.ncpus=many").unwrap_err().code(), "value");
    }
}

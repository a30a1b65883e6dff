//! The imagined centre: its users, accounts, partitions and the names that people give to jobs.

use crate::random::{Random, Zipf};

/// One kind of node and the queue in front of it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: &'static str,
    pub(crate) node_prefix: &'static str,
    pub(crate) nodes: u64,
    pub(crate) cores_per_node: u64,
    pub(crate) mem_mib_per_core: u64,
    pub(crate) gpus_per_node: u64,
    pub(crate) gpu_type: &'static str,
    /// Jobs take whole nodes.
    pub(crate) exclusive: bool,
}

pub(crate) const PARTITIONS: &[Partition] = &[
    Partition {
        name: "cpu",
        node_prefix: "c",
        nodes: 960,
        cores_per_node: 128,
        mem_mib_per_core: 1984,
        gpus_per_node: 0,
        gpu_type: "",
        exclusive: true,
    },
    Partition {
        name: "shared",
        node_prefix: "s",
        nodes: 240,
        cores_per_node: 128,
        mem_mib_per_core: 1900,
        gpus_per_node: 0,
        gpu_type: "",
        exclusive: false,
    },
    Partition {
        name: "gpu",
        node_prefix: "g",
        nodes: 100,
        cores_per_node: 64,
        mem_mib_per_core: 4096,
        gpus_per_node: 4,
        gpu_type: "a100",
        exclusive: false,
    },
    Partition {
        name: "gpu-h200",
        node_prefix: "h",
        nodes: 24,
        cores_per_node: 96,
        mem_mib_per_core: 20_480,
        gpus_per_node: 8,
        gpu_type: "h200",
        exclusive: false,
    },
    Partition {
        name: "highmem",
        node_prefix: "m",
        nodes: 8,
        cores_per_node: 128,
        mem_mib_per_core: 16_384,
        gpus_per_node: 0,
        gpu_type: "",
        exclusive: false,
    },
    Partition {
        name: "debug",
        node_prefix: "c",
        nodes: 16,
        cores_per_node: 128,
        mem_mib_per_core: 1984,
        gpus_per_node: 0,
        gpu_type: "",
        exclusive: true,
    },
];

const NAMES: &[&str] = &[
    "wrap",
    "interactive",
    "bash",
    "run.sh",
    "submit.slurm",
    "sys/dashboard/sys/jupyter",
    "vasp_std",
    "relax",
    "md_prod",
    "namd-eq",
    "train",
    "nf-core_rnaseq (sample 12)",
    "snakejob.align",
    "lammps",
    "cesm.b.e21",
    "wrf",
    "test",
    "gromacs-µVT",
    "モデル学習",
    "x=1;y=2",
    "it's \"quoted\"",
    "rosetta_2%3",
    "  padded ",
    "100%",
];

/// Users and accounts, made once from the seed.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) users: Vec<User>,
    pub(crate) accounts: Vec<String>,
    by_activity: Zipf,
    by_load: Zipf,
}

#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u64,
    pub(crate) accounts: Vec<usize>,
}

/// Who runs something, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) user: usize,
    pub(crate) account: usize,
    pub(crate) partition: &'static Partition,
}

/// The size of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) nodes: u64,
    pub(crate) cores: u64,
    pub(crate) mem_mib: u64,
    pub(crate) gpus: u64,
}

impl Site {
    pub(crate) fn new(random: &mut Random) -> Self {
        const SYLLABLES: &[&str] =
            &["an", "be", "chi", "da", "el", "fu", "gar", "ho", "ir", "jo", "ka", "li", "mo", "ne", "ov"];
        let accounts: Vec<String> = (0..180)
            .map(|i| match i % 6 {
                0..=2 => {
                    let letter = |random: &mut Random| char::from(b'a' + random.below(26) as u8);
                    let letters = String::from_iter([letter(random), letter(random), letter(random)]);
                    format!("tg-{letters}{:06}", random.between(100_000, 259_999))
                }
                3 | 4 => format!("p.cis{:06}.000", random.between(200_000, 269_999)),
                _ => format!("local-{}", random.pick(SYLLABLES)),
            })
            .collect();
        let users = (0..600)
            .map(|i| {
                let name = format!("{}{}{}", random.pick(SYLLABLES), random.pick(SYLLABLES), i);
                let accounts = (0..random.between(1, 3)).map(|_| random.below(180) as usize).collect();
                User { name, uid: 20_001 + i, accounts }
            })
            .collect();
        Self { users, accounts, by_activity: Zipf::new(600), by_load: Zipf::new(PARTITIONS.len()) }
    }

    pub(crate) fn owner(&self, random: &mut Random) -> Owner {
        let user = self.by_activity.choose(random);
        let account = *random.pick(&self.users[user].accounts);
        Owner { user, account, partition: &PARTITIONS[self.by_load.choose(random)] }
    }

    /// A job's name: most from a short list, many with a number behind.
    pub(crate) fn name(random: &mut Random, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(random.pick(NAMES).as_bytes());
        if random.one_in(2) {
            out.push(b'_');
            crate::clock::number(random.below(5000), out);
        }
    }
}

impl Partition {
    /// An allocation of this partition: small ones are common, whole nodes where the partition is exclusive.
    pub(crate) fn size(&self, random: &mut Random) -> Size {
        let nodes = match random.below(100) {
            0..=79 => 1,
            80..=94 => random.between(2, 8),
            _ => random.between(9, 64),
        }
        .min(self.nodes);
        let nodes = if self.exclusive || random.one_in(10) { nodes } else { 1 };
        let cores_each = if self.exclusive { self.cores_per_node } else { 1 << random.below(7) };
        let cores_each = cores_each.min(self.cores_per_node);
        let gpus_each = if self.gpus_per_node == 0 || random.one_in(25) {
            0
        } else {
            (1 << random.below(4)).min(self.gpus_per_node)
        };
        // people ask for whole gigabytes, or leave what the partition gives
        let mem_each =
            if random.one_in(3) { random.between(1, 64) * 1024 } else { cores_each * self.mem_mib_per_core };
        let size = |n: u64| n * nodes;
        Size { nodes, cores: size(cores_each), mem_mib: size(mem_each), gpus: size(gpus_each) }
    }
}

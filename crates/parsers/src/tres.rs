//! Slurm's lists of trackable resources: `billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=16G,node=1`.

use crate::Malformed;
use crate::memory;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while1};
use nom::combinator::{all_consuming, map_res, value};
use nom::multi::separated_list1;
use nom::sequence::separated_pair;
use nom::{IResult, Parser};

/// The quantities of a list that can be charged. `None`: not in the list, which Slurm does for a quantity of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tres {
    pub(crate) cores: Option<u64>,
    pub(crate) nodes: Option<u64>,
    /// GPUs of all types: `gres/gpu`; where only types are accounted (`gres/gpu:a100`), their sum.
    pub(crate) gpus: Option<u64>,
    pub(crate) billing: Option<u64>,
    pub(crate) mem_bytes: Option<u64>,
}

/// The keys that are read; every other one is passed over, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Cores,
    Nodes,
    Gpus,
    /// `gres/gpu:a100`: part of `gres/gpu`, so that it is never added to it.
    GpusOfType,
    Billing,
    Memory,
    Other,
}

impl Key {
    #[inline]
    fn of(text: &[u8]) -> Self {
        match text {
            b"cpu" => Self::Cores,
            b"node" => Self::Nodes,
            b"mem" => Self::Memory,
            b"billing" => Self::Billing,
            b"gres/gpu" => Self::Gpus,
            _ if text.starts_with(b"gres/gpu:") => Self::GpusOfType,
            _ => Self::Other,
        }
    }

    /// The same, where the two parts of `type/name` stand apart.
    pub(crate) fn of_parts(kind: &[u8], name: &[u8]) -> Self {
        match (kind, name) {
            (b"gres", b"gpu") => Self::Gpus,
            (b"gres", _) if name.starts_with(b"gpu:") => Self::GpusOfType,
            (_, b"") => Self::of(kind),
            _ => Self::Other,
        }
    }
}

/// What is gathered while a list is read.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    found: Tres,
    of_types: Option<u64>,
}

impl Gathered {
    /// Takes one pair in; a key that stands twice is malformed.
    #[inline]
    pub(crate) fn add(&mut self, key: Key, amount: Option<u64>) -> Result<(), Malformed> {
        let slot = match key {
            Key::Cores => &mut self.found.cores,
            Key::Nodes => &mut self.found.nodes,
            Key::Gpus => &mut self.found.gpus,
            Key::Billing => &mut self.found.billing,
            Key::Memory => &mut self.found.mem_bytes,
            Key::GpusOfType => {
                if let Some(amount) = amount {
                    self.of_types = Some(self.of_types.unwrap_or(0).checked_add(amount).ok_or(Malformed)?);
                }
                return Ok(());
            }
            Key::Other => return Ok(()),
        };
        if slot.is_some() {
            return Err(Malformed);
        }
        *slot = amount;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Tres {
        self.found.gpus = self.found.gpus.or(self.of_types);
        self.found
    }
}

/// The types of GPUs in a list, each with its number: `a100`, 2 of `gres/gpu:a100=2`.
pub(crate) fn gpu_types(list: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    list.split(|byte| *byte == b',').filter_map(|pair| {
        let typed = pair.strip_prefix(b"gres/gpu:")?;
        // A type may hold a colon (a MIG profile), but no equals sign.
        let equals = typed.iter().position(|byte| *byte == b'=')?;
        let (name, count) = typed.split_at_checked(equals)?;
        Some((name, memory::count(count.strip_prefix(b"=")?).ok()?))
    })
}

/// Reads a list; an empty text is an empty list.
pub(crate) fn parse(text: &[u8]) -> Result<Tres, Malformed> {
    match plain(text) {
        Some(tres) => Ok(tres),
        None => by_grammar(text),
    }
}

pub(crate) fn by_grammar(text: &[u8]) -> Result<Tres, Malformed> {
    if text.is_empty() {
        return Ok(Tres::default());
    }
    match grammar(text) {
        Ok((_, tres)) => Ok(tres),
        Err(_) => Err(Malformed),
    }
}

/// The shortcut: whole numbers, memory in whole mebibytes. `None` for anything else, also for what is malformed.
#[inline]
fn plain(text: &[u8]) -> Option<Tres> {
    let mut gathered = Gathered::default();
    let mut rest = text;
    loop {
        let equals = rest.iter().position(|byte| matches!(byte, b'=' | b','))?;
        let (key, after) = rest.split_at_checked(equals)?;
        let after = after.strip_prefix(b"=")?;
        if key.is_empty() {
            return None;
        }
        let end = after.iter().position(|byte| *byte == b',').unwrap_or(after.len());
        let (amount, after) = after.split_at_checked(end)?;
        let key = Key::of(key);
        let amount = match key {
            Key::Other => None,
            Key::Memory => Some(memory::bytes(amount).ok()?),
            _ => Some(memory::integer(amount)?),
        };
        gathered.add(key, amount).ok()?;
        match after.split_first() {
            None => return Some(gathered.finish()),
            Some((_, after)) => rest = after,
        }
    }
}

/// The grammar: `type[/name]=amount`, with commas between.
fn grammar(input: &[u8]) -> IResult<&[u8], Tres> {
    let key = take_while1(|byte| !matches!(byte, b'=' | b','));
    let amount = take_till(|byte| byte == b',');
    let pair = separated_pair(key, tag(&b"="[..]), amount);
    all_consuming(map_res(separated_list1(tag(&b","[..]), pair), |pairs| {
        let mut gathered = Gathered::default();
        for (key, text) in pairs {
            let key = Key::of(key);
            gathered.add(key, amount_of(key, text)?)?;
        }
        Ok::<_, Malformed>(gathered.finish())
    }))
    .parse(input)
}

/// `NONE` is Slurm's word for an unlimited amount: no number.
fn amount_of(key: Key, text: &[u8]) -> Result<Option<u64>, Malformed> {
    let none = value(None, tag(&b"NONE"[..]));
    let number = |input| {
        let rest = take_while1(|_| true);
        match key {
            Key::Other => value(None, take_while1(|_| true)).parse(input),
            Key::Memory => map_res(rest, |text| memory::bytes(text).map(Some)).parse(input),
            _ => map_res(rest, |text| memory::count(text).map(Some)).parse(input),
        }
    };
    if key == Key::Other {
        return Ok(None);
    }
    let parsed: IResult<&[u8], Option<u64>> = all_consuming(alt((none, number))).parse(text);
    parsed.map(|(_, amount)| amount).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_typed_gpu_is_not_added_to_the_total() {
        let tres = parse(b"billing=20,cpu=2,gres/gpu:a100=2,gres/gpu=2,mem=1000M,node=1").unwrap();
        assert_eq!(
            tres,
            Tres {
                cores: Some(2),
                nodes: Some(1),
                gpus: Some(2),
                billing: Some(20),
                mem_bytes: Some(1_048_576_000)
            }
        );
    }

    #[test]
    fn types_of_gpus() {
        let list =
            b"billing=20,cpu=2,gres/gpu:a100=2,gres/gpu:1g.5gb:x=1,gres/gpu=3,gres/gpumem:a=4,mem=1000M";
        let types: Vec<_> = gpu_types(list).collect();
        assert_eq!(types, [(&b"a100"[..], 2), (&b"1g.5gb:x"[..], 1)]);
        assert_eq!(gpu_types(b"cpu=2,gres/gpu=2").count(), 0);
        assert_eq!(gpu_types(b"").count(), 0);
    }

    #[test]
    fn typed_gpus_alone_are_summed() {
        assert_eq!(parse(b"cpu=2,gres/gpu:a100=4,gres/gpu:v100=2").unwrap().gpus, Some(6));
    }

    #[test]
    fn other_resources_and_their_look_alikes_are_passed_over() {
        let tres = parse(
            b"bb/datawarp=2G,cpu=1,energy=5,fs/disk=x,gres/gpumem=7G,gres/gpuutil=9,license/matlab=2,vmem=1M",
        )
        .unwrap();
        assert_eq!(tres, Tres { cores: Some(1), ..Tres::default() });
    }

    #[test]
    fn counts_and_memory_may_carry_units() {
        let tres = parse(b"cpu=1.50K,mem=2.50G,node=1K").unwrap();
        assert_eq!((tres.cores, tres.mem_bytes, tres.nodes), (Some(1536), Some(2_684_354_560), Some(1024)));
    }

    #[test]
    fn an_unlimited_amount_is_no_number() {
        assert_eq!(parse(b"billing=NONE,cpu=1").unwrap().billing, None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for text in [
            "cpu",
            "cpu=",
            "=1",
            "cpu=1,",
            ",cpu=1",
            "cpu=1,,node=1",
            "cpu=1,cpu=2",
            "cpu=-1",
            "cpu=1;node=1",
            "mem=100",
            "gres/gpu:a=18446744073709551615,gres/gpu:b=1",
            "tg-abc123456",
            "2026-11-23T09:35:40",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn the_shortcut_agrees_with_the_grammar_on_every_field_of_the_fixtures() {
        let (mut lists, mut plain_ones) = (0, 0);
        for field in crate::fixtures::fields() {
            let reference = grammar(&field).map(|(_, tres)| tres).map_err(|_| Malformed);
            let shortcut = plain(&field);
            assert!(shortcut.is_none_or(|tres| reference == Ok(tres)), "{}", field.escape_ascii());
            if reference.is_ok_and(|tres| tres.cores.is_some() && tres.mem_bytes.is_some()) {
                lists += 1;
                plain_ones += usize::from(shortcut.is_some());
            }
        }
        // The rest is memory with a fraction or another unit: output for people.
        assert!(lists > 100 && plain_ones * 2 > lists, "{plain_ones} of {lists}");
    }

    proptest! {
        #[test]
        fn the_shortcut_agrees_with_the_grammar(
            text in "(,?(cpu|node|mem|billing|gres/gpu|gres/gpu:a|x)=?[0-9]{0,3}(K|M|NONE|[.]5G)?,?){1,6}"
        ) {
            let text = text.as_bytes();
            if let Some(tres) = plain(text) {
                prop_assert_eq!(grammar(text).map(|(_, tres)| tres), Ok(tres));
            }
        }

        #[test]
        fn what_is_printed_is_read(cores in 1u64.., nodes in 1u64.., gpus in proptest::option::of(1u64..), mebibytes in 1..1u64 << 40) {
            let gpu = gpus.map(|gpus| format!("gres/gpu={gpus},")).unwrap_or_default();
            let text = format!("cpu={cores},{gpu}mem={mebibytes}M,node={nodes}");
            let expected = Tres { cores: Some(cores), nodes: Some(nodes), gpus, billing: None, mem_bytes: Some(mebibytes << 20) };
            prop_assert_eq!(parse(text.as_bytes()), Ok(expected));
        }
    }
}

//! Values of a job as the versions write them: a bare number, `null` or an object for a number; a word or a list for a state.

use crate::State;
use crate::tres::{Gathered, Key, Tres};
use bstr::BStr;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Slurm's words for "no value" and "infinite", in 32 and 64 bits (`slurm.h`: `NO_VAL`, `INFINITE`, `NO_VAL64`, `INFINITE64`).
const NO_VALUES: [u64; 4] = [0xffff_fffe, 0xffff_ffff, u64::MAX - 1, u64::MAX];

/// A count or a time in seconds. `None`: `null`, no value, infinite, not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Number(pub(super) Option<u64>);

impl Number {
    fn of(number: u64) -> Self {
        Self(Some(number).filter(|number| !NO_VALUES.contains(number)))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor { negative: false })
    }
}

/// A number that may be negative, and is none then: what stands where nothing is set can be anything (v0.0.39 writes -127 for
/// the exit code of a job that was killed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Loose(pub(super) Number);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor { negative: true }).map(Self)
    }
}

struct NumberVisitor {
    /// Negative numbers are none; else they are refused.
    negative: bool,
}

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_unit<E: Error>(self) -> Result<Number, E> {
        Ok(Number(None))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
        Ok(Number::of(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
        match number {
            -2 | -1 => Ok(Number(None)), // NO_VAL64 and INFINITE64 with a sign
            _ if self.negative => Ok(Number(None)),
            _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    /// `{"set": true, "infinite": false, "number": 5}`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
        let (mut set, mut infinite, mut number) = (false, false, Number(None));
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.bytes() {
                b"set" => set = map.next_value()?,
                b"infinite" => infinite = map.next_value()?,
                b"number" => number = map.next_value::<Loose>()?.0,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(if set && !infinite { number } else { Number(None) })
    }
}

/// A string, as bytes: user-written ones need not be UTF-8. Borrowed where it holds no escape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Text<'a>(Cow<'a, [u8]>);

impl Text<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text; `None` where it is empty.
    pub(super) fn said(&self) -> Option<&BStr> {
        (!self.0.is_empty()).then(|| BStr::new(self.bytes()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(bytes.to_vec())))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        self.visit_borrowed_bytes(text.as_bytes())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        self.visit_bytes(text.as_bytes())
    }
}

/// A string; a number is none: 22.05 writes the address of a reservation's name where the name should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Name<'a>(pub(super) Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Name<'de>, E> {
                TextVisitor.visit_borrowed_str(text).map(|text| Name(Some(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name<'de>, E> {
                TextVisitor.visit_str(text).map(|text| Name(Some(text)))
            }

            fn visit_unit<E: Error>(self) -> Result<Name<'de>, E> {
                Ok(Name(None))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Name<'de>, E> {
                Ok(Name(None))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Name<'de>, E> {
                Ok(Name(None))
            }
        }
        deserializer.deserialize_any(NameVisitor)
    }
}

/// Flags that say nothing of how the run stands: `sacct`'s text does not print them.
const SILENT_FLAGS: [&[u8]; 4] = [b"LAUNCH_FAILED", b"RECONFIG_FAIL", b"POWER_UP_NODE", b"UPDATE_DB"];

/// Flags win over the base state, the first of these over the others (`job_state_string()` of `slurm_protocol_defs.c`).
const FLAGS: [&[u8]; 13] = [
    b"COMPLETING",
    b"STAGE_OUT",
    b"CONFIGURING",
    b"EXPEDITING",
    b"RESIZING",
    b"REQUEUED",
    b"REQUEUE_FED",
    b"REQUEUE_HOLD",
    b"SPECIAL_EXIT",
    b"STOPPED",
    b"REVOKED",
    b"RESV_DEL_HOLD",
    b"SIGNALING",
];

/// A state as one word, as `sacct`'s text has it: a requeued run is `["PENDING", "REQUEUED"]` here and `REQUEUED` there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub(super) state: State,
    /// The word that decides.
    pub(super) text: Text<'a>,
}

/// How much a word decides: less is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A word that is not known: nothing may be made of a state that holds it.
    Unknown,
    Flag(usize),
    Base,
}

impl<'de: 'a, 'a> Deserialize<'de> for Standing<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StandingVisitor;
        impl<'de> Visitor<'de> for StandingVisitor {
            type Value = Standing<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a state, or a list of them")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Standing<'de>, E> {
                Ok(Standing {
                    state: State::from_word(text.as_bytes()),
                    text: TextVisitor.visit_borrowed_str(text)?,
                })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Standing<'de>, E> {
                Ok(Standing { state: State::from_word(text.as_bytes()), text: TextVisitor.visit_str(text)? })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Standing<'de>, A::Error> {
                let mut best: Option<(Rank, Standing<'de>)> = None;
                while let Some(text) = words.next_element::<Text<'de>>()? {
                    if SILENT_FLAGS.contains(&text.bytes()) {
                        continue;
                    }
                    let state = State::from_word(text.bytes());
                    let rank = match FLAGS.iter().position(|flag| *flag == text.bytes()) {
                        Some(place) => Rank::Flag(place),
                        None if state == State::Unknown => Rank::Unknown,
                        None => Rank::Base,
                    };
                    // Two base states at once contradict each other.
                    let rank = match &best {
                        Some((Rank::Base, _)) if rank == Rank::Base => Rank::Unknown,
                        _ => rank,
                    };
                    let state = if rank == Rank::Unknown { State::Unknown } else { state };
                    if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                        best = Some((rank, Standing { state, text }));
                    }
                }
                let nothing = || Standing { state: State::Unknown, text: Text::default() };
                Ok(best.map_or_else(nothing, |(_, standing)| standing))
            }
        }
        deserializer.deserialize_any(StandingVisitor)
    }
}

/// Whether `status` of an exit code is a word, or a list of words as from v0.0.40 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Status {
    /// Up to v0.0.39, whose exit codes are wrong: `SUCCESS, 0` for a job that failed with 3.
    #[default]
    Word,
    /// From v0.0.40 on: exit codes as they were, also those of 128 and more.
    List { signaled: bool },
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StatusVisitor;
        impl<'de> Visitor<'de> for StatusVisitor {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or a list of them")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Status, E> {
                Ok(Status::Word)
            }

            fn visit_unit<E: Error>(self) -> Result<Status, E> {
                Ok(Status::Word)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Status, A::Error> {
                let mut signaled = false;
                while let Some(word) = words.next_element::<Text<'de>>()? {
                    signaled |= matches!(word.bytes(), b"SIGNALED" | b"CORE_DUMPED");
                }
                Ok(Status::List { signaled })
            }
        }
        deserializer.deserialize_any(StatusVisitor)
    }
}

/// A list of trackable resources: `[{"type": "cpu", "name": "", "id": 1, "count": 2}, ...]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Resources {
    pub(super) tres: Tres,
    pub(super) is_empty: bool,
    /// The entries of types of GPUs, as the text of `AllocTRES` has them: `gres/gpu:a100=2,...`.
    pub(super) gpu_types: Vec<u8>,
}

const MEBIBYTE: u64 = 1 << 20;

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Entry<'a> {
            #[serde(borrow, rename = "type")]
            kind: Text<'a>,
            #[serde(borrow, default)]
            name: Option<Text<'a>>,
            #[serde(default)]
            count: Option<serde_json::Number>,
        }
        struct ResourcesVisitor;
        impl<'de> Visitor<'de> for ResourcesVisitor {
            type Value = Resources;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of trackable resources")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Resources, A::Error> {
                let mut gathered = Gathered::default();
                let mut is_empty = true;
                let mut gpu_types = Vec::new();
                while let Some(Entry { kind, name, count }) = list.next_element()? {
                    is_empty = false;
                    let key = Key::of_parts(kind.bytes(), name.as_ref().map_or(b"", Text::bytes));
                    if key == Key::Other {
                        continue; // energy that was not measured is null, or -2
                    }
                    // None would come to mean that the list does not hold it, which is 0.
                    let count =
                        count.and_then(|count| count.as_u64()).filter(|count| !NO_VALUES.contains(count));
                    let count = count.and_then(|count| match key {
                        Key::Memory => count.checked_mul(MEBIBYTE),
                        _ => Some(count),
                    });
                    let count = count.ok_or_else(|| {
                        Error::custom(format_args!(
                            "a count is expected for {}",
                            BStr::new(kind.bytes()).escape_ascii()
                        ))
                    })?;
                    if key == Key::GpusOfType {
                        if !gpu_types.is_empty() {
                            gpu_types.push(b',');
                        }
                        gpu_types.extend_from_slice(kind.bytes());
                        if let Some(name) = name.as_ref().map(Text::bytes).filter(|name| !name.is_empty()) {
                            gpu_types.push(b'/');
                            gpu_types.extend_from_slice(name);
                        }
                        gpu_types.extend_from_slice(format!("={count}").as_bytes());
                    }
                    gathered.add(key, Some(count)).map_err(|crate::Malformed| {
                        let kind = BStr::new(kind.bytes()).escape_ascii();
                        Error::custom(format_args!("{kind} stands twice in a list of trackable resources"))
                    })?;
                }
                Ok(Resources { tres: gathered.finish(), is_empty, gpu_types })
            }
        }
        deserializer.deserialize_seq(ResourcesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<Option<u64>> {
        serde_json::from_str::<Number>(text).ok().map(|number| number.0)
    }

    #[test]
    fn numbers_of_all_versions() {
        for (text, expected) in [
            ("5", Some(5)),
            ("0", Some(0)),
            ("null", None),
            ("-2", None),
            ("4294967294", None),
            ("4294967295", None),
            ("18446744073709551614", None),
            ("18446744073709551615", None),
            ("4294967293", Some(4_294_967_293)),
            (r#"{"set": true, "infinite": false, "number": 5}"#, Some(5)),
            (r#"{"number": 5, "set": true}"#, Some(5)),
            (r#"{"set": false, "infinite": false, "number": 0}"#, None),
            (r#"{"set": false, "infinite": true, "number": 0}"#, None),
            (r#"{"set": true, "infinite": false, "number": -16}"#, None),
            (r#"{"set": true, "infinite": false, "number": 4294967294}"#, None),
            (r#"{"set": true, "infinite": false, "number": null}"#, None),
            ("{}", None),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in ["-16", "1.5", "\"5\"", "[]", "1e30", "true", r#"{"set": 1}"#] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    fn state(text: &str) -> (State, String) {
        let standing: Standing<'_> = serde_json::from_str(text).unwrap();
        (standing.state, BStr::new(standing.text.bytes()).to_string())
    }

    #[test]
    fn flags_win_over_base_states_in_the_order_of_the_text() {
        for (text, expected) in [
            (r#""COMPLETED""#, State::Completed),
            (r#"["COMPLETED"]"#, State::Completed),
            (r#"["PENDING", "REQUEUED"]"#, State::Requeued),
            (r#"["REQUEUED", "PENDING"]"#, State::Requeued),
            (r#"["PENDING", "RESIZING"]"#, State::Resizing),
            (r#"["RUNNING", "COMPLETING"]"#, State::Completing),
            (r#"["COMPLETED", "COMPLETING", "REQUEUED"]"#, State::Completing),
            (r#"["FAILED", "LAUNCH_FAILED"]"#, State::Failed),
            (r#"["RUNNING", "POWER_UP_NODE", "CONFIGURING"]"#, State::Configuring),
            (r#"["PENDING", "REQUEUE_HOLD"]"#, State::Requeue),
        ] {
            assert_eq!(state(text).0, expected, "{text}");
        }
        assert_eq!(state(r#"["PENDING", "REQUEUED"]"#).1, "REQUEUED");
    }

    #[test]
    fn what_is_not_known_or_contradicts_itself_is_unknown() {
        for text in [
            r#"["COMPLETED", "ASCENDED"]"#,
            r#"["ASCENDED", "REQUEUED"]"#,
            "[]",
            r#""""#,
            r#"["PENDING", "COMPLETED"]"#,
            r#"["LAUNCH_FAILED"]"#,
        ] {
            assert_eq!(state(text).0, State::Unknown, "{text}");
        }
        assert_eq!(state(r#"["COMPLETED", "ASCENDED"]"#).1, "ASCENDED");
    }

    fn resources(text: &str) -> Result<Resources, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn gpus_of_a_type_are_not_added_to_all_gpus() {
        let list = r#"[{"type":"cpu","name":"","id":1,"count":2},{"type":"mem","name":null,"id":2,"count":200},
            {"type":"energy","name":"","id":3,"count":-2},{"type":"gres","name":"gpu:a100","id":1003,"count":2},
            {"type":"gres","name":"gpu","id":1001,"count":2},{"type":"license","name":"cpu","id":9,"count":7}]"#;
        let found = resources(list).unwrap();
        assert_eq!(
            (found.tres.cores, found.tres.gpus, found.tres.mem_bytes),
            (Some(2), Some(2), Some(200 << 20))
        );
        assert_eq!((found.tres.nodes, found.tres.billing, found.is_empty), (None, None, false));
        assert_eq!(found.gpu_types, b"gres/gpu:a100=2");
        assert!(resources("[]").unwrap().is_empty);
        let two =
            r#"[{"type":"gres","name":"gpu:a100","count":2},{"type":"gres","name":"gpu:h100","count":1}]"#;
        assert_eq!(resources(two).unwrap().gpu_types, b"gres/gpu:a100=2,gres/gpu:h100=1");
    }

    #[test]
    fn a_count_that_is_not_said_is_never_taken_for_none() {
        for count in ["null", "-2", "18446744073709551614", "1.5"] {
            let text = format!(r#"[{{"type":"billing","name":"","id":5,"count":{count}}}]"#);
            assert!(resources(&text).unwrap_err().contains("a count is expected for billing"), "{count}");
        }
        let twice = r#"[{"type":"cpu","count":1},{"type":"cpu","count":2}]"#;
        assert!(resources(twice).unwrap_err().contains("twice"));
        assert!(resources(r#"[{"type":"mem","count":18446744073709551}]"#).is_err());
    }

    #[test]
    fn strings_may_be_any_bytes() {
        let text: Text<'_> = serde_json::from_slice(b"\"a\xff\xfeb\"").unwrap();
        assert_eq!(text.bytes(), b"a\xff\xfeb");
        let escaped: Text<'_> = serde_json::from_slice(br#""a\/b\u00e9\n""#).unwrap();
        assert_eq!(escaped.bytes(), "a/bé\n".as_bytes());
    }

    #[test]
    fn an_address_is_no_name() {
        assert_eq!(serde_json::from_str::<Name<'_>>("94012345678").unwrap(), Name(None));
        assert_eq!(serde_json::from_str::<Name<'_>>("\"maint\"").unwrap().0.unwrap().bytes(), b"maint");
    }
}

//! The configuration file as it is written: one struct per table, unknown keys refused.
//!
//! Values that messages may have to point at are `Spanned`. Numbers that take part in charges are kept as
//! `Spanned<toml::Value>` and read from the file's own text, so that no floating point comes near them.

use amie_usage::wire::{self, Settings};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use toml::Spanned;
use toml::value::Datetime;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) site: Site,
    pub(super) api: Option<Api>,
    #[serde(default)]
    pub(super) ledger: Ledger,
    #[serde(default)]
    pub(super) projects: Projects,
    #[serde(default)]
    pub(super) users: Users,
    #[serde(default)]
    pub(super) source: Vec<Spanned<Source>>,
    #[serde(default)]
    pub(super) node_type: Vec<Spanned<NodeType>>,
    #[serde(default)]
    pub(super) resource: Vec<Spanned<Resource>>,
    #[serde(default)]
    pub(super) storage: Vec<Spanned<Storage>>,
    #[serde(default)]
    pub(super) policy: Policy,
    #[serde(default)]
    pub(super) tables: Tables,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tables {
    pub(super) max_age_days: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) timezone: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Api {
    pub(super) url: Spanned<String>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_env: Option<String>,
    pub(super) key_credential: Option<String>,
    pub(super) max_body_bytes: Option<Spanned<usize>>,
    pub(super) max_records: Option<Spanned<usize>>,
    pub(super) concurrency: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) resend: Resend,
    pub(super) wire: Option<Spanned<Settings>>,
    pub(super) retries: Option<u32>,
    pub(super) max_requests_per_minute: Option<Spanned<usize>>,
    pub(super) ca_bundle: Option<PathBuf>,
    #[serde(default)]
    pub(super) allow_plain_http: bool,
    pub(super) connect_timeout_seconds: Option<u64>,
    pub(super) read_timeout_seconds: Option<u64>,
    pub(super) total_timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Resend {
    pub(super) compute: Option<wire::Resend>,
    pub(super) storage: Option<wire::Resend>,
    pub(super) adjustment: Option<wire::Resend>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    pub(super) url: Spanned<String>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { url: Spanned::new(0..0, "sqlite:ledger.db".to_owned()) }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Projects {
    pub(super) table: Option<Spanned<PathBuf>>,
    #[serde(rename = "match")]
    pub(super) patterns: Vec<Spanned<Pattern>>,
    pub(super) skip: Vec<Spanned<Skip>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pattern {
    pub(super) account: String,
    pub(super) project: String,
    #[serde(default)]
    pub(super) upper: bool,
    pub(super) cluster: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Skip {
    pub(super) account: String,
    pub(super) cluster: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Users {
    pub(super) table: Option<Spanned<PathBuf>>,
    pub(super) pi_fallback: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) name: Spanned<String>,
    pub(super) kind: Spanned<String>,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    pub(super) cluster: Option<String>,
    pub(super) timezone: Option<Spanned<String>>,
    pub(super) paths: Option<Vec<Spanned<String>>>,
    pub(super) collect: Option<Spanned<toml::Table>>,
    pub(super) delimiter: Option<Spanned<String>>,
    pub(super) framing: Option<Spanned<String>>,
    pub(super) columns: Option<Vec<String>>,
    pub(super) local_record_id: Option<Spanned<String>>,
    pub(super) parent_record_id: Option<Spanned<String>>,
    pub(super) account_case: Option<Spanned<String>>,
    pub(super) forgeable: Option<Spanned<String>>,
    pub(super) job_name: Option<bool>,
    pub(super) project_from: Option<Vec<Spanned<String>>>,
    pub(super) gpu_resources: Option<Spanned<Vec<String>>>,
    pub(super) format: Option<Spanned<String>>,
    pub(super) owner: Option<Spanned<String>>,
    pub(super) collected_at: Option<Spanned<CollectedAt>>,
}

fn yes() -> bool {
    true
}

/// `{ from = "name", pattern = '...' }` or `"mtime"`.
#[derive(Debug)]
pub(super) enum CollectedAt {
    Mtime,
    Name { pattern: String },
}

impl<'de> Deserialize<'de> for CollectedAt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{Error, MapAccess, Visitor};
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = CollectedAt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"mtime\" or { from = \"name\", pattern = '...' }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<CollectedAt, E> {
                match text {
                    "mtime" => Ok(CollectedAt::Mtime),
                    other => Err(E::custom(format_args!(
                        "\"{other}\" is not a way to know when a report was made: use \"mtime\" or {{ from = \"name\", pattern = '...' }}"
                    ))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CollectedAt, A::Error> {
                let (mut from, mut pattern) = (None::<String>, None::<String>);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "from" => from = Some(map.next_value()?),
                        "pattern" => pattern = Some(map.next_value()?),
                        other => return Err(A::Error::unknown_field(other, &["from", "pattern"])),
                    }
                }
                match (from.as_deref(), pattern) {
                    (Some("name"), Some(pattern)) => Ok(CollectedAt::Name { pattern }),
                    (Some("name"), None) => Err(A::Error::missing_field("pattern")),
                    (Some("mtime"), None) => Ok(CollectedAt::Mtime),
                    (Some(other), _) => Err(A::Error::unknown_variant(other, &["name", "mtime"])),
                    (None, _) => Err(A::Error::missing_field("from")),
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeType {
    pub(super) name: String,
    #[serde(default)]
    pub(super) cluster: OneOrMany,
    #[serde(default, alias = "queue")]
    pub(super) partition: OneOrMany,
    #[serde(default)]
    pub(super) hosts: OneOrMany,
    pub(super) cores: Option<u64>,
    pub(super) gpus: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) when: When,
    pub(super) go_live: Option<Spanned<Datetime>>,
    pub(super) cores_per_node: Option<u64>,
    pub(super) gpus_per_node: Option<u64>,
    pub(super) supplied: Option<Spanned<PathBuf>>,
    pub(super) max_charge: Option<Spanned<toml::Value>>,
    pub(super) max_cores: Option<u64>,
    pub(super) max_hours: Option<Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) rate: Vec<Spanned<Rate>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct When {
    pub(super) cluster: OneOrMany,
    #[serde(alias = "queue")]
    pub(super) partition: OneOrMany,
    pub(super) qos: OneOrMany,
    pub(super) account: OneOrMany,
    pub(super) user: OneOrMany,
}

/// `"cpu"` or `["cpu", "shared"]`.
#[derive(Debug, Default)]
pub(super) struct OneOrMany(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> serde::de::Visitor<'de> for Form {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub(super) from: Spanned<Datetime>,
    pub(super) until: Option<Spanned<Datetime>>,
    pub(super) rate_by: Option<Spanned<String>>,
    pub(super) charge: Spanned<String>,
    #[serde(default)]
    pub(super) round: Round,
    pub(super) minimum: Option<Spanned<toml::Value>>,
    pub(super) minimum_seconds: Option<u64>,
    #[serde(default)]
    pub(super) factor: BTreeMap<String, BTreeMap<String, Spanned<toml::Value>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Round {
    pub(super) places: Option<Spanned<u8>>,
    pub(super) mode: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Storage {
    pub(super) source: Spanned<String>,
    pub(super) resource: String,
    pub(super) go_live: Option<Spanned<Datetime>>,
    pub(super) service_treats: Option<Spanned<String>>,
    pub(super) charge: Spanned<String>,
    #[serde(default)]
    pub(super) round: Round,
    pub(super) interval_days: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) system_copies: Option<u64>,
    pub(super) owners: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    pub(super) zero_charge: Option<Spanned<String>>,
    pub(super) node_fail: Option<Spanned<String>>,
    pub(super) boot_fail: Option<Spanned<String>>,
    pub(super) preempted: Option<Spanned<String>>,
    pub(super) requeued: Option<Spanned<String>>,
    pub(super) resizing: Option<Spanned<String>>,
    pub(super) failed: Option<Spanned<String>>,
    pub(super) max_charge: Option<Spanned<toml::Value>>,
    pub(super) night_factor: Option<Spanned<u32>>,
    pub(super) max_cores: Option<u64>,
    pub(super) max_hours: Option<Spanned<toml::Value>>,
}

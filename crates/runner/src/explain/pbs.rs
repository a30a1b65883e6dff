//! Which records of a PBS log are about a job, and what they say of it.

/// A PBS job as a person names it: by its id with or without the server, by a record's id (`91.pbssrv.r3`), by a ledger key.
pub(super) struct PbsJob<'a> {
    id: &'a [u8],
    /// Server and number, where the id is a key.
    key: Option<(&'a [u8], Vec<u8>)>,
}

impl<'a> PbsJob<'a> {
    pub(super) fn new(id: &'a str) -> Self {
        let mut parts = id.split('/');
        let key = match (parts.next(), parts.next(), parts.next()) {
            // Keys pad the numbers with zeros: `0000000091[0000004]`.
            (Some("pbs"), Some(server), Some(number)) => {
                let mut local = String::new();
                for (index, part) in number.split('[').enumerate() {
                    let trimmed = part.trim_start_matches('0');
                    let zero = trimmed.is_empty() || trimmed == "]";
                    local += if index > 0 { "[" } else { "" };
                    local += if zero { "0" } else { "" };
                    local += trimmed;
                }
                Some((server.as_bytes(), local.into_bytes()))
            }
            _ => None,
        };
        Self { id: id.as_bytes(), key }
    }

    /// Whether a record is about it.
    pub(super) fn is_of(&self, record: &[u8]) -> bool {
        let Some(id) = record.splitn(4, |byte| *byte == b';').nth(2) else { return false };
        let (local, server) = match memchr::memchr(b'.', id) {
            Some(dot) => (id.get(..dot).unwrap_or_default(), id.get(dot + 1..).unwrap_or_default()),
            None => (id, &[][..]),
        };
        match &self.key {
            Some((wanted, number)) => {
                local == number && server.split(|byte| *byte == b'.').next().unwrap_or_default() == *wanted
            }
            None => {
                let behind = self.id.strip_prefix(id);
                local == self.id || behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(b".r"))
            }
        }
    }
}

/// What a PBS record of a job says that is no end of a run; `None` for the letters that say nothing of what was used.
pub(super) fn about(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'Q' => "Q: the job was queued",
        b'S' => "S: a run began",
        b's' => "s: the run lost nodes before it began",
        b'u' => "u: nodes were released; this is what the run had until then",
        b'c' => "c: this is what the run had from then on",
        b'e' => "e: this is what a run that released nodes had at its end",
        b'z' => "z: the run was suspended",
        b'r' => "r: the run went on",
        b'C' => "C: a checkpoint was made, and the run was held",
        b'T' => "T: the run went on from a checkpoint",
        b'D' => "D: the job was to be deleted",
        b'A' => "A: the server gave the job up",
        b' ' => "the same record again: it counts once",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_in_several_ways() {
        for (name, record, is_of) in [
            ("91", "11/23/2026 02:37:41;S;91.pbssrv;user=a", true),
            ("91.pbssrv", "11/23/2026 02:37:41;S;91.pbssrv;user=a", true),
            ("91.pbssrv.r3", "11/23/2026 02:37:41;S;91.pbssrv;user=a", true),
            (
                "pbs/pbssrv/0000000091/1795426661/3",
                "11/23/2026 02:37:41;S;91.pbssrv.example.org;user=a",
                true,
            ),
            ("pbs/pbssrv/0000000078[0000004]/1/1", "11/23/2026 02:37:41;S;78[4].pbssrv;user=a", true),
            ("pbs/pbssrv/0000000000/1/1", "11/23/2026 02:37:41;S;0.pbssrv;user=a", true),
            ("pbs/other/0000000091/1795426661/3", "11/23/2026 02:37:41;S;91.pbssrv;user=a", false),
            ("9", "11/23/2026 02:37:41;S;91.pbssrv;user=a", false),
            ("91.pbs", "11/23/2026 02:37:41;S;91.pbssrv;user=a", false),
            ("91", "11/23/2026 02:37:41;L;license;floating 91", false),
            ("91", "a line of text", false),
        ] {
            assert_eq!(PbsJob::new(name).is_of(record.as_bytes()), is_of, "{name} {record}");
        }
    }
}

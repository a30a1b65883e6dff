//! Which jobs gave nodes back while they ran.

use super::frame::is_start;
use memchr::{memchr, memchr_iter};
use std::collections::HashMap;

/// Ids longer than this are no ids.
pub(super) const MAX_ID: usize = 256;

/// The ids of jobs of which nodes were released while they ran (`u` and `c` records). An `e` alone also ends a job that was pruned at
/// its start, of which nothing was released: it does not count.
///
/// The `E` of such a job has the time of the last phase beside the nodes of the first: nobody can charge it from that record alone.
/// OpenPBS goes on to subtract the earlier phases from *later* runs of the job too, so that an id, once seen, stays affected.
///
/// Feed it the blocks of a source in their order, each before it is read; it looks at one byte of every record and is cheap.
///
/// ```
/// let mut releases = parsers::pbs::Releases::default();
/// releases.scan(b"11/23/2026 02:33:20;u;77.pbssrv;user=a\n11/23/2026 02:33:21;E;77.pbssrv;user=a\n", 1000);
/// assert!(releases.released_before(b"77.pbssrv", 1039));
/// assert!(!releases.released_before(b"77.pbssrv", 1000));
/// assert!(!releases.released_before(b"78.pbssrv", 1039));
/// ```
#[derive(Debug, Default, Clone)]
pub struct Releases {
    /// Id as printed, and the offset of the first such record.
    first: HashMap<Box<[u8]>, u64>,
}

impl Releases {
    /// Takes note of the releases in `body`, whole records that begin at byte `base_offset` of the source.
    pub fn scan(&mut self, body: &[u8], base_offset: u64) {
        let starts =
            std::iter::once(0).chain(memchr_iter(b'\n', body).map(|newline| newline.saturating_add(1)));
        for start in starts {
            let Some(line) = body.get(start..) else { break };
            // The letter first: it is one byte, and seldom one of these.
            if !matches!(line.get(20), Some(b'u' | b'c')) || !is_start(line) {
                continue;
            }
            let Some(id) = line
                .get(22..)
                .and_then(|rest| rest.get(..memchr(b';', rest.get(..=MAX_ID).unwrap_or(rest))?))
            else {
                continue;
            };
            if !self.first.contains_key(id) {
                self.first.insert(id.into(), base_offset.saturating_add(start as u64));
            }
        }
    }

    /// True if nodes of the job `id` were released before byte `offset` of the source.
    #[must_use]
    pub fn released_before(&self, id: &[u8], offset: u64) -> bool {
        self.first.get(id).is_some_and(|&first| first < offset)
    }

    /// How many jobs had nodes released.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// True if no job had nodes released.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_u_and_c_count_and_only_at_the_start_of_a_record() {
        let mut releases = Releases::default();
        releases.scan(
            b"11/23/2026 02:33:20;S;1.s;x\n11/23/2026 02:33:20;E;2.s;x\n11/23/2026 02:33:20;u;3.s;x\n\
              continued              ;c;4.s;\n11/23/2026 02:33:20;c;5.s;\n11/23/2026 02:33:20;e;6.s;\n11/23/2026 02:33:20;e",
            0,
        );
        let seen: Vec<_> = ["1.s", "2.s", "3.s", "4.s", "5.s", "6.s"]
            .map(|id| releases.released_before(id.as_bytes(), 999))
            .into();
        assert_eq!(seen, [false, false, true, false, true, false]);
        assert_eq!(releases.len(), 2);
    }

    #[test]
    fn the_first_offset_of_an_id_stays() {
        let mut releases = Releases::default();
        releases.scan(b"11/23/2026 02:33:20;u;3.s;x\n", 500);
        releases.scan(b"11/23/2026 02:33:20;u;3.s;x\n", 900);
        assert!(releases.released_before(b"3.s", 501));
        assert!(!releases.released_before(b"3.s", 500));
    }

    #[test]
    fn an_endless_id_is_not_kept() {
        let mut releases = Releases::default();
        releases.scan(format!("11/23/2026 02:33:20;u;{};x\n", "9".repeat(MAX_ID + 1)).as_bytes(), 0);
        assert!(releases.is_empty());
    }
}

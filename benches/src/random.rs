//! The random numbers of the generator: SplitMix64 and distributions in integers, so that a seed gives the same
//! bytes on every machine.

/// SplitMix64 (Steele, Lea and Flood, 2014): a full-period generator of 64-bit numbers with 64 bits of state.
///
/// ```
/// let mut random = benches::Random::new(0);
/// assert_eq!(random.next_u64(), 0xE220_A839_7B1D_CDAF); // the reference implementation's first value for seed 0
/// ```
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, uniform over all 64-bit numbers.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`; 0 where `n` is 0. The bias of the multiplication is below `n / 2^64`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low.saturating_add(self.below(high.saturating_sub(low).saturating_add(1)))
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A duration in seconds with a long tail, as wall times have: the magnitude is uniform, from seconds to days.
    pub fn duration(&mut self) -> u64 {
        match self.below(100) {
            0..=4 => self.between(0, 1),
            5..=24 => self.between(2, 59),
            25..=49 => self.between(60, 899),
            50..=79 => self.between(900, 14_399),
            80..=96 => self.between(14_400, 86_400),
            _ => self.between(86_401, 604_800),
        }
    }
}

/// A Zipf-like choice: the k-th of `n` things is chosen in proportion to 1/k, as users and accounts of a centre are.
#[derive(Debug, Clone)]
pub struct Zipf {
    sums: Vec<u64>,
}

impl Zipf {
    /// Weights for `n` things; at least one.
    #[must_use]
    pub fn new(n: usize) -> Self {
        let mut sum = 0;
        let sums = (1..=n.max(1) as u64)
            .map(|k| {
                sum += 1_000_000 / k;
                sum
            })
            .collect();
        Self { sums }
    }

    /// The index of the chosen thing.
    pub fn choose(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or(1);
        let at = random.below(total);
        self.sums.partition_point(|sum| *sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_sequence() {
        // the first values of splitmix64.c (public domain, Vigna 2015) for seed 1234567
        let mut random = Random::new(1_234_567);
        let first = [random.next_u64(), random.next_u64(), random.next_u64()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(7);
        for _ in 0..10_000 {
            assert!(random.below(3) < 3);
            assert!((5..=9).contains(&random.between(5, 9)));
        }
        assert_eq!(random.below(0), 0);
        assert_eq!(random.between(4, 4), 4);
    }

    #[test]
    fn the_first_of_zipf_leads() {
        let (zipf, mut random) = (Zipf::new(100), Random::new(1));
        let mut count = [0_u32; 100];
        for _ in 0..10_000 {
            count[zipf.choose(&mut random)] += 1;
        }
        assert!(count[0] > 3 * count[9] && count[9] > count[99], "{count:?}");
    }
}

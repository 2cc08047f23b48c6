//! Where chance comes from: xoshiro256++ seeded through SplitMix64.
//!
//! Both are the public-domain algorithms of David Blackman and Sebastiano Vigna
//! (<https://prng.di.unimi.it/xoshiro256plusplus.c>, <https://prng.di.unimi.it/splitmix64.c>).
//! Written out here because they are a dozen lines of integer arithmetic, the same bits on every
//! machine, and a seed must keep its meaning when a dependency's version changes.

/// A small seeded generator of uniform numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of `seed`. Equal seeds give equal sequences, on every machine.
    pub fn new(seed: u64) -> Self {
        let mut mix = SplitMix64(seed);
        Self {
            state: std::array::from_fn(|_| mix.next_u64()),
        }
    }

    /// The next uniform number in `[0, 1)`, a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

/// Spreads a seed of few set bits over the whole state, as xoshiro's authors ask.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the `rand_xoshiro` crate took from the authors' C program.
    #[test]
    fn matches_the_reference_xoshiro256plusplus() {
        let mut rng = Rng {
            state: [1, 2, 3, 4],
        };
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
            12_406_186_145_184_390_807,
            15_849_039_046_786_891_736,
            10_450_023_813_501_588_000,
        ];
        for value in expected {
            assert_eq!(rng.next_u64(), value);
        }
    }

    /// The vector of the authors' C program for seed 1234567, as Rosetta Code lists it too.
    #[test]
    fn matches_the_reference_splitmix64() {
        let mut mix = SplitMix64(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for value in expected {
            assert_eq!(mix.next_u64(), value);
        }
    }

    #[test]
    fn uniform_numbers_stay_below_one_and_fill_the_interval() {
        let mut rng = Rng::new(7);
        let draws: Vec<f64> = (0..10_000).map(|_| rng.uniform()).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        // Standard error of the mean is 0.0029; this is four of them.
        assert!((mean - 0.5).abs() < 0.0116, "mean {mean}");
    }
}

//! Four u32 side by side, for the entropy decoder: an array, and in wasm a vector. Every operation is exact, so both are
//! the same.

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(super) use array::Four;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use vector::Four;

/// The four bytes at an offset that is in range.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], offset: u32) -> u32 {
    const { assert!(N.is_power_of_two() && N >= 4) };
    let word = bytes[offset as usize..].first_chunk();
    u32::from_le_bytes(*word.expect("four bytes"))
}

/// The definition.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod array {
    use super::word;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Four([u32; 4]);

    impl Four {
        #[inline(always)]
        pub fn new(lanes: [u32; 4]) -> Self {
            Self(lanes)
        }

        #[inline(always)]
        pub fn splat(x: u32) -> Self {
            Self([x; 4])
        }

        #[inline(always)]
        pub fn to_array(self) -> [u32; 4] {
            self.0
        }

        /// Little-endian.
        #[inline(always)]
        pub fn to_bytes(self) -> [u8; 16] {
            let low = u64::from(self.0[0]) | u64::from(self.0[1]) << 32;
            let high = u64::from(self.0[2]) | u64::from(self.0[3]) << 32;
            (u128::from(low) | u128::from(high) << 64).to_le_bytes()
        }

        #[inline(always)]
        fn with(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
            let ([a, b, c, d], [e, g, h, i]) = (self.0, other.0);
            Self([f(a, e), f(b, g), f(c, h), f(d, i)])
        }

        #[inline(always)]
        pub fn and(self, other: Self) -> Self {
            self.with(other, |a, b| a & b)
        }

        #[inline(always)]
        pub fn or(self, other: Self) -> Self {
            self.with(other, |a, b| a | b)
        }

        #[inline(always)]
        pub fn shl<const N: u32>(self) -> Self {
            Self(self.0.map(|x| x << N))
        }

        #[inline(always)]
        pub fn shr<const N: u32>(self) -> Self {
            Self(self.0.map(|x| x >> N))
        }

        /// Modulo 2³², as [`Four::mul`].
        #[inline(always)]
        pub fn add(self, other: Self) -> Self {
            self.with(other, u32::wrapping_add)
        }

        #[inline(always)]
        pub fn mul(self, other: Self) -> Self {
            self.with(other, u32::wrapping_mul)
        }

        /// The smaller, of numbers with a sign.
        #[inline(always)]
        pub fn min(self, other: Self) -> Self {
            self.with(other, |a, b| (a as i32).min(b as i32) as u32)
        }

        /// The larger, of numbers with a sign.
        #[inline(always)]
        pub fn max(self, other: Self) -> Self {
            self.with(other, |a, b| (a as i32).max(b as i32) as u32)
        }

        /// Each lane's four bytes, from this many on. There are a power of two of bytes, and offsets end at them and are
        /// multiples of four, so that nothing has to be checked.
        #[inline(always)]
        pub fn look_up<const N: usize>(self, bytes: &[u8; N]) -> Self {
            let [a, b, c, d] = self.and(Self::splat(N as u32 - 4)).0;
            Self([
                word(bytes, a),
                word(bytes, b),
                word(bytes, c),
                word(bytes, d),
            ])
        }

        /// Lanes below 2¹⁶ move up by 16 bits, and take the next of four 16-bit words, the first in the lowest bits. Also
        /// how many lanes did.
        #[inline(always)]
        pub fn refilled(self, mut words: u64) -> (Self, u32) {
            let mut lanes = self.0;
            let mut taken = 0;
            for lane in &mut lanes {
                let low = *lane < 1 << 16;
                let with_word = *lane << 16 | (words & 0xffff) as u32;
                *lane = if low { with_word } else { *lane };
                words = if low { words >> 16 } else { words };
                taken += u32::from(low);
            }
            (Self(lanes), taken)
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod vector {
    use super::word;
    use std::arch::wasm32::*;

    #[derive(Debug, Clone, Copy)]
    pub struct Four(v128);

    /// For each set of lanes that take a word, the bytes that each takes; 255 for none.
    static WORDS: [v128; 16] = words();

    const fn words() -> [v128; 16] {
        let mut all = [u64x2(0, 0); 16];
        let mut takes = 0;
        while takes < 16 {
            let mut bytes = [255; 4];
            let (mut lane, mut next) = (0, 0);
            while lane < 4 {
                if takes >> lane & 1 == 1 {
                    bytes[lane] = next;
                    next += 2;
                }
                lane += 1;
            }
            let [a, b, c, d] = bytes;
            // 255 and one more are both past the end.
            const fn second(first: u8) -> u8 {
                first.saturating_add(1)
            }
            all[takes] = u8x16(
                a,
                second(a),
                255,
                255,
                b,
                second(b),
                255,
                255,
                c,
                second(c),
                255,
                255,
                d,
                second(d),
                255,
                255,
            );
            takes += 1;
        }
        all
    }

    impl Four {
        #[inline(always)]
        pub fn new([a, b, c, d]: [u32; 4]) -> Self {
            Self(u32x4(a, b, c, d))
        }

        #[inline(always)]
        pub fn splat(x: u32) -> Self {
            Self(u32x4_splat(x))
        }

        #[inline(always)]
        pub fn to_array(self) -> [u32; 4] {
            [
                u32x4_extract_lane::<0>(self.0),
                u32x4_extract_lane::<1>(self.0),
                u32x4_extract_lane::<2>(self.0),
                u32x4_extract_lane::<3>(self.0),
            ]
        }

        #[inline(always)]
        pub fn to_bytes(self) -> [u8; 16] {
            let low = u64x2_extract_lane::<0>(self.0);
            let high = u64x2_extract_lane::<1>(self.0);
            (u128::from(low) | u128::from(high) << 64).to_le_bytes()
        }

        #[inline(always)]
        pub fn and(self, other: Self) -> Self {
            Self(v128_and(self.0, other.0))
        }

        #[inline(always)]
        pub fn or(self, other: Self) -> Self {
            Self(v128_or(self.0, other.0))
        }

        #[inline(always)]
        pub fn shl<const N: u32>(self) -> Self {
            Self(u32x4_shl(self.0, N))
        }

        #[inline(always)]
        pub fn shr<const N: u32>(self) -> Self {
            Self(u32x4_shr(self.0, N))
        }

        #[inline(always)]
        pub fn add(self, other: Self) -> Self {
            Self(u32x4_add(self.0, other.0))
        }

        #[inline(always)]
        pub fn mul(self, other: Self) -> Self {
            Self(u32x4_mul(self.0, other.0))
        }

        #[inline(always)]
        pub fn min(self, other: Self) -> Self {
            Self(i32x4_min(self.0, other.0))
        }

        #[inline(always)]
        pub fn max(self, other: Self) -> Self {
            Self(i32x4_max(self.0, other.0))
        }

        #[inline(always)]
        pub fn look_up<const N: usize>(self, bytes: &[u8; N]) -> Self {
            let [a, b, c, d] = self.and(Self::splat(N as u32 - 4)).to_array();
            Self(u32x4(
                word(bytes, a),
                word(bytes, b),
                word(bytes, c),
                word(bytes, d),
            ))
        }

        #[inline(always)]
        pub fn refilled(self, words: u64) -> (Self, u32) {
            let low = u32x4_eq(u32x4_shr(self.0, 16), u32x4_splat(0));
            let takes = u32x4_bitmask(low);
            let words = u8x16_swizzle(u64x2_splat(words), WORDS[usize::from(takes) % 16]);
            let with_word = v128_or(u32x4_shl(self.0, 16), words);
            (
                Self(v128_bitselect(with_word, self.0, low)),
                u32::from(takes).count_ones(),
            )
        }
    }
}

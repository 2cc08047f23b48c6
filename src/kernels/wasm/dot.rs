//! Three ways to multiply codes with activations and add up the products.

use super::{Pair, both, twice};
use core::arch::wasm32::*;

/// The part of `Simd` in which the builds differ; see there. An accumulator is a `Pair` in every form.
///
/// # Safety
/// As `Simd`.
pub(in crate::kernels) trait Dot {
    type Codes: Copy;
    type Acc8: Copy;
    type Quad: Copy;
    const QUAD_BYTES: usize;
    const CODES_BYTES: usize;
    const SIX_BIT_QUADS: usize;

    /// `q`: 32 consecutive activations as i16.
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [v128; 4]);
    unsafe fn load_quad(p: *const u8) -> Self::Quad;
    unsafe fn codes(v: Pair) -> Self::Codes;
    unsafe fn low_codes(v: Pair) -> Self::Codes;
    unsafe fn high_codes(v: Pair) -> Self::Codes;
    unsafe fn load_codes(p: *const u8) -> Self::Codes;
    unsafe fn store_codes(p: *mut u8, v: Self::Codes);
    unsafe fn dot4_first(w: Self::Codes, a: Self::Quad) -> Pair;
    unsafe fn dot4(acc: Pair, w: Self::Codes, a: Self::Quad) -> Pair;
    unsafe fn scale(acc: Pair, scales: Pair) -> Pair;
    unsafe fn zero8() -> Self::Acc8;
    unsafe fn dot8(acc: Self::Acc8, w: Pair, a: Self::Quad) -> Self::Acc8;
    unsafe fn scale8(acc: Self::Acc8, scales: Pair) -> Pair;
    /// From eight scales as u16.
    unsafe fn scales(s: v128) -> Pair;
}

/// Each byte's low four bits.
#[cfg(feature = "relaxed")]
#[inline(always)]
fn low_nibbles(v: Pair) -> Pair {
    let mask = u8x16_splat(15);
    (v128_and(v.0, mask), v128_and(v.1, mask))
}

/// Each byte's high four bits, by a 16-bit shift and a mask: x86 has no 8-bit shift, and its emulation costs more.
#[cfg(feature = "relaxed")]
#[inline(always)]
fn high_nibbles(v: Pair) -> Pair {
    low_nibbles((u16x8_shr(v.0, 4), u16x8_shr(v.1, 4)))
}

/// `i16x8.relaxed_dot_i8x16_i7x16_s`. Its second operand is read as signed or as unsigned bytes, and sums may saturate
/// or wrap, as the engine likes; with the codes there (top bit clear) and sums below 2^15 neither can be told.
#[cfg(feature = "relaxed")]
pub(in crate::kernels) struct Relaxed;

#[cfg(feature = "relaxed")]
impl Dot for Relaxed {
    type Codes = Pair;
    type Acc8 = (Pair, Pair);
    type Quad = v128;
    const QUAD_BYTES: usize = 4;
    const CODES_BYTES: usize = 32;
    const SIX_BIT_QUADS: usize = 2;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [v128; 4]) {
        unsafe {
            let low = i8x16_narrow_i16x8(q[0], q[1]);
            let high = i8x16_narrow_i16x8(q[2], q[3]);
            v128_store32_lane::<0>(low, p.cast());
            v128_store32_lane::<1>(low, p.add(stride).cast());
            v128_store32_lane::<2>(low, p.add(2 * stride).cast());
            v128_store32_lane::<3>(low, p.add(3 * stride).cast());
            v128_store32_lane::<0>(high, p.add(4 * stride).cast());
            v128_store32_lane::<1>(high, p.add(5 * stride).cast());
            v128_store32_lane::<2>(high, p.add(6 * stride).cast());
            v128_store32_lane::<3>(high, p.add(7 * stride).cast());
        }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> v128 {
        unsafe { v128_load32_splat(p.cast()) }
    }
    #[inline(always)]
    unsafe fn codes(v: Pair) -> Pair {
        v
    }
    #[inline(always)]
    unsafe fn low_codes(v: Pair) -> Pair {
        low_nibbles(v)
    }
    #[inline(always)]
    unsafe fn high_codes(v: Pair) -> Pair {
        high_nibbles(v)
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> Pair {
        unsafe { (v128_load(p.cast()), v128_load(p.add(16).cast())) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: Pair) {
        unsafe {
            v128_store(p.cast(), v.0);
            v128_store(p.add(16).cast(), v.1);
        }
    }
    #[inline(always)]
    unsafe fn zero8() -> (Pair, Pair) {
        let zero = i16x8_splat(0);
        ((zero, zero), (zero, zero))
    }
    #[inline(always)]
    unsafe fn dot8(acc: (Pair, Pair), w: Pair, a: v128) -> (Pair, Pair) {
        // Only nibbles keep the top bit clear.
        unsafe {
            (
                Self::dot4(acc.0, low_nibbles(w), a),
                Self::dot4(acc.1, high_nibbles(w), a),
            )
        }
    }

    #[inline(always)]
    unsafe fn dot4_first(w: Pair, a: v128) -> Pair {
        (
            i16x8_relaxed_dot_i8x16_i7x16(a, w.0),
            i16x8_relaxed_dot_i8x16_i7x16(a, w.1),
        )
    }
    #[inline(always)]
    unsafe fn dot4(acc: Pair, w: Pair, a: v128) -> Pair {
        unsafe {
            let products = Self::dot4_first(w, a);
            both!(i16x8_add, acc, products)
        }
    }
    #[inline(always)]
    unsafe fn scale(acc: Pair, scales: Pair) -> Pair {
        both!(i32x4_dot_i16x8, acc, scales)
    }
    #[inline(always)]
    unsafe fn scale8(acc: (Pair, Pair), scales: Pair) -> Pair {
        let sixteen = (i16x8_shl(scales.0, 4), i16x8_shl(scales.1, 4));
        let low = both!(i32x4_dot_i16x8, acc.0, scales);
        let high = both!(i32x4_dot_i16x8, acc.1, sixteen);
        both!(i32x4_add, low, high)
    }
    #[inline(always)]
    unsafe fn scales(s: v128) -> Pair {
        twice(s)
    }
}

/// `i32x4.relaxed_dot_i8x16_i7x16_add_s`: a row's four products added to its own 32-bit lane. One instruction on
/// processors that have it (ARM's `sdot`, x86's VNNI), three elsewhere, where [`Relaxed`] has two. Operands as there: the
/// sums of two products that engines make on the way stay below 2^15.
#[cfg(feature = "relaxed")]
pub(in crate::kernels) struct RelaxedI32;

#[cfg(feature = "relaxed")]
impl Dot for RelaxedI32 {
    type Codes = Pair;
    /// Of low nibbles, of high nibbles.
    type Acc8 = (Pair, Pair);
    type Quad = v128;
    const QUAD_BYTES: usize = Relaxed::QUAD_BYTES;
    const CODES_BYTES: usize = Relaxed::CODES_BYTES;
    const SIX_BIT_QUADS: usize = 8;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [v128; 4]) {
        unsafe { Relaxed::store_quads(p, stride, q) }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> v128 {
        unsafe { Relaxed::load_quad(p) }
    }
    #[inline(always)]
    unsafe fn codes(v: Pair) -> Pair {
        v
    }
    #[inline(always)]
    unsafe fn low_codes(v: Pair) -> Pair {
        low_nibbles(v)
    }
    #[inline(always)]
    unsafe fn high_codes(v: Pair) -> Pair {
        high_nibbles(v)
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> Pair {
        unsafe { Relaxed::load_codes(p) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: Pair) {
        unsafe { Relaxed::store_codes(p, v) }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: Pair, a: v128) -> Pair {
        let zero = i32x4_splat(0);
        unsafe { Self::dot4((zero, zero), w, a) }
    }
    #[inline(always)]
    unsafe fn dot4(acc: Pair, w: Pair, a: v128) -> Pair {
        (
            i32x4_relaxed_dot_i8x16_i7x16_add(a, w.0, acc.0),
            i32x4_relaxed_dot_i8x16_i7x16_add(a, w.1, acc.1),
        )
    }
    #[inline(always)]
    unsafe fn scale(acc: Pair, scales: Pair) -> Pair {
        both!(i32x4_mul, acc, scales)
    }
    #[inline(always)]
    unsafe fn zero8() -> (Pair, Pair) {
        let zero = i32x4_splat(0);
        ((zero, zero), (zero, zero))
    }
    #[inline(always)]
    unsafe fn dot8(acc: (Pair, Pair), w: Pair, a: v128) -> (Pair, Pair) {
        // Only nibbles keep the top bit clear.
        unsafe {
            (
                Self::dot4(acc.0, low_nibbles(w), a),
                Self::dot4(acc.1, high_nibbles(w), a),
            )
        }
    }
    #[inline(always)]
    unsafe fn scale8(acc: (Pair, Pair), scales: Pair) -> Pair {
        let high = (i32x4_shl(acc.1.0, 4), i32x4_shl(acc.1.1, 4));
        let sum = both!(i32x4_add, acc.0, high);
        both!(i32x4_mul, sum, scales)
    }
    #[inline(always)]
    unsafe fn scales(s: v128) -> Pair {
        (u32x4_extend_low_u16x8(s), u32x4_extend_high_u16x8(s))
    }
}

/// Whether the engine's dot product of four is one sum of 32 bits, or made of two of 16 by processors that have no such
/// instruction. They differ by operands that relaxed SIMD leaves open and that no kernel uses: 255 or -1, as the engine
/// takes it, times 127 is more than a sum of 16 bits holds, or negative. x86's `pmaddubsw` gives 32,767 twice.
#[cfg(feature = "relaxed")]
#[target_feature(enable = "relaxed-simd")]
pub(in crate::kernels) unsafe fn sums_in_32_bits() -> bool {
    // Not to be computed by the compiler, which is no processor.
    let (a, b) = std::hint::black_box((i8x16_splat(127), i8x16_splat(-1)));
    let four = i32x4_relaxed_dot_i8x16_i7x16_add(a, b, i32x4_splat(0));
    i32x4_extract_lane::<0>(four) != 2 * 32_767
}

/// 16-bit multiplications: activations are kept as i16, the even columns' pair before the odd columns', and codes are
/// split into even and odd columns.
#[cfg(not(feature = "relaxed"))]
pub(in crate::kernels) struct Fixed;

#[cfg(not(feature = "relaxed"))]
impl Dot for Fixed {
    /// Even columns, odd columns.
    type Codes = (Pair, Pair);
    type Acc8 = Pair;
    /// Columns 0 and 2, columns 1 and 3.
    type Quad = (v128, v128);
    const QUAD_BYTES: usize = 8;
    const CODES_BYTES: usize = 64;
    const SIX_BIT_QUADS: usize = 2;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [v128; 4]) {
        for (i, q) in q.into_iter().enumerate() {
            let q = i16x8_shuffle::<0, 2, 1, 3, 4, 6, 5, 7>(q, q);
            unsafe {
                v128_store64_lane::<0>(q, p.add(2 * i * stride).cast());
                v128_store64_lane::<1>(q, p.add((2 * i + 1) * stride).cast());
            }
        }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> (v128, v128) {
        unsafe {
            (
                v128_load32_splat(p.cast()),
                v128_load32_splat(p.add(4).cast()),
            )
        }
    }
    #[inline(always)]
    unsafe fn codes(v: Pair) -> (Pair, Pair) {
        let mask = i16x8_splat(0xff);
        let even = (v128_and(v.0, mask), v128_and(v.1, mask));
        (even, (u16x8_shr(v.0, 8), u16x8_shr(v.1, 8)))
    }
    #[inline(always)]
    unsafe fn low_codes(v: Pair) -> (Pair, Pair) {
        let mask = i16x8_splat(15);
        let one = |v| (v128_and(v, mask), v128_and(u16x8_shr(v, 8), mask));
        let ((even0, odd0), (even1, odd1)) = (one(v.0), one(v.1));
        ((even0, even1), (odd0, odd1))
    }
    #[inline(always)]
    unsafe fn high_codes(v: Pair) -> (Pair, Pair) {
        let mask = i16x8_splat(15);
        let one = |v| (v128_and(u16x8_shr(v, 4), mask), u16x8_shr(v, 12));
        let ((even0, odd0), (even1, odd1)) = (one(v.0), one(v.1));
        ((even0, even1), (odd0, odd1))
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> (Pair, Pair) {
        let load = |i: usize| unsafe { v128_load(p.add(16 * i).cast()) };
        ((load(0), load(1)), (load(2), load(3)))
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: (Pair, Pair)) {
        unsafe {
            v128_store(p.cast(), v.0.0);
            v128_store(p.add(16).cast(), v.0.1);
            v128_store(p.add(32).cast(), v.1.0);
            v128_store(p.add(48).cast(), v.1.1);
        }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: (Pair, Pair), a: (v128, v128)) -> Pair {
        let one = |even, odd| i16x8_add(i16x8_mul(even, a.0), i16x8_mul(odd, a.1));
        (one(w.0.0, w.1.0), one(w.0.1, w.1.1))
    }
    #[inline(always)]
    unsafe fn dot4(acc: Pair, w: (Pair, Pair), a: (v128, v128)) -> Pair {
        unsafe {
            let products = Self::dot4_first(w, a);
            both!(i16x8_add, acc, products)
        }
    }
    #[inline(always)]
    unsafe fn scale(acc: Pair, scales: Pair) -> Pair {
        both!(i32x4_dot_i16x8, acc, scales)
    }
    #[inline(always)]
    unsafe fn zero8() -> Pair {
        (i32x4_splat(0), i32x4_splat(0))
    }
    #[inline(always)]
    unsafe fn dot8(acc: Pair, w: Pair, a: (v128, v128)) -> Pair {
        let (even, odd) = unsafe { Self::codes(w) };
        let step = |acc, even, odd| {
            let acc = i32x4_add(acc, i32x4_dot_i16x8(even, a.0));
            i32x4_add(acc, i32x4_dot_i16x8(odd, a.1))
        };
        (step(acc.0, even.0, odd.0), step(acc.1, even.1, odd.1))
    }
    #[inline(always)]
    unsafe fn scale8(acc: Pair, scales: Pair) -> Pair {
        // Scales stand twice in a row's 32 bits.
        let mask = i32x4_splat(0xffff);
        let one = |acc, scales| i32x4_mul(acc, v128_and(scales, mask));
        (one(acc.0, scales.0), one(acc.1, scales.1))
    }
    #[inline(always)]
    unsafe fn scales(s: v128) -> Pair {
        twice(s)
    }
}

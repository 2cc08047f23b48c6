//! WebAssembly SIMD: two 128-bit vectors hold what eight rows need. A module is validated whole, so
//! relaxed SIMD is a build of its own (feature `relaxed`); only the dot products differ.

use super::simd::Simd;
use core::arch::wasm32::*;

pub(super) struct Wasm;

/// Rows 0–3 and rows 4–7.
type Pair = (v128, v128);

/// One intrinsic on both halves. A macro, because functions with a target feature are no `Fn`.
macro_rules! both {
    ($op:ident, $a:expr, $b:expr) => {
        ($op($a.0, $b.0), $op($a.1, $b.1))
    };
}

/// Dot products with `i16x8.relaxed_dot_i8x16_i7x16_s`. Its second operand is read as signed or as
/// unsigned bytes, and sums may saturate or wrap, as the engine likes; with the codes there (top bit
/// clear) and sums below 2^15 neither can be told.
#[cfg(feature = "relaxed")]
mod dot {
    use super::*;

    pub(super) type Quad = v128;
    pub(super) const QUAD_BYTES: usize = 4;

    #[inline(always)]
    pub(super) unsafe fn store_quad(p: *mut u8, a: [i8; 4]) {
        unsafe { p.cast::<[i8; 4]>().write_unaligned(a) }
    }
    #[inline(always)]
    pub(super) unsafe fn load_quad(p: *const u8) -> Quad {
        unsafe { v128_load32_splat(p.cast()) }
    }
    #[inline(always)]
    pub(super) unsafe fn dot4(acc: Pair, w: Pair, a: Quad) -> Pair {
        (
            i16x8_add(acc.0, i16x8_relaxed_dot_i8x16_i7x16(a, w.0)),
            i16x8_add(acc.1, i16x8_relaxed_dot_i8x16_i7x16(a, w.1)),
        )
    }
    #[inline(always)]
    pub(super) unsafe fn dot8(acc: Pair, w: Pair, a: Quad) -> Pair {
        // Only nibbles keep the top bit clear.
        let step = |acc, w| {
            let low = v128_and(w, u8x16_splat(15));
            let high = v128_and(u16x8_shr(w, 4), u8x16_splat(15));
            let low = i32x4_dot_i16x8(i16x8_relaxed_dot_i8x16_i7x16(a, low), i16x8_splat(1));
            let high = i32x4_dot_i16x8(i16x8_relaxed_dot_i8x16_i7x16(a, high), i16x8_splat(16));
            i32x4_add(acc, i32x4_add(low, high))
        };
        (step(acc.0, w.0), step(acc.1, w.1))
    }
}

/// Dot products with 16-bit multiplications: activations are kept as i16, the even columns' pair
/// before the odd columns', and code bytes are split into even and odd columns by mask and shift.
#[cfg(not(feature = "relaxed"))]
mod dot {
    use super::*;

    /// Columns 0 and 2, columns 1 and 3.
    pub(super) type Quad = (v128, v128);
    pub(super) const QUAD_BYTES: usize = 8;

    #[inline(always)]
    pub(super) unsafe fn store_quad(p: *mut u8, a: [i8; 4]) {
        let q = [a[0], a[2], a[1], a[3]].map(i16::from);
        unsafe { p.cast::<[i16; 4]>().write_unaligned(q) }
    }
    #[inline(always)]
    pub(super) unsafe fn load_quad(p: *const u8) -> Quad {
        unsafe {
            (
                v128_load32_splat(p.cast()),
                v128_load32_splat(p.add(4).cast()),
            )
        }
    }
    #[inline(always)]
    fn even(w: v128) -> v128 {
        v128_and(w, i16x8_splat(0xff))
    }
    #[inline(always)]
    fn odd(w: v128) -> v128 {
        u16x8_shr(w, 8)
    }
    #[inline(always)]
    pub(super) unsafe fn dot4(acc: Pair, w: Pair, a: Quad) -> Pair {
        let step = |acc, w| {
            let acc = i16x8_add(acc, i16x8_mul(even(w), a.0));
            i16x8_add(acc, i16x8_mul(odd(w), a.1))
        };
        (step(acc.0, w.0), step(acc.1, w.1))
    }
    #[inline(always)]
    pub(super) unsafe fn dot8(acc: Pair, w: Pair, a: Quad) -> Pair {
        let step = |acc, w| {
            let acc = i32x4_add(acc, i32x4_dot_i16x8(even(w), a.0));
            i32x4_add(acc, i32x4_dot_i16x8(odd(w), a.1))
        };
        (step(acc.0, w.0), step(acc.1, w.1))
    }
}

impl Simd for Wasm {
    type Bytes = Pair;
    type Half = Pair;
    type Int = Pair;
    type Float = Pair;
    type Quad = dot::Quad;

    const QUAD_BYTES: usize = dot::QUAD_BYTES;

    #[inline(always)]
    unsafe fn store_quad(p: *mut u8, a: [i8; 4]) {
        unsafe { dot::store_quad(p, a) }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> Self::Quad {
        unsafe { dot::load_quad(p) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Pair {
        unsafe { (v128_load(p.cast()), v128_load(p.add(16).cast())) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: Pair) {
        unsafe {
            v128_store(p.cast(), v.0);
            v128_store(p.add(16).cast(), v.1);
        }
    }
    #[inline(always)]
    unsafe fn low_nibbles(v: Pair) -> Pair {
        let mask = u8x16_splat(15);
        (v128_and(v.0, mask), v128_and(v.1, mask))
    }
    #[inline(always)]
    unsafe fn high_nibbles(v: Pair) -> Pair {
        // A 16-bit shift and a mask: x86 has no 8-bit shift, and its emulation costs more.
        let mask = u8x16_splat(15);
        (
            v128_and(u16x8_shr(v.0, 4), mask),
            v128_and(u16x8_shr(v.1, 4), mask),
        )
    }
    #[inline(always)]
    unsafe fn half_zero() -> Pair {
        (i16x8_splat(0), i16x8_splat(0))
    }
    #[inline(always)]
    unsafe fn dot4(acc: Pair, w: Pair, a: Self::Quad) -> Pair {
        unsafe { dot::dot4(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn dot8(acc: Pair, w: Pair, a: Self::Quad) -> Pair {
        unsafe { dot::dot8(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn load_scales_half(p: *const u8) -> Pair {
        unsafe {
            let s = u16x8_load_extend_u8x8(p);
            (
                i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(s, s),
                i16x8_shuffle::<4, 4, 5, 5, 6, 6, 7, 7>(s, s),
            )
        }
    }
    #[inline(always)]
    unsafe fn load_scales_int(p: *const u8) -> Pair {
        unsafe {
            let s = u16x8_load_extend_u8x8(p);
            (u32x4_extend_low_u16x8(s), u32x4_extend_high_u16x8(s))
        }
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> Pair {
        unsafe {
            let o = v128_load(p.cast());
            let zero = i16x8_splat(0);
            (
                i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(o, zero),
                i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(o, zero),
            )
        }
    }
    #[inline(always)]
    unsafe fn splat_sum(sum: i16) -> Pair {
        let v = i32x4_splat(i32::from(sum as u16));
        (v, v)
    }
    #[inline(always)]
    unsafe fn widen_mul(a: Pair, b: Pair) -> Pair {
        both!(i32x4_dot_i16x8, a, b)
    }
    #[inline(always)]
    unsafe fn int_zero() -> Pair {
        (i32x4_splat(0), i32x4_splat(0))
    }
    #[inline(always)]
    unsafe fn int_add(a: Pair, b: Pair) -> Pair {
        both!(i32x4_add, a, b)
    }
    #[inline(always)]
    unsafe fn int_mul(a: Pair, b: Pair) -> Pair {
        both!(i32x4_mul, a, b)
    }
    #[inline(always)]
    unsafe fn int_to_float(a: Pair) -> Pair {
        (f32x4_convert_i32x4(a.0), f32x4_convert_i32x4(a.1))
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Pair {
        let v = f32x4_splat(x);
        (v, v)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Pair {
        unsafe { (v128_load(p.cast()), v128_load(p.add(4).cast())) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Pair) {
        unsafe {
            v128_store(p.cast(), v.0);
            v128_store(p.add(4).cast(), v.1);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        both!(f32x4_add, a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        both!(f32x4_sub, a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        both!(f32x4_mul, a, b)
    }
    #[inline(always)]
    unsafe fn div(a: Pair, b: Pair) -> Pair {
        both!(f32x4_div, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        // pmax(x, y) is `x < y ? y : x`.
        both!(f32x4_pmax, b, a)
    }
    #[inline(always)]
    unsafe fn min(a: Pair, b: Pair) -> Pair {
        // pmin(x, y) is `y < x ? y : x`.
        both!(f32x4_pmin, b, a)
    }
    #[inline(always)]
    unsafe fn abs(a: Pair) -> Pair {
        (f32x4_abs(a.0), f32x4_abs(a.1))
    }
    #[inline(always)]
    unsafe fn nearest(a: Pair) -> Pair {
        (f32x4_nearest(a.0), f32x4_nearest(a.1))
    }
    #[inline(always)]
    unsafe fn pow2(n: Pair) -> Pair {
        let one = |n| {
            let biased = i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127));
            i32x4_shl(biased, 23)
        };
        (one(n.0), one(n.1))
    }
}

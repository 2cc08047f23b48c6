//! WebAssembly SIMD: two 128-bit vectors hold what eight rows need. A module is validated whole, so
//! relaxed SIMD is a build of its own (feature `relaxed`); only the dot products differ.

mod dot;

use super::simd::Simd;
use core::arch::wasm32::*;
use dot::Dot;
#[cfg(not(feature = "relaxed"))]
pub(super) use dot::Fixed;
#[cfg(feature = "relaxed")]
pub(super) use dot::{Relaxed, RelaxedI32, sums_in_32_bits};
use std::marker::PhantomData;

/// Vectors of 128 bits, with the dot products of `D`.
pub(super) struct Wasm<D>(PhantomData<D>);

/// Rows 0–3 and rows 4–7.
type Pair = (v128, v128);

/// One intrinsic on both halves. A macro, because functions with a target feature are no `Fn`.
macro_rules! both {
    ($op:ident, $a:expr) => {
        ($op($a.0), $op($a.1))
    };
    ($op:ident, $a:expr, $b:expr) => {
        ($op($a.0, $b.0), $op($a.1, $b.1))
    };
}
use both;

impl<D: Dot> Simd for Wasm<D> {
    type Bytes = Pair;
    type Codes = D::Codes;
    type Acc = Pair;
    type Acc8 = D::Acc8;
    type Scales = Pair;
    type Pairs = Pair;
    type Int = Pair;
    type Float = Pair;
    type Quad = D::Quad;

    const QUAD_BYTES: usize = D::QUAD_BYTES;
    const CODES_BYTES: usize = D::CODES_BYTES;
    const SIX_BIT_QUADS: usize = D::SIX_BIT_QUADS;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [Pair; 4]) {
        let pack = |q: Pair| i16x8_narrow_i32x4(q.0, q.1);
        unsafe { D::store_quads(p, stride, q.map(pack)) }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> Self::Quad {
        unsafe { D::load_quad(p) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Pair {
        unsafe { (v128_load(p.cast()), v128_load(p.add(16).cast())) }
    }
    #[inline(always)]
    unsafe fn codes(v: Pair) -> Self::Codes {
        unsafe { D::codes(v) }
    }
    #[inline(always)]
    unsafe fn low_codes(v: Pair) -> Self::Codes {
        unsafe { D::low_codes(v) }
    }
    #[inline(always)]
    unsafe fn high_codes(v: Pair) -> Self::Codes {
        unsafe { D::high_codes(v) }
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> Self::Codes {
        unsafe { D::load_codes(p) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: Self::Codes) {
        unsafe { D::store_codes(p, v) }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: Self::Codes, a: Self::Quad) -> Pair {
        unsafe { D::dot4_first(w, a) }
    }
    #[inline(always)]
    unsafe fn dot4(acc: Pair, w: Self::Codes, a: Self::Quad) -> Pair {
        unsafe { D::dot4(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn scale(acc: Pair, scales: Pair) -> Pair {
        unsafe { D::scale(acc, scales) }
    }
    #[inline(always)]
    unsafe fn zero8() -> Self::Acc8 {
        unsafe { D::zero8() }
    }
    #[inline(always)]
    unsafe fn dot8(acc: Self::Acc8, w: Pair, a: Self::Quad) -> Self::Acc8 {
        unsafe { D::dot8(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn scale8(acc: Self::Acc8, scales: Pair) -> Pair {
        unsafe { D::scale8(acc, scales) }
    }
    #[inline(always)]
    unsafe fn load_scales(p: *const u8) -> Pair {
        unsafe { D::scales(u16x8_load_extend_u8x8(p)) }
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> Pair {
        unsafe { twice(v128_load(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const i16) -> Pair {
        unsafe { (v128_load(p.cast()), v128_load(p.add(8).cast())) }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> Pair {
        unsafe { (i16x8_load_extend_i8x8(p), i16x8_load_extend_i8x8(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const [i16; 2]) -> Pair {
        let v = unsafe { v128_load32_splat(p.cast()) };
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
    unsafe fn int_sum(a: Pair) -> i32 {
        let four = i32x4_add(a.0, a.1);
        let two = i32x4_add(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        i32x4_extract_lane::<0>(two).wrapping_add(i32x4_extract_lane::<1>(two))
    }
    #[inline(always)]
    unsafe fn int_to_float(a: Pair) -> Pair {
        both!(f32x4_convert_i32x4, a)
    }
    #[inline(always)]
    unsafe fn float_to_int(x: Pair) -> Pair {
        // Added to 1.5 · 2^23, a float's last bit is worth one: the sum rounds, and its low bits are the integer.
        // (A conversion would take several instructions to saturate.)
        let one = |x| {
            let magic = f32x4_splat(12_582_912.0);
            i32x4_sub(f32x4_add(x, magic), magic)
        };
        (one(x.0), one(x.1))
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut i16, v: Pair) {
        unsafe { v128_store(p.cast(), i16x8_narrow_i32x4(v.0, v.1)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut [i16; 2], stride: usize, v: Pair) {
        let v = i16x8_narrow_i32x4(v.0, v.1);
        unsafe {
            v128_store32_lane::<0>(v, p.cast());
            v128_store32_lane::<1>(v, p.add(stride).cast());
            v128_store32_lane::<2>(v, p.add(2 * stride).cast());
            v128_store32_lane::<3>(v, p.add(3 * stride).cast());
        }
    }
    #[inline(always)]
    unsafe fn ldexp(m: Pair, shifted: Pair) -> Pair {
        let n = (i32x4_shl(shifted.0, 23), i32x4_shl(shifted.1, 23));
        both!(i32x4_add, m, n)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Pair {
        let v = f32x4_splat(x);
        (v, v)
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> Pair {
        let v = unsafe { v128_load32_splat(p.cast()) };
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
}

/// Eight i16, each twice.
#[inline(always)]
fn twice(v: v128) -> Pair {
    (
        i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(v, v),
        i16x8_shuffle::<4, 4, 5, 5, 6, 6, 7, 7>(v, v),
    )
}

//! NEON, which every 64-bit ARM processor has: two 128-bit registers hold what eight rows need. Only the dot products
//! differ between processors. Nothing is fused: `fmla` would not round the product.

mod dot;

use super::simd::Simd;
use dot::Dot;
pub(super) use dot::{DotProducts, Products};
use std::arch::aarch64::*;
use std::marker::PhantomData;

/// Vectors of 128 bits, with the dot products of `D`.
pub(super) struct Neon<D>(PhantomData<D>);

// Rows 0–3 and rows 4–7.
type Bytes = (uint8x16_t, uint8x16_t);
type Codes = (int8x16_t, int8x16_t);
type Ints = (int32x4_t, int32x4_t);
type Floats = (float32x4_t, float32x4_t);
/// The first lanes of all rows, the second lanes.
type Pairs = (int16x8_t, int16x8_t);

/// One intrinsic on both halves. A macro, because functions with a target feature are no `Fn`.
macro_rules! both {
    ($op:ident, $a:expr) => {
        ($op($a.0), $op($a.1))
    };
    ($op:ident, $a:expr, $b:expr) => {
        ($op($a.0, $b.0), $op($a.1, $b.1))
    };
}

impl<D: Dot> Simd for Neon<D> {
    type Bytes = Bytes;
    type Codes = Codes;
    type Acc = D::Acc;
    type Acc8 = D::Acc8;
    type Scales = Ints;
    type Pairs = Pairs;
    type Int = Ints;
    type Float = Floats;
    type Quad = int8x16_t;

    const QUAD_BYTES: usize = 4;
    const CODES_BYTES: usize = 32;
    const SIX_BIT_QUADS: usize = D::SIX_BIT_QUADS;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [Ints; 4]) {
        unsafe {
            let low = vmovn_high_s16(vmovn_s16(narrow(q[0])), narrow(q[1]));
            let high = vmovn_high_s16(vmovn_s16(narrow(q[2])), narrow(q[3]));
            store_words(p, stride, vreinterpretq_s32_s8(low));
            store_words(p.add(4 * stride), stride, vreinterpretq_s32_s8(high));
        }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> int8x16_t {
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Bytes {
        unsafe { (vld1q_u8(p), vld1q_u8(p.add(16))) }
    }
    #[inline(always)]
    unsafe fn codes(v: Bytes) -> Codes {
        unsafe { both!(vreinterpretq_s8_u8, v) }
    }
    #[inline(always)]
    unsafe fn low_codes(v: Bytes) -> Codes {
        unsafe {
            let mask = vdupq_n_u8(15);
            Self::codes((vandq_u8(v.0, mask), vandq_u8(v.1, mask)))
        }
    }
    #[inline(always)]
    unsafe fn high_codes(v: Bytes) -> Codes {
        unsafe { Self::codes((vshrq_n_u8::<4>(v.0), vshrq_n_u8::<4>(v.1))) }
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> Codes {
        unsafe { Self::codes(Self::load_bytes(p)) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: Codes) {
        unsafe {
            vst1q_s8(p.cast(), v.0);
            vst1q_s8(p.add(16).cast(), v.1);
        }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: Codes, a: int8x16_t) -> D::Acc {
        unsafe { D::dot4_first(w, a) }
    }
    #[inline(always)]
    unsafe fn dot4(acc: D::Acc, w: Codes, a: int8x16_t) -> D::Acc {
        unsafe { D::dot4(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn scale(acc: D::Acc, scales: Ints) -> Ints {
        unsafe { D::scale(acc, scales) }
    }
    #[inline(always)]
    unsafe fn zero8() -> D::Acc8 {
        unsafe { D::zero8() }
    }
    #[inline(always)]
    unsafe fn dot8(acc: D::Acc8, w: Bytes, a: int8x16_t) -> D::Acc8 {
        unsafe { D::dot8(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn scale8(acc: D::Acc8, scales: Ints) -> Ints {
        unsafe { D::scale8(acc, scales) }
    }
    #[inline(always)]
    unsafe fn load_scales(p: *const u8) -> Ints {
        unsafe {
            let s = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p)));
            (vmovl_s16(vget_low_s16(s)), vmovl_high_s16(s))
        }
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> Pairs {
        // Compilers leave out what is multiplied with a zero that they see.
        unsafe { (vld1q_s16(p), vdupq_n_s16(0)) }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const i16) -> Pairs {
        unsafe {
            let v = vld2q_s16(p);
            (v.0, v.1)
        }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> Pairs {
        unsafe {
            let v = vld2_s8(p);
            (vmovl_s8(v.0), vmovl_s8(v.1))
        }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const [i16; 2]) -> Pairs {
        unsafe {
            let [first, second] = p.read_unaligned();
            (vdupq_n_s16(first), vdupq_n_s16(second))
        }
    }
    #[inline(always)]
    unsafe fn widen_mul(a: Pairs, b: Pairs) -> Ints {
        unsafe {
            let low = vmull_s16(vget_low_s16(a.0), vget_low_s16(b.0));
            let high = vmull_high_s16(a.0, b.0);
            (
                vmlal_s16(low, vget_low_s16(a.1), vget_low_s16(b.1)),
                vmlal_high_s16(high, a.1, b.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn int_zero() -> Ints {
        unsafe { (vdupq_n_s32(0), vdupq_n_s32(0)) }
    }
    #[inline(always)]
    unsafe fn int_add(a: Ints, b: Ints) -> Ints {
        unsafe { both!(vaddq_s32, a, b) }
    }
    #[inline(always)]
    unsafe fn int_sum(a: Ints) -> i32 {
        unsafe { vaddvq_s32(vaddq_s32(a.0, a.1)) }
    }
    #[inline(always)]
    unsafe fn int_to_float(a: Ints) -> Floats {
        unsafe { both!(vcvtq_f32_s32, a) }
    }
    #[inline(always)]
    unsafe fn float_to_int(x: Floats) -> Ints {
        unsafe { both!(vcvtnq_s32_f32, x) }
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut i16, v: Ints) {
        unsafe { vst1q_s16(p, narrow(v)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut [i16; 2], stride: usize, v: Ints) {
        unsafe { store_words(p.cast(), 4 * stride, vreinterpretq_s32_s16(narrow(v))) }
    }
    #[inline(always)]
    unsafe fn ldexp(m: Floats, shifted: Floats) -> Floats {
        unsafe {
            let (m, n) = (
                both!(vreinterpretq_s32_f32, m),
                both!(vreinterpretq_s32_f32, shifted),
            );
            let n = (vshlq_n_s32::<23>(n.0), vshlq_n_s32::<23>(n.1));
            both!(vreinterpretq_f32_s32, both!(vaddq_s32, m, n))
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Floats {
        unsafe { (vdupq_n_f32(x), vdupq_n_f32(x)) }
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> Floats {
        unsafe { Self::splat(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Floats {
        unsafe { (vld1q_f32(p), vld1q_f32(p.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Floats) {
        unsafe {
            vst1q_f32(p, v.0);
            vst1q_f32(p.add(4), v.1);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        unsafe { both!(vaddq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        unsafe { both!(vsubq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        unsafe { both!(vmulq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Floats, b: Floats) -> Floats {
        unsafe { both!(vdivq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        // `fmax` differs where one is NaN, and where zeros differ in sign.
        unsafe {
            let larger = both!(vcgtq_f32, a, b);
            (vbslq_f32(larger.0, a.0, b.0), vbslq_f32(larger.1, a.1, b.1))
        }
    }
    #[inline(always)]
    unsafe fn min(a: Floats, b: Floats) -> Floats {
        unsafe {
            let less = both!(vcltq_f32, a, b);
            (vbslq_f32(less.0, a.0, b.0), vbslq_f32(less.1, a.1, b.1))
        }
    }
    #[inline(always)]
    unsafe fn abs(a: Floats) -> Floats {
        unsafe { both!(vabsq_f32, a) }
    }
}

/// Eight integers that fit, as i16.
#[inline(always)]
unsafe fn narrow(v: Ints) -> int16x8_t {
    unsafe { vmovn_high_s32(vmovn_s32(v.0), v.1) }
}

/// Writes the four lanes, `stride` bytes from one to the next.
///
/// # Safety
/// `p` is valid for them, in any alignment.
#[inline(always)]
unsafe fn store_words(p: *mut u8, stride: usize, v: int32x4_t) {
    // SAFETY: as said.
    unsafe {
        let p = p.cast::<i32>();
        p.write_unaligned(vgetq_lane_s32::<0>(v));
        p.byte_add(stride).write_unaligned(vgetq_lane_s32::<1>(v));
        p.byte_add(2 * stride)
            .write_unaligned(vgetq_lane_s32::<2>(v));
        p.byte_add(3 * stride)
            .write_unaligned(vgetq_lane_s32::<3>(v));
    }
}

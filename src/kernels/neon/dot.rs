//! Two ways to multiply codes with activations and add up the products.

use super::{Bytes, Codes, Ints};
use std::arch::aarch64::*;
use std::arch::asm;

/// The part of `Simd` in which they differ; see there.
///
/// # Safety
/// As `Simd`.
pub(in crate::kernels) trait Dot {
    type Acc: Copy;
    type Acc8: Copy;
    const SIX_BIT_QUADS: usize;

    unsafe fn dot4_first(w: Codes, a: int8x16_t) -> Self::Acc;
    unsafe fn dot4(acc: Self::Acc, w: Codes, a: int8x16_t) -> Self::Acc;
    unsafe fn scale(acc: Self::Acc, scales: Ints) -> Ints;
    unsafe fn zero8() -> Self::Acc8;
    unsafe fn dot8(acc: Self::Acc8, w: Bytes, a: int8x16_t) -> Self::Acc8;
    unsafe fn scale8(acc: Self::Acc8, scales: Ints) -> Ints;
}

/// What every such processor has: `smlal` adds products of bytes to 16-bit lanes, one for each column of a quad. Their
/// sums are wanted only where a group ends.
pub(in crate::kernels) struct Products;

impl Dot for Products {
    /// Rows 0 and 1, rows 2 and 3, …, four lanes a row.
    type Acc = [int16x8_t; 4];
    /// The same rows, two lanes a row.
    type Acc8 = [int32x4_t; 4];
    // 4 × 63 × 127 = 32,004
    const SIX_BIT_QUADS: usize = 4;

    #[inline(always)]
    unsafe fn dot4_first(w: Codes, a: int8x16_t) -> [int16x8_t; 4] {
        unsafe {
            [
                vmull_s8(vget_low_s8(w.0), vget_low_s8(a)),
                vmull_high_s8(w.0, a),
                vmull_s8(vget_low_s8(w.1), vget_low_s8(a)),
                vmull_high_s8(w.1, a),
            ]
        }
    }
    #[inline(always)]
    unsafe fn dot4(acc: [int16x8_t; 4], w: Codes, a: int8x16_t) -> [int16x8_t; 4] {
        unsafe {
            [
                vmlal_s8(acc[0], vget_low_s8(w.0), vget_low_s8(a)),
                vmlal_high_s8(acc[1], w.0, a),
                vmlal_s8(acc[2], vget_low_s8(w.1), vget_low_s8(a)),
                vmlal_high_s8(acc[3], w.1, a),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scale(acc: [int16x8_t; 4], scales: Ints) -> Ints {
        unsafe {
            let pairs = [
                vpaddlq_s16(acc[0]),
                vpaddlq_s16(acc[1]),
                vpaddlq_s16(acc[2]),
                vpaddlq_s16(acc[3]),
            ];
            Self::scale8(pairs, scales)
        }
    }
    #[inline(always)]
    unsafe fn zero8() -> [int32x4_t; 4] {
        [unsafe { vdupq_n_s32(0) }; 4]
    }
    #[inline(always)]
    unsafe fn dot8(acc: [int32x4_t; 4], w: Bytes, a: int8x16_t) -> [int32x4_t; 4] {
        // A product of a whole byte just fits 16 bits (255 × 127 = 32,385), a sum of two does not.
        unsafe {
            let a = vmovl_s8(vget_low_s8(a));
            let products = |w| vmulq_s16(vreinterpretq_s16_u16(w), a);
            [
                vpadalq_s16(acc[0], products(vmovl_u8(vget_low_u8(w.0)))),
                vpadalq_s16(acc[1], products(vmovl_high_u8(w.0))),
                vpadalq_s16(acc[2], products(vmovl_u8(vget_low_u8(w.1)))),
                vpadalq_s16(acc[3], products(vmovl_high_u8(w.1))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scale8(acc: [int32x4_t; 4], scales: Ints) -> Ints {
        unsafe {
            (
                vmulq_s32(vpaddq_s32(acc[0], acc[1]), scales.0),
                vmulq_s32(vpaddq_s32(acc[2], acc[3]), scales.1),
            )
        }
    }
}

/// The extension `dotprod`: a row's four products added to its own 32-bit lane, by one instruction.
pub(in crate::kernels) struct DotProducts;

impl Dot for DotProducts {
    type Acc = Ints;
    /// The sums with 128 taken from every code, and what that took away from them.
    type Acc8 = (Ints, int32x4_t);
    const SIX_BIT_QUADS: usize = 8;

    #[inline(always)]
    unsafe fn dot4_first(w: Codes, a: int8x16_t) -> Ints {
        unsafe {
            let zero = vdupq_n_s32(0);
            Self::dot4((zero, zero), w, a)
        }
    }
    #[inline(always)]
    unsafe fn dot4(acc: Ints, w: Codes, a: int8x16_t) -> Ints {
        unsafe { (sdot(acc.0, w.0, a), sdot(acc.1, w.1, a)) }
    }
    #[inline(always)]
    unsafe fn scale(acc: Ints, scales: Ints) -> Ints {
        unsafe { (vmulq_s32(acc.0, scales.0), vmulq_s32(acc.1, scales.1)) }
    }
    #[inline(always)]
    unsafe fn zero8() -> (Ints, int32x4_t) {
        let zero = unsafe { vdupq_n_s32(0) };
        ((zero, zero), zero)
    }
    #[inline(always)]
    unsafe fn dot8((acc, taken): (Ints, int32x4_t), w: Bytes, a: int8x16_t) -> (Ints, int32x4_t) {
        // The instruction takes signed bytes alone: a byte's top bit the other way round is 128 less, as a signed one.
        unsafe {
            let top = vdupq_n_u8(128);
            let less = (
                vreinterpretq_s8_u8(veorq_u8(w.0, top)),
                vreinterpretq_s8_u8(veorq_u8(w.1, top)),
            );
            let taken = sdot(taken, vreinterpretq_s8_u8(top), a);
            (Self::dot4(acc, less, a), taken)
        }
    }
    #[inline(always)]
    unsafe fn scale8((acc, taken): (Ints, int32x4_t), scales: Ints) -> Ints {
        unsafe {
            let sums = (vsubq_s32(acc.0, taken), vsubq_s32(acc.1, taken));
            Self::scale(sums, scales)
        }
    }
}

/// To each 32-bit lane, its four bytes' products. The intrinsic for it, `vdotq_s32`, is not stable.
///
/// # Safety
/// The processor has `dotprod`, and the function into which this is inlined enables it.
#[inline(always)]
unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes the registers named, and nothing else.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inlateout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

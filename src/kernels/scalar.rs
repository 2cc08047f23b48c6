//! The definition of every vector operation, in plain Rust.

use super::simd::Simd;
use std::array::from_fn;

pub(super) struct Scalar;

impl Simd for Scalar {
    type Bytes = [u8; 32];
    type Half = [i16; 16];
    type Int = [i32; 8];
    type Float = [f32; 8];
    type Quad = [i8; 4];

    const QUAD_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn store_quad(p: *mut u8, a: [i8; 4]) {
        unsafe { p.cast::<[i8; 4]>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> [i8; 4] {
        unsafe { p.cast::<[i8; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> [u8; 32] {
        unsafe { p.cast::<[u8; 32]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: [u8; 32]) {
        unsafe { p.cast::<[u8; 32]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn low_nibbles(v: [u8; 32]) -> [u8; 32] {
        v.map(|b| b & 15)
    }
    #[inline(always)]
    unsafe fn high_nibbles(v: [u8; 32]) -> [u8; 32] {
        v.map(|b| b >> 4)
    }
    #[inline(always)]
    unsafe fn half_zero() -> [i16; 16] {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn dot4(acc: [i16; 16], w: [u8; 32], a: [i8; 4]) -> [i16; 16] {
        from_fn(|i| {
            let k = 2 * (i % 2);
            acc[i]
                + i16::from(w[2 * i]) * i16::from(a[k])
                + i16::from(w[2 * i + 1]) * i16::from(a[k + 1])
        })
    }
    #[inline(always)]
    unsafe fn dot8(acc: [i32; 8], w: [u8; 32], a: [i8; 4]) -> [i32; 8] {
        from_fn(|r| {
            (0..4).fold(acc[r], |sum, k| {
                sum + i32::from(w[4 * r + k]) * i32::from(a[k])
            })
        })
    }
    #[inline(always)]
    unsafe fn load_scales_half(p: *const u8) -> [i16; 16] {
        let s = unsafe { p.cast::<[u8; 8]>().read_unaligned() };
        from_fn(|i| i16::from(s[i / 2]))
    }
    #[inline(always)]
    unsafe fn load_scales_int(p: *const u8) -> [i32; 8] {
        unsafe { p.cast::<[u8; 8]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> [i16; 16] {
        let offsets = unsafe { p.cast::<[i16; 8]>().read_unaligned() };
        from_fn(|i| if i % 2 == 0 { offsets[i / 2] } else { 0 })
    }
    #[inline(always)]
    unsafe fn splat_sum(sum: i16) -> [i16; 16] {
        from_fn(|i| if i % 2 == 0 { sum } else { 0 })
    }
    #[inline(always)]
    unsafe fn widen_mul(a: [i16; 16], b: [i16; 16]) -> [i32; 8] {
        from_fn(|r| {
            i32::from(a[2 * r]) * i32::from(b[2 * r])
                + i32::from(a[2 * r + 1]) * i32::from(b[2 * r + 1])
        })
    }
    #[inline(always)]
    unsafe fn int_zero() -> [i32; 8] {
        [0; 8]
    }
    #[inline(always)]
    unsafe fn int_add(a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn int_mul(a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn int_to_float(a: [i32; 8]) -> [f32; 8] {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 8] {
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 8]) {
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn abs(a: [f32; 8]) -> [f32; 8] {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn nearest(a: [f32; 8]) -> [f32; 8] {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn pow2(n: [f32; 8]) -> [f32; 8] {
        n.map(|n| f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
}

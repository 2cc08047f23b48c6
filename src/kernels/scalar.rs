//! The definition of every vector operation, in plain Rust.

use super::simd::Simd;
use std::array::from_fn;

pub(super) struct Scalar;

impl Simd for Scalar {
    type Bytes = [u8; 32];
    type Codes = [u8; 32];
    type Acc = [i32; 8];
    type Acc8 = [i32; 8];
    type Scales = [i32; 8];
    type Pairs = [i16; 16];
    type Int = [i32; 8];
    type Float = [f32; 8];
    type Quad = [i8; 4];

    const QUAD_BYTES: usize = 4;
    const CODES_BYTES: usize = 32;
    const SIX_BIT_QUADS: usize = 8;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [[i32; 8]; 4]) {
        for (i, quad) in q.as_flattened().as_chunks::<4>().0.iter().enumerate() {
            let quad = quad.map(|x| x as i8);
            unsafe { p.add(i * stride).cast::<[i8; 4]>().write_unaligned(quad) }
        }
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
    unsafe fn codes(v: [u8; 32]) -> [u8; 32] {
        v
    }
    #[inline(always)]
    unsafe fn low_codes(v: [u8; 32]) -> [u8; 32] {
        v.map(|b| b & 15)
    }
    #[inline(always)]
    unsafe fn high_codes(v: [u8; 32]) -> [u8; 32] {
        v.map(|b| b >> 4)
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> [u8; 32] {
        unsafe { Self::load_bytes(p) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: [u8; 32]) {
        unsafe { p.cast::<[u8; 32]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: [u8; 32], a: [i8; 4]) -> [i32; 8] {
        unsafe { Self::dot4([0; 8], w, a) }
    }
    #[inline(always)]
    unsafe fn dot4(acc: [i32; 8], w: [u8; 32], a: [i8; 4]) -> [i32; 8] {
        from_fn(|r| {
            (0..4).fold(acc[r], |sum, k| {
                sum + i32::from(w[4 * r + k]) * i32::from(a[k])
            })
        })
    }
    #[inline(always)]
    unsafe fn scale(acc: [i32; 8], scales: [i32; 8]) -> [i32; 8] {
        from_fn(|r| acc[r] * scales[r])
    }
    #[inline(always)]
    unsafe fn zero8() -> [i32; 8] {
        [0; 8]
    }
    #[inline(always)]
    unsafe fn dot8(acc: [i32; 8], w: [u8; 32], a: [i8; 4]) -> [i32; 8] {
        unsafe { Self::dot4(acc, w, a) }
    }
    #[inline(always)]
    unsafe fn scale8(acc: [i32; 8], scales: [i32; 8]) -> [i32; 8] {
        unsafe { Self::scale(acc, scales) }
    }
    #[inline(always)]
    unsafe fn load_scales(p: *const u8) -> [i32; 8] {
        unsafe { p.cast::<[u8; 8]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> [i16; 16] {
        let offsets = unsafe { p.cast::<[i16; 8]>().read_unaligned() };
        from_fn(|i| offsets[i / 2])
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const i16) -> [i16; 16] {
        unsafe { p.cast::<[i16; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> [i16; 16] {
        unsafe { p.cast::<[i8; 16]>().read_unaligned() }.map(i16::from)
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const [i16; 2]) -> [i16; 16] {
        let pair = unsafe { p.read_unaligned() };
        from_fn(|i| pair[i % 2])
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
    unsafe fn int_sum(a: [i32; 8]) -> i32 {
        a.iter().sum()
    }
    #[inline(always)]
    unsafe fn int_to_float(a: [i32; 8]) -> [f32; 8] {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn float_to_int(x: [f32; 8]) -> [i32; 8] {
        x.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut i16, v: [i32; 8]) {
        unsafe { p.cast::<[i16; 8]>().write_unaligned(v.map(|x| x as i16)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut [i16; 2], stride: usize, v: [i32; 8]) {
        let v = v.map(|x| x as i16);
        for (i, &pair) in v.as_chunks::<2>().0.iter().enumerate() {
            unsafe { p.add(i * stride).write_unaligned(pair) };
        }
    }
    #[inline(always)]
    unsafe fn ldexp(m: [f32; 8], shifted: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| {
            f32::from_bits(m[i].to_bits().wrapping_add(shifted[i].to_bits() << 23))
        })
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> [f32; 8] {
        [unsafe { p.read_unaligned() }; 8]
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
}

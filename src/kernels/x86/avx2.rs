//! AVX2: one 256-bit register holds what eight rows need.

use crate::kernels::simd::Simd;
use std::arch::x86_64::*;

pub(in crate::kernels) struct Avx2;

impl Simd for Avx2 {
    type Bytes = __m256i;
    type Codes = __m256i;
    type Acc = __m256i;
    /// Sums of the low and of the high nibbles.
    type Acc8 = (__m256i, __m256i);
    /// Both lanes of a row.
    type Scales = __m256i;
    type Pairs = __m256i;
    type Int = __m256i;
    type Float = __m256;
    type Quad = __m256i;

    const QUAD_BYTES: usize = 4;
    const CODES_BYTES: usize = 32;
    const SIX_BIT_QUADS: usize = 2;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [__m256i; 4]) {
        unsafe {
            let low = _mm256_packs_epi32(q[0], q[1]);
            let high = _mm256_packs_epi32(q[2], q[3]);
            // Packing works within halves: quads 0, 2, 4, 6, 1, 3, 5, 7.
            let mut quads = [0i32; 8];
            _mm256_storeu_si256(quads.as_mut_ptr().cast(), _mm256_packs_epi16(low, high));
            for (i, quad) in [0, 4, 1, 5, 2, 6, 3, 7].into_iter().enumerate() {
                p.add(i * stride).cast::<i32>().write_unaligned(quads[quad]);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn codes(v: __m256i) -> __m256i {
        v
    }
    #[inline(always)]
    unsafe fn low_codes(v: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(v, _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high_codes(v: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> __m256i {
        unsafe { Self::load_bytes(p) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: __m256i) {
        unsafe { _mm256_storeu_si256(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: __m256i, a: __m256i) -> __m256i {
        unsafe { _mm256_maddubs_epi16(w, a) }
    }
    #[inline(always)]
    unsafe fn dot4(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, a)) }
    }
    #[inline(always)]
    unsafe fn scale(acc: __m256i, scales: __m256i) -> __m256i {
        unsafe { _mm256_madd_epi16(acc, scales) }
    }
    #[inline(always)]
    unsafe fn zero8() -> (__m256i, __m256i) {
        unsafe { (_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }
    #[inline(always)]
    unsafe fn dot8(acc: (__m256i, __m256i), w: __m256i, a: __m256i) -> (__m256i, __m256i) {
        // maddubs would saturate on whole bytes; on nibbles it cannot.
        unsafe {
            (
                Self::dot4(acc.0, Self::low_codes(w), a),
                Self::dot4(acc.1, Self::high_codes(w), a),
            )
        }
    }
    #[inline(always)]
    unsafe fn scale8(acc: (__m256i, __m256i), scales: __m256i) -> __m256i {
        unsafe {
            let low = _mm256_madd_epi16(acc.0, scales);
            let high = _mm256_madd_epi16(acc.1, _mm256_slli_epi16(scales, 4));
            _mm256_add_epi32(low, high)
        }
    }
    #[inline(always)]
    unsafe fn load_scales(p: *const u8) -> __m256i {
        unsafe {
            let s = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            _mm256_or_si256(s, _mm256_slli_epi32(s, 16))
        }
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> __m256i {
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const i16) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const [i16; 2]) -> __m256i {
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn widen_mul(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_madd_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn int_zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn int_add(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn int_sum(a: __m256i) -> i32 {
        unsafe {
            let four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01_00_11_10));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b10_11_00_01)))
        }
    }
    #[inline(always)]
    unsafe fn int_to_float(a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn float_to_int(x: __m256) -> __m256i {
        unsafe { _mm256_cvtps_epi32(x) }
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut i16, v: __m256i) {
        unsafe {
            let packed = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
            _mm_storeu_si128(p.cast(), packed);
        }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut [i16; 2], stride: usize, v: __m256i) {
        unsafe {
            let mut pairs = [[0; 2]; 4];
            Self::store_i16(pairs.as_mut_ptr().cast(), v);
            for (i, pair) in pairs.into_iter().enumerate() {
                p.add(i * stride).write_unaligned(pair);
            }
        }
    }
    #[inline(always)]
    unsafe fn ldexp(m: __m256, shifted: __m256) -> __m256 {
        unsafe {
            let n = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(m), n))
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> __m256 {
        unsafe { _mm256_set1_ps(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
}

//! AVX2: one 256-bit register holds what eight rows need.

use super::simd::Simd;
use std::arch::x86_64::*;

pub(super) struct Avx2;

impl Simd for Avx2 {
    type Bytes = __m256i;
    type Half = __m256i;
    type Int = __m256i;
    type Float = __m256;
    type Quad = __m256i;

    const QUAD_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn store_quad(p: *mut u8, a: [i8; 4]) {
        unsafe { p.cast::<[i8; 4]>().write_unaligned(a) }
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
    unsafe fn store_bytes(p: *mut u8, v: __m256i) {
        unsafe { _mm256_storeu_si256(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn low_nibbles(v: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(v, _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high_nibbles(v: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn half_zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn dot4(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, a)) }
    }
    #[inline(always)]
    unsafe fn dot8(acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        // maddubs would saturate on whole bytes; on nibbles it cannot.
        unsafe {
            let low = _mm256_maddubs_epi16(Self::low_nibbles(w), a);
            let high = _mm256_maddubs_epi16(Self::high_nibbles(w), a);
            let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
            let high = _mm256_madd_epi16(high, _mm256_set1_epi16(16));
            _mm256_add_epi32(acc, _mm256_add_epi32(low, high))
        }
    }
    #[inline(always)]
    unsafe fn load_scales_half(p: *const u8) -> __m256i {
        unsafe {
            let s = Self::load_scales_int(p);
            _mm256_or_si256(s, _mm256_slli_epi32(s, 16))
        }
    }
    #[inline(always)]
    unsafe fn load_scales_int(p: *const u8) -> __m256i {
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())) }
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> __m256i {
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn splat_sum(sum: i16) -> __m256i {
        unsafe { _mm256_set1_epi32(i32::from(sum as u16)) }
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
    unsafe fn int_mul(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn int_to_float(a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
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
    #[inline(always)]
    unsafe fn nearest(a: __m256) -> __m256 {
        unsafe { _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) }
    }
    #[inline(always)]
    unsafe fn pow2(n: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))
        }
    }
}

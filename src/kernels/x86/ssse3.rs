//! SSSE3: two 128-bit registers hold what eight rows need. Nothing newer than SSSE3 is used.

use crate::kernels::simd::Simd;
use std::arch::x86_64::*;

pub(in crate::kernels) struct Ssse3;

/// Rows 0–3 and rows 4–7.
type Pair = (__m128i, __m128i);
type Floats = (__m128, __m128);

/// One intrinsic on both halves. A macro, because functions with a target feature are no `Fn`.
macro_rules! both {
    ($op:ident, $a:expr) => {
        ($op($a.0), $op($a.1))
    };
    ($op:ident, $a:expr, $b:expr) => {
        ($op($a.0, $b.0), $op($a.1, $b.1))
    };
}

impl Simd for Ssse3 {
    type Bytes = Pair;
    type Codes = Pair;
    type Acc = Pair;
    /// Sums of the low and of the high nibbles.
    type Acc8 = (Pair, Pair);
    /// Both lanes of a row.
    type Scales = Pair;
    type Pairs = Pair;
    type Int = Pair;
    type Float = Floats;
    type Quad = __m128i;

    const QUAD_BYTES: usize = 4;
    const CODES_BYTES: usize = 32;
    const SIX_BIT_QUADS: usize = 2;

    #[inline(always)]
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [Pair; 4]) {
        unsafe {
            let pack = |q: Pair| _mm_packs_epi32(q.0, q.1);
            let mut quads = [0i32; 8];
            let low = _mm_packs_epi16(pack(q[0]), pack(q[1]));
            let high = _mm_packs_epi16(pack(q[2]), pack(q[3]));
            _mm_storeu_si128(quads.as_mut_ptr().cast(), low);
            _mm_storeu_si128(quads.as_mut_ptr().add(4).cast(), high);
            for (i, quad) in quads.into_iter().enumerate() {
                p.add(i * stride).cast::<i32>().write_unaligned(quad);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_quad(p: *const u8) -> __m128i {
        unsafe { _mm_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_bytes(p: *const u8) -> Pair {
        unsafe { (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(16).cast())) }
    }
    #[inline(always)]
    unsafe fn codes(v: Pair) -> Pair {
        v
    }
    #[inline(always)]
    unsafe fn low_codes(v: Pair) -> Pair {
        unsafe {
            let mask = _mm_set1_epi8(15);
            (_mm_and_si128(v.0, mask), _mm_and_si128(v.1, mask))
        }
    }
    #[inline(always)]
    unsafe fn high_codes(v: Pair) -> Pair {
        unsafe { Self::low_codes((_mm_srli_epi16(v.0, 4), _mm_srli_epi16(v.1, 4))) }
    }
    #[inline(always)]
    unsafe fn load_codes(p: *const u8) -> Pair {
        unsafe { Self::load_bytes(p) }
    }
    #[inline(always)]
    unsafe fn store_codes(p: *mut u8, v: Pair) {
        unsafe {
            _mm_storeu_si128(p.cast(), v.0);
            _mm_storeu_si128(p.add(16).cast(), v.1);
        }
    }
    #[inline(always)]
    unsafe fn dot4_first(w: Pair, a: __m128i) -> Pair {
        unsafe { (_mm_maddubs_epi16(w.0, a), _mm_maddubs_epi16(w.1, a)) }
    }
    #[inline(always)]
    unsafe fn dot4(acc: Pair, w: Pair, a: __m128i) -> Pair {
        unsafe {
            let products = Self::dot4_first(w, a);
            both!(_mm_add_epi16, acc, products)
        }
    }
    #[inline(always)]
    unsafe fn scale(acc: Pair, scales: Pair) -> Pair {
        unsafe { Self::widen_mul(acc, scales) }
    }
    #[inline(always)]
    unsafe fn zero8() -> (Pair, Pair) {
        unsafe { (Self::int_zero(), Self::int_zero()) }
    }
    #[inline(always)]
    unsafe fn dot8(acc: (Pair, Pair), w: Pair, a: __m128i) -> (Pair, Pair) {
        // maddubs would saturate on whole bytes; on nibbles it cannot.
        unsafe {
            (
                Self::dot4(acc.0, Self::low_codes(w), a),
                Self::dot4(acc.1, Self::high_codes(w), a),
            )
        }
    }
    #[inline(always)]
    unsafe fn scale8(acc: (Pair, Pair), scales: Pair) -> Pair {
        unsafe {
            let sixteen = (_mm_slli_epi16(scales.0, 4), _mm_slli_epi16(scales.1, 4));
            Self::int_add(
                Self::widen_mul(acc.0, scales),
                Self::widen_mul(acc.1, sixteen),
            )
        }
    }
    #[inline(always)]
    unsafe fn load_scales(p: *const u8) -> Pair {
        unsafe {
            let s = _mm_unpacklo_epi8(_mm_loadl_epi64(p.cast()), _mm_setzero_si128());
            (_mm_unpacklo_epi16(s, s), _mm_unpackhi_epi16(s, s))
        }
    }
    #[inline(always)]
    unsafe fn load_offsets(p: *const i16) -> Pair {
        unsafe {
            let o = _mm_loadu_si128(p.cast());
            (_mm_unpacklo_epi16(o, o), _mm_unpackhi_epi16(o, o))
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(p: *const i16) -> Pair {
        unsafe { (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast())) }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> Pair {
        unsafe {
            let v = _mm_loadu_si128(p.cast());
            (
                _mm_srai_epi16(_mm_unpacklo_epi8(v, v), 8),
                _mm_srai_epi16(_mm_unpackhi_epi8(v, v), 8),
            )
        }
    }
    #[inline(always)]
    unsafe fn splat_pair(p: *const [i16; 2]) -> Pair {
        unsafe {
            let v = _mm_set1_epi32(p.cast::<i32>().read_unaligned());
            (v, v)
        }
    }
    #[inline(always)]
    unsafe fn widen_mul(a: Pair, b: Pair) -> Pair {
        unsafe { both!(_mm_madd_epi16, a, b) }
    }
    #[inline(always)]
    unsafe fn int_zero() -> Pair {
        unsafe { (_mm_setzero_si128(), _mm_setzero_si128()) }
    }
    #[inline(always)]
    unsafe fn int_add(a: Pair, b: Pair) -> Pair {
        unsafe { both!(_mm_add_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn int_sum(a: Pair) -> i32 {
        unsafe {
            let four = _mm_add_epi32(a.0, a.1);
            let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01_00_11_10));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b10_11_00_01)))
        }
    }
    #[inline(always)]
    unsafe fn int_to_float(a: Pair) -> Floats {
        unsafe { both!(_mm_cvtepi32_ps, a) }
    }
    #[inline(always)]
    unsafe fn float_to_int(x: Floats) -> Pair {
        unsafe { both!(_mm_cvtps_epi32, x) }
    }
    #[inline(always)]
    unsafe fn store_i16(p: *mut i16, v: Pair) {
        unsafe { _mm_storeu_si128(p.cast(), _mm_packs_epi32(v.0, v.1)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut [i16; 2], stride: usize, v: Pair) {
        unsafe {
            let mut pairs = [[0; 2]; 4];
            Self::store_i16(pairs.as_mut_ptr().cast(), v);
            for (i, pair) in pairs.into_iter().enumerate() {
                p.add(i * stride).write_unaligned(pair);
            }
        }
    }
    #[inline(always)]
    unsafe fn ldexp(m: Floats, shifted: Floats) -> Floats {
        let one = |m, shifted| unsafe {
            let n = _mm_slli_epi32(_mm_castps_si128(shifted), 23);
            _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(m), n))
        };
        (one(m.0, shifted.0), one(m.1, shifted.1))
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Floats {
        unsafe { (_mm_set1_ps(x), _mm_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load_splat(p: *const f32) -> Floats {
        unsafe { Self::splat(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Floats {
        unsafe { (_mm_loadu_ps(p), _mm_loadu_ps(p.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Floats) {
        unsafe {
            _mm_storeu_ps(p, v.0);
            _mm_storeu_ps(p.add(4), v.1);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        unsafe { both!(_mm_add_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        unsafe { both!(_mm_sub_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        unsafe { both!(_mm_mul_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Floats, b: Floats) -> Floats {
        unsafe { both!(_mm_div_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        unsafe { both!(_mm_max_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Floats, b: Floats) -> Floats {
        unsafe { both!(_mm_min_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: Floats) -> Floats {
        unsafe {
            let sign = _mm_set1_ps(-0.0);
            (_mm_andnot_ps(sign, a.0), _mm_andnot_ps(sign, a.1))
        }
    }
}

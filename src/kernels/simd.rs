//! The small SIMD vocabulary that all kernels are written in. One vector holds something of
//! eight weight rows (or eight floats): one 256-bit register on AVX2, two 128-bit ones elsewhere.

/// A back end. Lane `r` below is row `r` of a panel of eight.
///
/// # Safety
/// Implementations may use instructions of their instruction set; callers run them only inside a
/// function for which it is enabled. Pointers need be valid for the bytes named, in any alignment.
pub(super) trait Simd {
    /// 32 unsigned bytes: four consecutive columns of row 0, of row 1, …
    type Bytes: Copy;
    /// 32 codes in the form that `dot4` multiplies.
    type Codes: Copy;
    /// Sums of products of `dot4`, some lanes a row.
    type Acc: Copy;
    /// Sums of products of `dot8`, some lanes a row.
    type Acc8: Copy;
    /// One scale a row, ready to be multiplied with sums.
    type Scales: Copy;
    /// 16 × i16: two lanes a row.
    type Pairs: Copy;
    /// 8 × i32: one lane a row.
    type Int: Copy;
    /// 8 × f32.
    type Float: Copy;
    /// Four consecutive activations, ready to be multiplied with every row's four columns.
    type Quad: Copy;

    /// Bytes of one quad in the activation buffer, a multiple of 4.
    const QUAD_BYTES: usize;
    /// Bytes of `Codes` in memory.
    const CODES_BYTES: usize;
    /// Quads whose products with codes of 0..=63 one accumulator can take: as many as put four products into a lane
    /// where lanes are i16 (4 × 63 × 127 = 32,004), a group's eight where they are i32.
    const SIX_BIT_QUADS: usize;

    /// Writes eight quads, `stride` bytes from one to the next; `q`: 32 consecutive activations in -127..=127.
    unsafe fn store_quads(p: *mut u8, stride: usize, q: [Self::Int; 4]);
    /// Reads a quad from `p`.
    unsafe fn load_quad(p: *const u8) -> Self::Quad;

    /// Reads 32 bytes.
    unsafe fn load_bytes(p: *const u8) -> Self::Bytes;
    /// Each byte as a code.
    unsafe fn codes(v: Self::Bytes) -> Self::Codes;
    /// Each byte's low four bits as a code.
    unsafe fn low_codes(v: Self::Bytes) -> Self::Codes;
    /// Each byte's high four bits as a code.
    unsafe fn high_codes(v: Self::Bytes) -> Self::Codes;
    /// Reads what `store_codes` wrote.
    unsafe fn load_codes(p: *const u8) -> Self::Codes;
    /// Writes `CODES_BYTES` bytes.
    unsafe fn store_codes(p: *mut u8, v: Self::Codes);

    /// The four products of every row, in the row's lanes. How they are split among them is the back end's business.
    unsafe fn dot4_first(w: Self::Codes, a: Self::Quad) -> Self::Acc;
    /// Adds the four products of every row. Codes are 0..=15, so that eight quads stay below 2^15 even in i16 lanes
    /// (16 × 15 × 127 = 30,480), or 0..=63 and `SIX_BIT_QUADS` quads.
    unsafe fn dot4(acc: Self::Acc, w: Self::Codes, a: Self::Quad) -> Self::Acc;
    /// Each row's sum times its scale.
    unsafe fn scale(acc: Self::Acc, scales: Self::Scales) -> Self::Int;
    unsafe fn zero8() -> Self::Acc8;
    /// Adds the four products of every row, eight times at most; codes are 0..=255.
    unsafe fn dot8(acc: Self::Acc8, w: Self::Bytes, a: Self::Quad) -> Self::Acc8;
    /// Each row's sum times its scale.
    unsafe fn scale8(acc: Self::Acc8, scales: Self::Scales) -> Self::Int;
    /// Reads one scale (u8) a row.
    unsafe fn load_scales(p: *const u8) -> Self::Scales;

    /// Reads one i16 a row, the first of its two lanes; the second is anything.
    unsafe fn load_offsets(p: *const i16) -> Self::Pairs;
    /// Reads 16 i16, two lanes a row.
    unsafe fn load_pairs(p: *const i16) -> Self::Pairs;
    /// Reads 16 i8, two lanes a row.
    unsafe fn load_signed(p: *const i8) -> Self::Pairs;
    /// Two i16 in every row's two lanes.
    unsafe fn splat_pair(p: *const [i16; 2]) -> Self::Pairs;
    /// Per row: the sum of its two products.
    unsafe fn widen_mul(a: Self::Pairs, b: Self::Pairs) -> Self::Int;

    unsafe fn int_zero() -> Self::Int;
    unsafe fn int_add(a: Self::Int, b: Self::Int) -> Self::Int;
    /// The sum of the eight lanes.
    unsafe fn int_sum(a: Self::Int) -> i32;
    /// Round to nearest even, as every conversion here.
    unsafe fn int_to_float(a: Self::Int) -> Self::Float;
    /// To the nearest integer, ties to even, for |x| ≤ 2^22.
    unsafe fn float_to_int(x: Self::Float) -> Self::Int;
    /// Writes eight i16, from lanes that fit.
    unsafe fn store_i16(p: *mut i16, v: Self::Int);
    /// Writes eight i16, from lanes that fit, as four pairs, `stride` pairs from one to the next.
    unsafe fn store_pairs(p: *mut [i16; 2], stride: usize, v: Self::Int);
    /// `m · 2^n`, m and the product normal numbers; `shifted` is 1.5 · 2^23 + n.
    unsafe fn ldexp(m: Self::Float, shifted: Self::Float) -> Self::Float;

    unsafe fn splat(x: f32) -> Self::Float;
    /// Reads one float into all lanes.
    unsafe fn load_splat(p: *const f32) -> Self::Float;
    unsafe fn load(p: *const f32) -> Self::Float;
    unsafe fn store(p: *mut f32, v: Self::Float);
    unsafe fn add(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn sub(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn div(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a > b ? a : b`, the second where they do not compare.
    unsafe fn max(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a < b ? a : b`, the second where they do not compare.
    unsafe fn min(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn abs(a: Self::Float) -> Self::Float;
}

/// The eight lanes as an array.
#[inline(always)]
pub(super) unsafe fn lanes<S: Simd>(v: S::Float) -> [f32; 8] {
    let mut out = [0.0; 8];
    // SAFETY: `out` has room for eight floats.
    unsafe { S::store(out.as_mut_ptr(), v) };
    out
}

/// The sum of the eight lanes, in this order and no other.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(v: S::Float) -> f32 {
    let [a, b, c, d, e, f, g, h] = unsafe { lanes::<S>(v) };
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The largest of the eight lanes.
#[inline(always)]
pub(super) unsafe fn max_lane<S: Simd>(v: S::Float) -> f32 {
    let lanes = unsafe { lanes::<S>(v) };
    lanes
        .iter()
        .fold(lanes[0], |m, &x| if x > m { x } else { m })
}

/// Rounds to the nearest integer by addition: a float of this size has no fraction, and its low bits count.
const ROUNDER: f32 = 12_582_912.0; // 1.5 · 2^23

/// 2^x, within 2 units in the last place for x in -86..=127; clamped below, for the reason given at [`exp`].
///
/// x = n + r, |r| ≤ ½, and 1 + r · p(r) the polynomial of degree 5 whose largest relative error there is smallest (9·10^-8).
#[inline(always)]
pub(super) unsafe fn exp2<S: Simd>(x: S::Float, c: &Exp2) -> S::Float {
    // SAFETY: reads single floats; the caller enabled the instruction set.
    unsafe {
        let x = S::max(x, S::load_splat(&c.lowest));
        let rounder = S::load_splat(&c.rounder);
        let shifted = S::add(x, rounder);
        let r = S::sub(x, S::sub(shifted, rounder));
        let mut p = S::load_splat(&c.polynomial[0]);
        for c in &c.polynomial[1..] {
            p = S::add(S::mul(p, r), S::load_splat(c));
        }
        S::ldexp(p, shifted)
    }
}

/// The constants of [`exp2`].
pub(super) struct Exp2 {
    lowest: f32,
    rounder: f32,
    polynomial: [f32; 6],
}

impl Exp2 {
    /// In memory, whatever the compiler thinks of it: WebAssembly engines make a vector constant anew, by three
    /// instructions, wherever it is used.
    #[inline(always)]
    pub(super) fn constants() -> &'static Self {
        #[expect(
            clippy::approx_constant,
            reason = "near ln 2, as in the series, and not equal to it"
        )]
        static CONSTANTS: Exp2 = Exp2 {
            lowest: -86.0,
            rounder: ROUNDER,
            polynomial: [
                1.326_487_9e-3,
                9.671_509e-3,
                5.550_733e-2,
                2.402_224_2e-1,
                6.931_47e-1,
                1.0,
            ],
        };
        std::hint::black_box(&CONSTANTS)
    }
}

/// e^x, within 2 units in the last place for x in -60..=88; clamped outside.
///
/// The lower end is where nothing added to it notices any more, and far enough above the smallest normal number that
/// what is multiplied with it stays normal too: denormal numbers cost processors a hundred cycles each.
///
/// Cephes' `expf` (Stephen L. Moshier, netlib cephes/single/expf.c): x = n ln 2 + r, then a
/// polynomial of degree 6 in r, then times 2^n.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::Float, c: &Exp) -> S::Float {
    // SAFETY: reads single floats; the caller enabled the instruction set.
    unsafe {
        let x = S::max(
            S::min(x, S::load_splat(&c.highest)),
            S::load_splat(&c.lowest),
        );
        let rounder = S::load_splat(&c.rounder);
        let shifted = S::add(S::mul(x, S::load_splat(&c.log2_e)), rounder);
        let n = S::sub(shifted, rounder);
        let r = S::sub(x, S::mul(n, S::load_splat(&c.ln2_high)));
        let r = S::sub(r, S::mul(n, S::load_splat(&c.ln2_low)));
        let mut p = S::load_splat(&c.polynomial[0]);
        for c in &c.polynomial[1..] {
            p = S::add(S::mul(p, r), S::load_splat(c));
        }
        let p = S::add(S::add(S::mul(p, S::mul(r, r)), r), S::load_splat(&c.one));
        S::ldexp(p, shifted)
    }
}

/// The constants of [`exp`].
pub(super) struct Exp {
    highest: f32,
    lowest: f32,
    rounder: f32,
    log2_e: f32,
    ln2_high: f32,
    ln2_low: f32,
    polynomial: [f32; 6],
    pub(super) one: f32,
}

impl Exp {
    /// In memory, as those of [`Exp2`].
    #[inline(always)]
    pub(super) fn constants() -> &'static Self {
        static CONSTANTS: Exp = Exp {
            highest: 88.0,
            lowest: -60.0,
            rounder: ROUNDER,
            log2_e: std::f32::consts::LOG2_E,
            ln2_high: 0.693_359_4,
            ln2_low: -2.121_944_4e-4,
            polynomial: [
                1.987_569_1e-4,
                1.398_2e-3,
                8.333_452e-3,
                4.166_579_6e-2,
                1.666_666_5e-1,
                5e-1, // 5.0000001201e-1 there, which is this in f32
            ],
            one: 1.0,
        };
        std::hint::black_box(&CONSTANTS)
    }
}

//! Packed weights times int8 activations: matrix-vector for decode, register tiles for prefill.
//!
//! For one row r and one token t, with groups g of 32 columns in rising order:
//!
//! ```text
//! i[g]    = scale[r][g] · Σ_c code[r][c] · q[t][c]  +  offset[r][g] · Σ_c q[t][c]
//! y[t][r] = row_scale[r] · (((0 + f32(i[0]) · s[t][0]) + f32(i[1]) · s[t][1]) + …)
//! ```
//!
//! `i[g]` is an exact i32 (at most 32 · 127 · (255 · 255 + 32,767) < 2^29), so every tile shape gives the same bits.

use super::activations::{Activations, GROUP_QUADS, MAX_TILE};
use super::backend::dispatch;
use super::layout::{CodeWidth, GROUP, PANEL, PackedView, panels};
use super::pool;
use super::simd::Simd;
use std::cell::RefCell;
use std::ops::Range;

/// From so many tokens on, nibbles are unpacked once a panel instead of once a tile.
const UNPACK_FROM: usize = 4;

/// `dst[t][r] = Σ_c w[r][c] · a[t][c]`, dst (tokens, rows).
///
/// # Panics
/// Where the shapes do not fit together.
pub fn packed_matmul(w: &PackedView<'_>, a: &Activations, dst: &mut [f32]) {
    w.check();
    assert_eq!(w.cols, a.cols, "columns");
    assert_eq!(dst.len(), a.tokens * w.rows, "output");
    let out = Output(dst.as_mut_ptr());
    pool::for_ranges(panels(w.rows), 4, |range| {
        // SAFETY: the lengths were checked above; ranges do not overlap, so no two threads write the same row.
        unsafe { multiply(w, a, out, range) }
    });
}

/// Where the rows go; threads write disjoint ones.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: `packed_matmul` gives every thread rows of its own, and returns after all are done.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

dispatch! {
    fn multiply(w: &PackedView<'_>, a: &Activations, dst: Output, range: Range<usize>) = multiply_with;
}

thread_local! {
    /// One panel's nibbles as bytes, for prefill: unpacked once, used for every token.
    static UNPACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How a tile finds its codes.
mod source {
    /// Two codes a byte.
    pub const NIBBLES: u8 = 0;
    /// Nibbles, unpacked into `Simd::Codes`.
    pub const UNPACKED: u8 = 1;
    /// A byte each, 0..=63.
    pub const SIX: u8 = 2;
    /// A byte each, 0..=255.
    pub const BYTES: u8 = 3;
}

/// # Safety
/// `w.check()` passed, the columns agree, `dst` holds (tokens, rows), `range` lies within the panels.
#[inline(always)]
unsafe fn multiply_with<S: Simd>(
    w: &PackedView<'_>,
    a: &Activations,
    dst: Output,
    range: Range<usize>,
) {
    a.check::<S>();
    // SAFETY: passed on.
    unsafe {
        match w.width {
            CodeWidth::Byte => {
                for panel in range {
                    all_tokens::<S, { source::BYTES }>(Panel::new(w, panel), a, dst, w.rows);
                }
            }
            CodeWidth::Six => {
                for panel in range {
                    all_tokens::<S, { source::SIX }>(Panel::new(w, panel), a, dst, w.rows);
                }
            }
            CodeWidth::Nibble if a.tokens < UNPACK_FROM => {
                for panel in range {
                    all_tokens::<S, { source::NIBBLES }>(Panel::new(w, panel), a, dst, w.rows);
                }
            }
            CodeWidth::Nibble => {
                // Taken and put back: a closure of `with` would not be compiled for the back end's instructions.
                let mut codes = UNPACKED.take();
                codes.resize(w.cols / GROUP * GROUP_QUADS * S::CODES_BYTES, 0);
                for panel in range {
                    let mut p = Panel::new(w, panel);
                    unpack::<S>(p, &mut codes);
                    p.unpacked = codes.as_ptr();
                    all_tokens::<S, { source::UNPACKED }>(p, a, dst, w.rows);
                }
                UNPACKED.set(codes);
            }
        }
    }
}

/// One panel's parts.
#[derive(Clone, Copy)]
struct Panel {
    index: usize,
    groups: usize,
    /// Steps of a group after its first, a number that the compiler must not know: it would unroll the loop, put the sums
    /// into an order of its own, and keep more vectors than WebAssembly engines have registers for.
    steps: usize,
    cells: *const u8,
    /// Where the codes are, if not in the cells.
    unpacked: *const u8,
    row_scales: *const f32,
}

impl Panel {
    /// # Safety
    /// `w.check()` passed and `index` is one of its panels.
    #[inline(always)]
    unsafe fn new(w: &PackedView<'_>, index: usize) -> Self {
        let groups = w.cols / GROUP;
        let cell = index * groups;
        // SAFETY: `check` saw `panels · groups` cells.
        unsafe {
            Self {
                index,
                groups,
                steps: std::hint::black_box(GROUP_QUADS - 1),
                cells: w.cells.as_ptr().add(cell * w.width.cell_bytes()),
                unpacked: std::ptr::null(),
                row_scales: w.row_scales.as_ptr().add(index * PANEL),
            }
        }
    }
}

/// Unpacks a panel's nibbles, 32 bytes to two times 32 codes.
///
/// # Safety
/// `p` is a panel of nibbles, and `codes` has room for its groups.
#[inline(always)]
unsafe fn unpack<S: Simd>(p: Panel, codes: &mut [u8]) {
    let mut to = codes.as_mut_ptr();
    for group in 0..p.groups {
        for i in 0..GROUP_QUADS / 2 {
            // SAFETY: as said.
            unsafe {
                let from = p.cells.add(group * CodeWidth::Nibble.cell_bytes());
                let v = S::load_bytes(from.add(32 * i));
                S::store_codes(to, S::low_codes(v));
                S::store_codes(to.add(S::CODES_BYTES), S::high_codes(v));
                to = to.add(2 * S::CODES_BYTES);
            }
        }
    }
}

/// # Safety
/// As [`multiply_with`].
#[inline(always)]
unsafe fn all_tokens<S: Simd, const SOURCE: u8>(
    p: Panel,
    a: &Activations,
    dst: Output,
    rows: usize,
) {
    for (first, size) in Activations::tiles(a.tokens) {
        // SAFETY: the tile's tokens lie below a.tokens.
        unsafe {
            let to = dst.0.add(first * rows);
            match size {
                // So many tokens' nibbles are unpacked first.
                MAX_TILE if SOURCE == source::NIBBLES => unreachable!(),
                MAX_TILE => tile::<S, MAX_TILE, SOURCE>(p, a.tile(first), to, rows),
                2 => tile::<S, 2, SOURCE>(p, a.tile(first), to, rows),
                _ => tile::<S, 1, SOURCE>(p, a.tile(first), to, rows),
            }
        }
    }
}

/// Eight rows times `T` tokens, whose records are at `records` and whose rows of the output start at `to`.
///
/// # Safety
/// As [`multiply_with`].
#[inline(always)]
unsafe fn tile<S: Simd, const T: usize, const SOURCE: u8>(
    p: Panel,
    records: *const u8,
    to: *mut f32,
    rows: usize,
) {
    // SAFETY: every pointer stays within what `check` and `Activations::quantize` sized.
    unsafe {
        let quads_bytes = GROUP_QUADS * T * S::QUAD_BYTES;
        let width = match SOURCE {
            source::NIBBLES | source::UNPACKED => CodeWidth::Nibble,
            source::SIX => CodeWidth::Six,
            _ => CodeWidth::Byte,
        };
        let mut total = [S::splat(0.0); T];
        let mut cell = p.cells;
        let mut unpacked = p.unpacked;
        let mut record = records;
        for _ in 0..p.groups {
            let codes = if SOURCE == source::UNPACKED {
                unpacked
            } else {
                cell
            };
            let scales = cell.add(width.group_bytes());
            let row_scales = S::load_scales(scales);
            let mut exact = group::<S, T, SOURCE>(codes, record, row_scales, p.steps);
            let steps = record.add(quads_bytes).cast::<f32>();
            let sums = steps.add(T).cast::<[i16; 2]>();
            let row_offsets = S::load_offsets(scales.add(PANEL).cast());
            for t in 0..T {
                let offset = S::widen_mul(row_offsets, S::splat_pair(sums.add(t)));
                exact[t] = S::int_add(exact[t], offset);
                let step = S::load_splat(steps.add(t));
                total[t] = S::add(total[t], S::mul(S::int_to_float(exact[t]), step));
            }
            cell = cell.add(width.cell_bytes());
            if SOURCE == source::UNPACKED {
                unpacked = unpacked.add(GROUP_QUADS * S::CODES_BYTES);
            }
            record = record.add(quads_bytes + 8 * T);
        }
        let row_scales = S::load(p.row_scales);
        let row = p.index * PANEL;
        for (t, &total) in total.iter().enumerate() {
            let y = S::mul(total, row_scales);
            let to = to.add(t * rows + row);
            if row + PANEL <= rows {
                S::store(to, y);
            } else {
                let mut last = [0f32; PANEL];
                S::store(last.as_mut_ptr(), y);
                to.copy_from_nonoverlapping(last.as_ptr(), rows - row);
            }
        }
    }
}

/// `scale · Σ_c code · q` of one group, eight rows and `T` tokens.
///
/// # Safety
/// `codes` and `record` are a group's.
#[inline(always)]
unsafe fn group<S: Simd, const T: usize, const SOURCE: u8>(
    codes: *const u8,
    record: *const u8,
    scales: S::Scales,
    steps: usize,
) -> [S::Int; T] {
    // SAFETY: a group has eight quads of codes and of activations.
    unsafe {
        if SOURCE == source::BYTES {
            let mut acc = [S::zero8(); T];
            for i in 0..GROUP_QUADS {
                let w = S::load_bytes(codes.add(32 * i));
                for t in 0..T {
                    acc[t] = S::dot8(acc[t], w, quad::<S, T>(record, i, t));
                }
            }
            let mut exact = [S::int_zero(); T];
            for t in 0..T {
                exact[t] = S::scale8(acc[t], scales);
            }
            return exact;
        }
        let mut exact = [S::int_zero(); T];
        if SOURCE == source::SIX {
            for i in (0..GROUP_QUADS).step_by(S::SIX_BIT_QUADS) {
                let w = S::codes(S::load_bytes(codes.add(32 * i)));
                let mut acc = first_products::<S, T>(w, record, i);
                for i in i + 1..i + S::SIX_BIT_QUADS {
                    let w = S::codes(S::load_bytes(codes.add(32 * i)));
                    add_products::<S, T>(&mut acc, w, record, i);
                }
                for t in 0..T {
                    exact[t] = S::int_add(exact[t], S::scale(acc[t], scales));
                }
            }
            return exact;
        }
        if SOURCE == source::NIBBLES {
            let two_quads = 2 * T * S::QUAD_BYTES;
            let w = S::load_bytes(codes);
            let mut acc = first_products::<S, T>(S::low_codes(w), record, 0);
            add_products::<S, T>(&mut acc, S::high_codes(w), record, 1);
            let mut codes = codes.add(32);
            let mut quads = record.add(two_quads);
            for _ in 0..steps / 2 {
                let w = S::load_bytes(codes);
                add_products::<S, T>(&mut acc, S::low_codes(w), quads, 0);
                add_products::<S, T>(&mut acc, S::high_codes(w), quads, 1);
                codes = codes.add(32);
                quads = quads.add(two_quads);
            }
            for t in 0..T {
                exact[t] = S::scale(acc[t], scales);
            }
            return exact;
        }
        let mut acc = first_products::<S, T>(S::load_codes(codes), record, 0);
        let mut codes = codes.add(S::CODES_BYTES);
        let mut quads = record.add(T * S::QUAD_BYTES);
        for _ in 0..steps {
            add_products::<S, T>(&mut acc, S::load_codes(codes), quads, 0);
            codes = codes.add(S::CODES_BYTES);
            quads = quads.add(T * S::QUAD_BYTES);
        }
        for t in 0..T {
            exact[t] = S::scale(acc[t], scales);
        }
        exact
    }
}

// What follows must be inlined whatever it costs: only inside `dispatch`'s function its instructions are enabled.

#[inline(always)]
unsafe fn quad<S: Simd, const T: usize>(record: *const u8, i: usize, t: usize) -> S::Quad {
    // SAFETY: as `group`.
    unsafe { S::load_quad(record.add((i * T + t) * S::QUAD_BYTES)) }
}

#[inline(always)]
unsafe fn first_products<S: Simd, const T: usize>(
    w: S::Codes,
    record: *const u8,
    i: usize,
) -> [S::Acc; T] {
    // SAFETY: as `group`.
    unsafe {
        let mut acc = [S::dot4_first(w, quad::<S, T>(record, i, 0)); T];
        for t in 1..T {
            acc[t] = S::dot4_first(w, quad::<S, T>(record, i, t));
        }
        acc
    }
}

#[inline(always)]
unsafe fn add_products<S: Simd, const T: usize>(
    acc: &mut [S::Acc; T],
    w: S::Codes,
    record: *const u8,
    i: usize,
) {
    for t in 0..T {
        // SAFETY: as `group`.
        unsafe { acc[t] = S::dot4(acc[t], w, quad::<S, T>(record, i, t)) };
    }
}

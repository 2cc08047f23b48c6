//! A short run of the matrix kernels, by which a host with a clock finds the faster of two back ends.

use super::activations::Activations;
use super::backend::{Backend, available, current, select};
use super::layout::{CodeWidth, GROUP, PANEL, PackedView};
use super::matmul::packed_matmul;

/// So few that no other thread is asked to help.
const PANELS: usize = 4;
const COLS: usize = 2304;
/// A register tile of prefill and one of decode.
const TOKENS: usize = 5;

/// The back ends that only a clock can choose between, since which is faster depends on the processor: they read the same
/// data and give the same bits. One of them alone where there is nothing to choose.
pub fn rivals() -> &'static [Backend] {
    let count = if sums_in_32_bits() { 2 } else { 1 };
    &available()[..count]
}

/// Whether 32-bit sums of products may be faster than 16-bit ones. Where they are made of those they cannot be.
fn sums_in_32_bits() -> bool {
    #[cfg(all(
        target_arch = "wasm32",
        target_feature = "simd128",
        feature = "relaxed"
    ))]
    // SAFETY: a module with these instructions only validates where they exist.
    return unsafe { super::wasm::sums_in_32_bits() };
    #[cfg(not(all(
        target_arch = "wasm32",
        target_feature = "simd128",
        feature = "relaxed"
    )))]
    false
}

/// Multiplies 295,000 codes with five tokens, `rounds` times, on `backend`, where that runs here.
pub fn trial(backend: Backend, rounds: usize) {
    let cells = PANELS * COLS / GROUP;
    let width = CodeWidth::Nibble;
    let weights = PackedView {
        width,
        rows: PANELS * PANEL,
        cols: COLS,
        cells: &vec![0x5a; cells * width.cell_bytes()],
        row_scales: &[1.0; PANELS * PANEL],
    };
    let mut activations = Activations::default();
    let mut products = [0.0; TOKENS * PANELS * PANEL];
    let before = current();
    if select(backend) {
        activations.quantize(&[1.0; TOKENS * COLS], COLS);
        for _ in 0..rounds {
            packed_matmul(&weights, &activations, std::hint::black_box(&mut products));
        }
        select(before);
    }
}

//! Which of the build's kernels run: the host has the clock, so the host finds out which are the faster.

use wasm_bindgen::prelude::*;

use crate::kernels::{self, Backend};

/// The kernels in use: `simd128`, `relaxed-simd128` or `relaxed-simd128-i32`.
#[wasm_bindgen]
pub fn kernel_name() -> String {
    kernels::name().to_owned()
}

/// The names of this build's kernels that differ in speed alone, and not everywhere in the same way; the one in use first.
#[wasm_bindgen]
pub fn rival_kernels() -> Vec<String> {
    let names = kernels::rivals().iter().map(|backend| backend.name());
    names.map(str::to_owned).collect()
}

/// Runs the kernels of that name for the host to time: `rounds` times the same work. Does nothing for a name that is
/// none of [`rival_kernels`].
#[wasm_bindgen]
pub fn try_kernel(name: &str, rounds: usize) {
    if let Some(backend) = rival(name) {
        kernels::trial(backend, rounds);
    }
}

/// Uses the kernels of that name from now on, if it is one of [`rival_kernels`]. Says whether it is.
#[wasm_bindgen]
pub fn select_kernel(name: &str) -> bool {
    rival(name).is_some_and(kernels::select)
}

fn rival(name: &str) -> Option<Backend> {
    let mut rivals = kernels::rivals().iter();
    rivals.find(|backend| backend.name() == name).copied()
}

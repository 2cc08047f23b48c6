//! Threads of a browser: Web Workers that the host starts, each with an instance of this module on the same memory.

use wasm_bindgen::prelude::*;

use crate::kernels;

/// Computes with `n` threads from now on, the caller's among them, and returns how many there are: 1 in a
/// module without shared memory. The host starts the others, each as [`run_kernel_worker`].
#[wasm_bindgen]
pub fn set_threads(n: usize) -> usize {
    kernels::set_threads(n)
}

/// Makes the calling Web Worker number `index`, from 0, of the kernels' workers. Never returns: it ends when the
/// host terminates it.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub fn run_kernel_worker(index: usize) {
    kernels::run_worker(index);
}

/// To be called by a Web Worker in which [`run_kernel_worker`] trapped: whoever waits for it is told.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub fn kernel_worker_died() {
    kernels::worker_died();
}

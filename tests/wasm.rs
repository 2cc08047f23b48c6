//! The crate where it is meant to run: a dedicated worker of a real browser (`scripts/test-wasm`).
//! wasm-bindgen's test server serves the project's folder, so models and references come over HTTP.
#![cfg(target_arch = "wasm32")]

#[path = "wasm/class.rs"]
mod class;
#[path = "wasm/failures.rs"]
mod failures;
#[path = "wasm/goldens.rs"]
mod goldens;
#[path = "wasm/support.rs"]
mod support;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

//! `quantize_model`: makes a pack from a checkpoint or a GGUF file.

#[cfg(not(target_arch = "wasm32"))]
mod cli;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    cli::main()
}

/// Building the browser's tests builds every binary, and a browser has no command line.
#[cfg(target_arch = "wasm32")]
fn main() {}

//! The arithmetic of inference, and the only room with unsafe code.
//!
//! Every operation is written once, generically over `simd::Simd`, whose `scalar` implementation
//! is its definition. All back ends give the same bits, whatever the batch and the thread count:
//! integer sums are exact, float sums have a fixed order, a product is rounded before it is added
//! (no fused multiply-add), and exp is our own polynomial.
//!
//! Public functions are safe: they check every length they rely on before the first raw access.
#![allow(unsafe_code)]
// Register tiles are read by index: the same `t` picks an accumulator, a token and a scale.
#![allow(clippy::needless_range_loop)]

mod activations;
mod attention;
mod backend;
mod dense;
mod float_attention;
mod kv;
mod layout;
mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pool;
mod scalar;
mod simd;
mod trial;
mod vector;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::Activations;
pub use attention::attend;
pub use backend::{Backend, available, current, name, select};
pub use dense::dense_matmul;
pub use float_attention::{FloatKvLayer, attend_in_floats};
pub use kv::KvLayer;
pub use layout::{CodeWidth, GROUP, PANEL, PackedView, panels};
pub use matmul::packed_matmul;
pub(crate) use pool::for_ranges;
pub use pool::{run_worker, set_threads, threads, worker_died};
pub use trial::{rivals, trial};
pub use vector::{argmax, rms_norm, rope, silu_mul};

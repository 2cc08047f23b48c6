//! The integer weight format: what a packed matrix is, how other formats become one, and how it stands behind
//! Candle's `QTensor`.

mod convert;
mod linear;
mod packed;

pub use convert::{affine_row, float_row};
pub use linear::Linear;
pub use packed::{Group, PackedMatrix};

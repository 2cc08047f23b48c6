//! The integer weight format: what a packed matrix is, how other formats become one, how a pack stores it, and how it
//! stands behind Candle's `QTensor`.

mod convert;
mod linear;
mod packed;
mod planes;
mod stored;

pub use crate::kernels::GROUP;
pub use convert::{affine_row, float_row};
pub use linear::Linear;
pub use packed::{Group, PackedMatrix};
pub use planes::{Planes, low_bytes};
pub use stored::{CodeBits, StoredGroup, StoredRow};

//! The integer weight format: what a packed matrix is, how other formats become one, how a pack stores it, and how it
//! stands behind Candle's `QTensor`.

mod calibration;
mod coded;
mod columns;
mod convert;
mod decoding;
mod four;
mod linear;
mod packed;
mod rans;
mod stored;

pub use crate::kernels::GROUP;
pub use calibration::{HeadQuantizer, HeadStatistics};
pub use coded::{encode, most_bytes};
pub use convert::{affine_row, float_row};
pub use decoding::decode;
pub use linear::Linear;
pub use packed::{Group, PackedMatrix};
pub(crate) use packed::{allocate, reserve};
pub use stored::{CodeBits, StoredGroup, StoredRow};

//! x86-64, by what the processor has.

mod avx2;
mod ssse3;

pub(super) use avx2::Avx2;
pub(super) use ssse3::Ssse3;

//! What the custom operations share.

use candle_core::{CpuStorage, Layout, Result};

/// The elements of a contiguous float tensor.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("input is not contiguous: {layout:?}")
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

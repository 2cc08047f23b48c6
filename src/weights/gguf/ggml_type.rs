//! The ids of ggml's block types (`enum ggml_type` in `ggml.h`).

/// `Ok` for a type that Candle reads and that files hold; else the type's name for a message, in
/// parentheses, or nothing where the id is unknown.
pub(super) fn check(id: u32) -> Result<(), String> {
    let name = match id {
        // F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0, Q2_K to Q6_K, BF16.
        0..=3 | 6..=8 | 10..=14 | 30 => return Ok(()),
        // Types of activations, never of weights.
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return Err(String::new()),
    };
    Err(format!(" ({name})"))
}

//! The entropy decoder: any bytes for a matrix of any small shape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smollm_web::int4::{CodeBits, GROUP, decode};
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds;

fuzz_target!(
    init: seeds::write("coded").expect("the corpus is written"),
    |data: &[u8]| {
        let [bits, rows, groups, data @ ..] = data else {
            return;
        };
        let bits = if bits % 2 == 0 { CodeBits::Four } else { CodeBits::Six };
        let (rows, cols) = (usize::from(*rows) + 1, (usize::from(*groups) + 1) * GROUP);
        limited(data.len(), || {
            if let Ok(matrix) = decode(data, bits, rows, cols) {
                let mut row = vec![0.0; cols];
                (0..rows).for_each(|index| matrix.dequantize_row(index, &mut row));
            }
        });
    }
);

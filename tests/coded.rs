//! Entropy-coded matrices come back as they were, natively and in a browser, where vectors decode (`int4/four.rs`) what
//! scalars have written; `scripts/test-wasm` runs this file for both builds.

use smollm_web::int4::{CodeBits, GROUP, StoredGroup, StoredRow, decode, encode, most_bytes};
use smollm_web::kernels::set_threads;

// The same tests in a browser.
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// Rows of codes around a middle that differs from column to column, wider in some rows than in others.
fn rows(bits: CodeBits, rows: usize, cols: usize) -> Vec<StoredRow> {
    let mut x = 3u32;
    let mut next = |below: u32| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) % below
    };
    let most = u32::from(bits.max_code());
    let mut group = |r: usize, g: usize| StoredGroup {
        codes: std::array::from_fn(|c| {
            let width = [most + 1, most / 2 + 1, 3][r % 3];
            let bell = (0..4).map(|_| next(width)).sum::<u32>() / 4;
            (bell + (most - width.min(most)) / 2 + (c % 5) as u32).min(most) as u8
        }),
        scale: (17 * r + g) as u8 % 64,
        minimum: (9 * r + 31 * g) as i8,
    };
    (0..rows)
        .map(|r| StoredRow {
            scale: [0.5, 3.0, 0.0, 0.125][r % 4],
            minimum_step: 3 + (r % 50) as u16,
            groups: (0..cols / GROUP).map(|g| group(r, g)).collect(),
        })
        .collect()
}

#[test]
fn rows_come_back_from_one_piece_and_from_many() {
    for bits in CodeBits::ALL {
        for (n, cols) in [
            (11, 96),
            (8, 32),
            (1, 64),
            (17, 32),
            (48, 576),
            (500, 576),
            (37, 8192),
        ] {
            let all = rows(bits, n, cols);
            let data = encode(bits, cols, &all);
            assert!(data.len() as u64 <= most_bytes(n, cols));
            assert_eq!(data, encode(bits, cols, &all));
            for threads in [1, 3] {
                set_threads(threads);
                let matrix = decode(&data, bits, n, cols).unwrap();
                for (r, row) in all.iter().enumerate() {
                    assert_eq!(matrix.row_scale(r), row.scale);
                    for (g, stored) in row.groups.iter().enumerate() {
                        let expected = stored.group(bits, row.minimum_step).unwrap();
                        assert_eq!(matrix.group(r, g), expected, "{bits:?} row {r} group {g}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_with_any_piece_is_an_error() {
    let bits = CodeBits::Four;
    let (n, cols) = (500, 576);
    let mut all = rows(bits, n, cols);
    all[300].scale = f32::from_bits(0x7fc0_0000);
    let data = encode(bits, cols, &all);
    let error = decode(&data, bits, n, cols).unwrap_err();
    assert_eq!(error.code(), "not_a_model");
    assert!(error.to_string().starts_with("row 300: "), "{error}");
    let good = encode(bits, cols, &rows(bits, n, cols));
    let more = [&good[..], &[0]].concat();
    for bad in [&good[..good.len() - 2], &more] {
        let error = decode(bad, bits, n, cols).unwrap_err();
        assert_eq!(error.code(), "not_a_model");
    }
}

//! Every back end against the scalar definition (to the bit), and the definition against plain f64 arithmetic.

use smollm_web::int4::{PackedMatrix, float_row};
use smollm_web::kernels::{
    self, Activations, Backend, CodeWidth, KvLayer, argmax, attend, dense_matmul, packed_matmul,
    rms_norm, rope, silu_mul,
};
use std::sync::{Mutex, MutexGuard};

// The same tests in a browser, by `scripts/test-wasm`.
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The back end is the process's, so tests that change it take turns.
fn exclusive() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

/// Numbers in -1..1 from a linear congruential generator (Numerical Recipes), with an outlier now and then.
fn numbers(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            if i % 97 == 13 { 20.0 * x } else { x }
        })
        .collect()
}

fn packed(width: CodeWidth, rows: usize, cols: usize) -> PackedMatrix {
    let mut m = PackedMatrix::zeros(width, rows, cols).unwrap();
    for (r, row) in numbers(7, rows * cols).chunks_exact(cols).enumerate() {
        let (scale, groups) = float_row(row, width);
        m.set_row(r, scale, &groups);
    }
    m
}

/// A browser's module without shared memory has one thread.
const THREADS: &[usize] = if cfg!(target_arch = "wasm32") {
    &[1]
} else {
    &[1, 2, 4]
};

/// Runs `f` on every back end and thread count; all must give the bits of the scalar one.
fn same_bits_everywhere(what: &str, f: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let _turn = exclusive();
    assert!(kernels::select(Backend::Scalar));
    kernels::set_threads(1);
    let scalar = f();
    for &backend in kernels::available() {
        for threads in THREADS {
            assert!(kernels::select(backend));
            assert_eq!(kernels::set_threads(*threads), *threads);
            let got = f();
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&got),
                bits(&scalar),
                "{what} on {backend:?}, {threads} threads"
            );
        }
    }
    kernels::set_threads(1);
    assert!(kernels::select(kernels::available()[0]));
    scalar
}

const WIDTHS: [CodeWidth; 3] = [CodeWidth::Nibble, CodeWidth::Six, CodeWidth::Byte];

const SHAPES: [(usize, usize, usize); 6] = [
    (8, 64, 1),
    (16, 96, 3),
    (13, 32, 4),
    (40, 576, 9),
    (24, 1536, 5),
    (1, 64, 2),
];

#[test]
fn packed_matmul_is_the_same_everywhere_and_right() {
    for width in WIDTHS {
        for (rows, cols, tokens) in SHAPES {
            let m = packed(width, rows, cols);
            let x = numbers(99, tokens * cols);
            let y = same_bits_everywhere("packed_matmul", || {
                let mut a = Activations::default();
                a.quantize(&x, cols);
                let mut y = vec![0.0; tokens * rows];
                packed_matmul(&m.view(), &a, &mut y);
                y
            });
            let mut w = vec![0.0; cols];
            for r in 0..rows {
                m.dequantize_row(r, &mut w);
                for t in 0..tokens {
                    let x = &x[t * cols..][..cols];
                    let exact: f64 = w
                        .iter()
                        .zip(x)
                        .map(|(&w, &x)| f64::from(w) * f64::from(x))
                        .sum();
                    // Rounding an activation costs at most half a step, max|x| / 254, of its group.
                    let bound: f64 = w
                        .chunks(32)
                        .zip(x.chunks(32))
                        .map(|(w, x)| {
                            let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                            let weight: f32 = w.iter().map(|w| w.abs()).sum();
                            f64::from(largest / 254.0 * weight)
                        })
                        .sum();
                    let error = (f64::from(y[t * rows + r]) - exact).abs();
                    assert!(
                        error <= 1.001 * bound + 1e-5,
                        "{width:?} {rows}x{cols} [{t}][{r}]: {error} > {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_batch_is_the_same_as_its_tokens_alone() {
    let _turn = exclusive();
    for width in WIDTHS {
        for (rows, cols, tokens) in SHAPES {
            let m = packed(width, rows, cols);
            let x = numbers(5, tokens * cols);
            let run = |x: &[f32]| {
                let mut a = Activations::default();
                a.quantize(x, cols);
                let mut y = vec![0.0; x.len() / cols * rows];
                packed_matmul(&m.view(), &a, &mut y);
                y
            };
            let alone: Vec<f32> = x.chunks(cols).flat_map(&run).collect();
            assert_eq!(run(&x), alone, "{width:?} {rows}x{cols}, {tokens} tokens");
        }
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    // Every code, scale, offset and activation at its limit.
    for width in WIDTHS {
        let cols = 128;
        let mut m = PackedMatrix::zeros(width, 8, cols).unwrap();
        for (row, sign) in (0..8).zip([1i16, -1].into_iter().cycle()) {
            let group = smollm_web::int4::Group {
                codes: [width.max_code(); 32],
                scale: 255,
                offset: sign * 32_767,
            };
            m.set_row(row, 1.0, &[group; 4]);
        }
        for sign in [1.0, -1.0] {
            let x = vec![sign * 127.0; cols];
            let y = same_bits_everywhere("extremes", || {
                let mut a = Activations::default();
                a.quantize(&x, cols);
                let mut y = vec![0.0; 8];
                packed_matmul(&m.view(), &a, &mut y);
                y
            });
            for (row, offset) in (0..8).zip([1.0, -1.0].into_iter().cycle()) {
                let w = f64::from(width.max_code()) * 255.0 + offset * 32_767.0;
                let exact = f64::from(sign) * 127.0 * cols as f64 * w;
                let error = (f64::from(y[row]) - exact).abs();
                assert!(
                    error <= exact.abs() * 1e-6,
                    "{width:?} {row}: {} not {exact}",
                    y[row]
                );
            }
        }
    }
}

#[test]
fn float_kernels_are_the_same_everywhere_and_right() {
    let (rows, cols, tokens) = (19, 96, 3);
    let (w, x) = (numbers(1, rows * cols), numbers(2, tokens * cols));
    let y = same_bits_everywhere("dense_matmul", || {
        let mut y = vec![0.0; tokens * rows];
        dense_matmul(&w, &x, cols, &mut y);
        y
    });
    for t in 0..tokens {
        for r in 0..rows {
            let pairs = w[r * cols..][..cols].iter().zip(&x[t * cols..]);
            let exact: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            assert!((f64::from(y[t * rows + r]) - exact).abs() < 1e-4);
        }
    }

    let gain = numbers(3, cols);
    let y = same_bits_everywhere("rms_norm", || {
        let mut y = vec![0.0; x.len()];
        rms_norm(&x, &gain, 1e-5, &mut y);
        y
    });
    for (x, y) in x.chunks(cols).zip(y.chunks(cols)) {
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / cols as f64;
        for ((&x, &y), &g) in x.iter().zip(y).zip(&gain) {
            let exact = f64::from(x) / (mean + 1e-5).sqrt() * f64::from(g);
            assert!((f64::from(y) - exact).abs() < 1e-5);
        }
    }

    // Far beyond where e^x is finite, too.
    let mut both = numbers(4, tokens * 2 * cols);
    for (x, scale) in both
        .iter_mut()
        .zip([1.0, 10.0, 100.0, 1000.0].into_iter().cycle())
    {
        *x *= scale;
    }
    let y = same_bits_everywhere("silu_mul", || {
        let mut y = vec![0.0; tokens * cols];
        silu_mul(&both, cols, &mut y);
        y
    });
    for (both, y) in both.chunks(2 * cols).zip(y.chunks(cols)) {
        for i in 0..cols {
            let (gate, up) = (f64::from(both[i]), f64::from(both[cols + i]));
            let exact = gate / (1.0 + (-gate).exp()) * up;
            let error = (f64::from(y[i]) - exact).abs();
            assert!(
                error <= exact.abs() * 1e-6 + 1e-30,
                "silu({gate}) · {up}: {} not {exact}",
                y[i]
            );
        }
    }
}

/// A layer with `keys` and `values` (positions, kv_heads, head_dim), and what it makes of them: the dequantized
/// vectors, in the same order.
fn stored(
    (kv_heads, head_dim): (usize, usize),
    keys: &[f32],
    values: &[f32],
) -> (KvLayer, Vec<f32>, Vec<f32>) {
    let width = kv_heads * head_dim;
    let mut kv = KvLayer::new(kv_heads, head_dim, keys.len() / width + 3).unwrap();
    for (p, (k, v)) in keys.chunks(width).zip(values.chunks(width)).enumerate() {
        kv.store(p, k, v);
    }
    let rounded = |x: &[f32], limit: f32| {
        let heads = x.chunks(head_dim).flat_map(|x| {
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            let q = move |x: &f32| (x * (limit / largest)).round_ties_even() * (largest / limit);
            x.iter().map(q)
        });
        heads.collect()
    };
    (kv, rounded(keys, 4095.0), rounded(values, 127.0))
}

#[test]
fn attention_is_the_same_everywhere_and_right() {
    for (heads, kv_heads, head_dim, start, tokens) in [
        (4, 2, 16, 0, 5),
        (9, 3, 64, 30, 3),
        (2, 1, 40, 100, 1),
        (4, 4, 128, 7, 2),
        (4, 1, 24, 0, 1),
        (9, 3, 64, 511, 2),
    ] {
        let width = kv_heads * head_dim;
        let q = numbers(1, tokens * heads * head_dim);
        let keys = numbers(2, (start + tokens) * width);
        let values = numbers(3, keys.len());
        let (_, k, v) = stored((kv_heads, head_dim), &keys, &values);
        let out = same_bits_everywhere("attend", || {
            let (kv, ..) = stored((kv_heads, head_dim), &keys, &values);
            let mut out = vec![0.0; q.len()];
            attend(&kv, heads, start, &q, &mut out);
            out
        });
        for t in 0..tokens {
            for h in 0..heads {
                let q = &q[(t * heads + h) * head_dim..][..head_dim];
                let at = |p: usize| p * width + h / (heads / kv_heads) * head_dim;
                let scores: Vec<f64> = (0..=start + t)
                    .map(|p| {
                        let k = &k[at(p)..];
                        let dot: f64 = q
                            .iter()
                            .zip(k)
                            .map(|(&a, &b)| f64::from(a) * f64::from(b))
                            .sum();
                        (dot / (head_dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                // Scores are off by what 12 bits of the query leave, weights by what 16 bits of them do.
                for d in 0..head_dim {
                    let weighted = scores
                        .iter()
                        .enumerate()
                        .map(|(p, s)| s * f64::from(v[at(p) + d]));
                    let exact = weighted.sum::<f64>() / total;
                    let got = f64::from(out[(t * heads + h) * head_dim + d]);
                    let largest = 20.0;
                    assert!((got - exact).abs() < 1e-3 * largest, "{got} not {exact}");
                }
            }
        }
    }
}

#[test]
fn a_batch_attends_as_its_tokens_alone() {
    let _turn = exclusive();
    let (heads, kv_heads, head_dim, tokens) = (9, 3, 64, 37);
    let keys = numbers(2, tokens * kv_heads * head_dim);
    let (kv, ..) = stored((kv_heads, head_dim), &keys, &keys);
    let q = numbers(1, tokens * heads * head_dim);
    let mut whole = vec![0.0; q.len()];
    attend(&kv, heads, 0, &q, &mut whole);
    for (t, q) in q.chunks(heads * head_dim).enumerate() {
        let mut alone = vec![0.0; q.len()];
        attend(&kv, heads, t, q, &mut alone);
        assert_eq!(alone, whole[t * q.len()..][..q.len()], "token {t}");
    }
}

#[test]
fn the_largest_attention_sums_do_not_overflow() {
    // Equal keys at their limit give every position the same, largest weight.
    let (head_dim, positions) = (KvLayer::MAX_HEAD_DIM, 5000);
    let ones = vec![1.0; head_dim * positions];
    let out = same_bits_everywhere("attend", || {
        let (kv, ..) = stored((1, head_dim), &ones, &ones);
        let mut out = vec![0.0; head_dim];
        attend(&kv, 1, positions - 1, &ones[..head_dim], &mut out);
        out
    });
    assert!(out.iter().all(|y| (y - 1.0).abs() < 1e-3), "{}", out[0]);
}

#[test]
fn values_of_zero_attend_to_zero() {
    let (kv, ..) = stored((1, 16), &[1.0; 48], &[0.0; 48]);
    let mut out = [1.0; 16];
    attend(&kv, 1, 2, &[1.0; 16], &mut out);
    assert_eq!(out, [0.0; 16]);
}

#[test]
fn rope_turns_pairs() {
    let mut head = [1.0, 2.0, 3.0, 4.0];
    let (sin, cos) = (0.6f32, 0.8f32);
    rope(&mut head, &[cos, 1.0], &[sin, 0.0]);
    assert_eq!(
        head,
        [1.0 * cos - 3.0 * sin, 2.0, 3.0 * cos + 1.0 * sin, 4.0]
    );
}

#[test]
fn argmax_takes_the_first_of_equals_and_no_nan() {
    assert_eq!(argmax(&[]), None);
    assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
    assert_eq!(argmax(&[f32::NAN, -1.0, f32::NAN]), Some(1));
    assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), Some(0));
}

//! The sampler against transformers' own processors (`scripts/make-sampler-golden.py`) and against
//! rules worked out by hand.
#![cfg(not(target_arch = "wasm32"))]

use serde::Deserialize;
use smollm_web::sampler::{
    Rng, Sampler, SamplingParams, argmax, log_probability, log_sum_exp, top_log_probabilities,
};
use smollm_web::{ErrorKind, TokenId};

#[derive(Deserialize)]
struct Golden {
    context: Vec<TokenId>,
    logits: Vec<Vec<f32>>,
    log_softmax: Vec<Vec<f64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize, Debug)]
struct Case {
    logits: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    kept: Vec<(TokenId, f64)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/sampler.json")).expect("golden/sampler.json")
}

fn kept(params: SamplingParams, logits: &[f32], context: &[TokenId]) -> Vec<(TokenId, f64)> {
    let mut sampler = Sampler::new(params).expect("valid parameters");
    sampler
        .distribution(logits, context)
        .expect("finite logits")
        .iter()
        .map(|candidate| (candidate.id, candidate.probability))
        .collect()
}

fn ids(kept: &[(TokenId, f64)]) -> Vec<u32> {
    kept.iter().map(|(id, _)| id.0).collect()
}

#[test]
fn distributions_equal_those_of_transformers() {
    let golden = golden();
    assert!(golden.cases.len() >= 80);
    for case in &golden.cases {
        let params = SamplingParams {
            temperature: case.temperature,
            top_k: case.top_k,
            top_p: case.top_p,
            min_p: case.min_p,
            repetition_penalty: case.repetition_penalty,
            seed: 0,
        };
        let ours = kept(params, &golden.logits[case.logits], &golden.context);
        // Tokens that the reference keeps at less than 1e-20 are those we call negligible.
        let theirs: Vec<_> = case.kept.iter().filter(|(_, p)| *p > 1e-20).collect();
        let ours: Vec<_> = ours.into_iter().filter(|(_, p)| *p > 1e-20).collect();
        assert_eq!(
            ours.iter().map(|k| k.0).collect::<Vec<_>>(),
            theirs.iter().map(|k| k.0).collect::<Vec<_>>(),
            "kept tokens of {params:?}"
        );
        for (&(id, ours), &&(_, theirs)) in ours.iter().zip(&theirs) {
            // The penalty itself is applied in f32, as transformers does on f32 logits; the
            // reference ran in f64.
            let tolerance = if case.repetition_penalty == 1.0 {
                1e-12
            } else {
                1e-5
            };
            assert!(
                (ours - theirs).abs() <= tolerance * theirs,
                "token {id:?}: {ours} against {theirs} with {params:?}"
            );
        }
    }
}

#[test]
fn log_probabilities_equal_torch_log_softmax() {
    let golden = golden();
    for (logits, expected) in golden.logits.iter().zip(&golden.log_softmax) {
        for (id, &expected) in (0u32..).zip(expected) {
            let ours = f64::from(log_probability(logits, TokenId(id)));
            assert!((ours - expected).abs() < 2e-6 * expected.abs().max(1.0));
        }
        let top = top_log_probabilities(logits, 5);
        let mut ranked: Vec<usize> = (0..expected.len()).collect();
        ranked.sort_by(|&a, &b| expected[b].total_cmp(&expected[a]));
        assert_eq!(
            top.iter().map(|t| t.0.0 as usize).collect::<Vec<_>>(),
            ranked[..5]
        );
        assert_eq!(top[0].1, log_probability(logits, top[0].0));
    }
}

#[test]
fn huge_logits_do_not_overflow_the_sum() {
    let sum = log_sum_exp(&[1e30, 1e30, -1e30]);
    assert!((sum - (f64::from(1e30f32) + 2f64.ln())).abs() < 1e15);
    assert_eq!(log_sum_exp(&[0.0, f32::NEG_INFINITY]), 0.0);
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let logits = [1.0, 3.0, 3.0, f32::NEG_INFINITY, 3.0];
    assert_eq!(argmax(&logits), Some(TokenId(1)));
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    assert_eq!(sampler.sample(&logits, &[], 0.999).unwrap(), TokenId(1));
    assert_eq!(ids(&kept(SamplingParams::greedy(), &logits, &[])), [1]);
}

#[test]
fn of_equal_logits_the_lower_ids_are_kept() {
    let logits = [0.0; 10];
    let top_k = SamplingParams {
        top_k: 3,
        ..SamplingParams::default()
    };
    assert_eq!(ids(&kept(top_k, &logits, &[])), [0, 1, 2]);
    // Three of ten equal tokens hold 0.3, four are needed for 0.35.
    let top_p = SamplingParams {
        top_p: 0.35,
        ..SamplingParams::default()
    };
    let four = kept(top_p, &logits, &[]);
    assert_eq!(ids(&four), [0, 1, 2, 3]);
    assert!(four.iter().all(|(_, p)| (p - 0.25).abs() < 1e-15));
    assert_eq!(top_log_probabilities(&logits, 2)[1].0, TokenId(1));
}

#[test]
fn extremes_of_each_filter() {
    let logits = [0.5, 2.0, 1.0, -1.0];
    let all = SamplingParams::default();
    let with = |change: fn(&mut SamplingParams)| {
        let mut params = all;
        change(&mut params);
        ids(&kept(params, &logits, &[]))
    };
    assert_eq!(with(|_| ()), [0, 1, 2, 3]);
    assert_eq!(with(|p| p.top_p = 0.0), [1]);
    assert_eq!(with(|p| p.min_p = 1.0), [1]);
    assert_eq!(with(|p| p.top_k = 1), [1]);
    assert_eq!(with(|p| p.top_k = 1_000_000), [0, 1, 2, 3]);
    // The smallest positive temperature: nothing overflows, only the best is left.
    assert_eq!(with(|p| p.temperature = f32::from_bits(1)), [1]);
}

#[test]
fn tokens_masked_with_negative_infinity_never_come() {
    let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
    let mut sampler = Sampler::new(SamplingParams::default()).unwrap();
    for uniform in [0.0, 0.25, 0.49, 0.5, 0.75, 1.0 - f64::EPSILON] {
        let id = sampler.sample(&logits, &[], uniform).unwrap();
        assert_eq!(id, TokenId(if uniform < 0.5 { 1 } else { 3 }));
    }
}

#[test]
fn the_draw_follows_cumulative_probability_in_order_of_ids() {
    // Weights 1, 2, 1 of 4, up to the rounding of ln 2 as f32.
    let logits = [0.0, std::f32::consts::LN_2, 0.0];
    let mut sampler = Sampler::new(SamplingParams::default()).unwrap();
    for (uniform, expected) in [(0.0, 0), (0.2499, 0), (0.2501, 1), (0.7499, 1), (0.7501, 2)] {
        assert_eq!(
            sampler.sample(&logits, &[], uniform).unwrap(),
            TokenId(expected),
            "uniform {uniform}"
        );
    }
    assert_eq!(
        sampler
            .sample(&logits, &[], 1.0 - f64::EPSILON / 2.0)
            .unwrap(),
        TokenId(2)
    );
}

#[test]
fn repetition_is_penalized_once_whatever_the_sign() {
    let logits = [2.0, -2.0, 0.0, 1.5];
    let params = SamplingParams {
        temperature: 0.0,
        repetition_penalty: 2.0,
        ..SamplingParams::default()
    };
    let mut sampler = Sampler::new(params).unwrap();
    let seen = [TokenId(0), TokenId(0), TokenId(1)];
    // 2 / 2 = 1 < 1.5; were it divided twice or not at all, the order would differ elsewhere.
    assert_eq!(sampler.sample(&logits, &seen, 0.0).unwrap(), TokenId(3));
    let seen = [TokenId(0), TokenId(3), TokenId(0)];
    assert_eq!(sampler.sample(&logits, &seen, 0.0).unwrap(), TokenId(0));

    let params = SamplingParams {
        temperature: 1.0,
        ..params
    };
    let penalized = kept(params, &logits, &[TokenId(1)]);
    let plain = kept(SamplingParams::default(), &logits, &[]);
    let ratio = |k: &[(TokenId, f64)]| (k[1].1 / k[0].1).ln();
    assert!((ratio(&plain) - -4.0).abs() < 1e-12);
    assert!((ratio(&penalized) - -6.0).abs() < 1e-12);
}

#[test]
fn frequencies_of_many_draws_match_the_distribution() {
    let logits = [1.0, 0.0, -1.0, 0.5];
    let expected = kept(SamplingParams::default(), &logits, &[]);
    let mut sampler = Sampler::new(SamplingParams::default()).unwrap();
    let mut rng = Rng::new(11);
    let mut counts = [0u32; 4];
    let draws = 20_000;
    for _ in 0..draws {
        counts[sampler.sample(&logits, &[], rng.uniform()).unwrap().0 as usize] += 1;
    }
    for (&(id, p), count) in expected.iter().zip(counts) {
        let frequency = f64::from(count) / f64::from(draws);
        let deviation = (p * (1.0 - p) / f64::from(draws)).sqrt();
        assert!(
            (frequency - p).abs() < 4.0 * deviation,
            "token {id:?}: {frequency} against {p}"
        );
    }
}

#[test]
fn invalid_values_are_refused_by_name_and_value() {
    let valid = SamplingParams::default();
    let cases: [(SamplingParams, &str, &str); 12] = [
        (
            SamplingParams {
                temperature: -0.1,
                ..valid
            },
            "temperature",
            "-0.1",
        ),
        (
            SamplingParams {
                temperature: 2.5,
                ..valid
            },
            "temperature",
            "2.5",
        ),
        (
            SamplingParams {
                temperature: f32::NAN,
                ..valid
            },
            "temperature",
            "NaN",
        ),
        (
            SamplingParams {
                temperature: f32::INFINITY,
                ..valid
            },
            "temperature",
            "inf",
        ),
        (
            SamplingParams {
                top_p: -0.5,
                ..valid
            },
            "top_p",
            "-0.5",
        ),
        (
            SamplingParams {
                top_p: 1.5,
                ..valid
            },
            "top_p",
            "1.5",
        ),
        (
            SamplingParams {
                top_p: f32::NAN,
                ..valid
            },
            "top_p",
            "NaN",
        ),
        (
            SamplingParams {
                min_p: 1.01,
                ..valid
            },
            "min_p",
            "1.01",
        ),
        (
            SamplingParams {
                min_p: f32::NAN,
                ..valid
            },
            "min_p",
            "NaN",
        ),
        (
            SamplingParams {
                repetition_penalty: 0.0,
                ..valid
            },
            "repetition_penalty",
            "0",
        ),
        (
            SamplingParams {
                repetition_penalty: f32::NAN,
                ..valid
            },
            "repetition_penalty",
            "NaN",
        ),
        (
            SamplingParams {
                repetition_penalty: 11.0,
                ..valid
            },
            "repetition_penalty",
            "11",
        ),
    ];
    for (params, field, value) in cases {
        let error = Sampler::new(params).expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let message = error.to_string();
        assert!(
            message.starts_with(field) && message.ends_with(&format!("found {value}")),
            "{message}"
        );
    }
}

#[test]
fn broken_logits_are_an_error_not_a_token() {
    for params in [SamplingParams::greedy(), SamplingParams::default()] {
        let mut sampler = Sampler::new(params).unwrap();
        for logits in [
            [0.0, f32::NAN],
            [f32::INFINITY, 0.0],
            [f32::NEG_INFINITY, f32::NEG_INFINITY],
        ] {
            let error = sampler.sample(&logits, &[], 0.5).expect_err("must fail");
            assert_eq!(error.kind(), ErrorKind::NotAModel);
        }
        // The sampler is as good as new afterwards.
        assert_eq!(sampler.sample(&[9.0, -90.0], &[], 0.5).unwrap(), TokenId(0));
    }
}

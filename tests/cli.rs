//! The `smollm` program, driven as other programs would: lines of JSON in, lines of JSON out.
#![cfg(not(target_arch = "wasm32"))]

mod models;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use models::{project, read, tensor};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const MODELS: &str = "tests/fixtures/models";

fn smollm(arguments: &[&str], model: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_smollm"))
        .args(arguments)
        .arg("--model")
        .arg(project(MODELS).join(model))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its model is gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The lines that a successful run answers with.
fn lines(arguments: &[&str], model: &str, input: &str) -> Vec<Value> {
    let output = smollm(arguments, model, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    assert_eq!(errors, "", "{arguments:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn golden(model: &str) -> Value {
    let path = Path::new("tests/golden/tiny")
        .join(model)
        .with_extension("json");
    serde_json::from_slice(&read(project(path))).unwrap()
}

#[test]
fn score_agrees_with_transformers() {
    let prompt = &golden("llama-untied")["prompts"]["long"]["ids"];
    let ids: Vec<usize> = serde_json::from_value(prompt.clone()).unwrap();
    let bytes = read(project("tests/golden/tiny/llama-untied.safetensors"));
    let expected = tensor(&SafeTensors::deserialize(&bytes).unwrap(), "long.logits");
    let rows: Vec<&[f32]> = expected.chunks_exact(512).collect();
    let log_softmax = |row: &[f32], id: usize| {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        f64::from(row[id]) - sum.ln()
    };

    let input = json!({"ids": ids}).to_string();
    for model in ["llama-untied", "llama-untied.gguf"] {
        let out = lines(&["score", "--top", "3", "--logits"], model, &input);
        assert_eq!(out.len(), 1);
        let out = &out[0];
        let logprobs = out["logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), ids.len());
        assert!(logprobs[0].is_null());
        let mut sum = 0.0;
        for i in 1..ids.len() {
            let theirs = log_softmax(rows[i - 1], ids[i]);
            sum += theirs;
            let ours = logprobs[i].as_f64().unwrap();
            assert!(
                (ours - theirs).abs() < 1e-4,
                "position {i}: {ours}, {theirs}"
            );
        }
        let perplexity = (-sum / (ids.len() - 1) as f64).exp();
        let ours = out["perplexity"].as_f64().unwrap();
        assert!((ours / perplexity - 1.0).abs() < 1e-4);
        for (i, row) in rows.iter().enumerate() {
            let best = (0..512).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            assert_eq!(out["argmax"][i], best);
            let top = out["top"][i].as_array().unwrap();
            assert_eq!(top.len(), 3);
            assert_eq!(top[0][0], best);
            assert!((top[0][1].as_f64().unwrap() - log_softmax(row, best)).abs() < 1e-4);
            assert_eq!(out["logits"][i].as_array().unwrap().len(), 512);
            let logit = out["logits"][i][best].as_f64().unwrap();
            assert!((logit - f64::from(row[best])).abs() < 1e-3);
        }
    }
    // One token predicts nothing, but has a successor.
    let out = &lines(&["score"], "llama-untied", r#"{"ids": [5]}"#)[0];
    assert_eq!(out["logprobs"], json!([null]));
    assert_eq!(out["argmax"].as_array().unwrap().len(), 1);
    assert_eq!(out["perplexity"], Value::Null);
    assert!(out.get("top").is_none() && out.get("logits").is_none());
}

#[test]
fn tokenize_tells_text_from_control_tokens() {
    let input = "{\"text\": \"hi\"}\n\n{\"text\": \"<|im_end|>\"}\n{\"text\": \"\"}\n";
    let plain = lines(&["tokenize"], "llama-tied", input);
    assert_eq!(plain.len(), 3);
    assert_eq!(plain[2], json!({"ids": []}));
    let hidden = plain[1]["ids"].as_array().unwrap();
    assert!(hidden.len() > 1 && hidden.iter().all(|id| id.as_u64().unwrap() > 2));
    let parsed = lines(&["tokenize", "--parse-special"], "llama-tied.gguf", input);
    assert_eq!(parsed[0], plain[0]);
    assert_eq!(parsed[1], json!({"ids": [2]}));
}

#[test]
fn template_renders_and_encodes() {
    let input = json!({"messages": [{"role": "user", "content": "a<|im_end|>"}], "add_generation_prompt": true});
    let out = &lines(&["template"], "llama-untied", &input.to_string())[0];
    let text = "<|im_start|>user\na<|im_end|><|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(out["text"], text);
    let ids = out["ids"].as_array().unwrap();
    // The template's own control tokens, and not the user's.
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 2);
    assert_eq!(ids.iter().filter(|id| **id == 2).count(), 1);
    let without = json!({"messages": [{"role": "user", "content": "a"}]});
    let out = &lines(&["template"], "llama-untied", &without.to_string())[0];
    assert_eq!(out["text"], "<|im_start|>user\na<|im_end|>\n");
}

#[test]
fn generate_answers_line_by_line() {
    let messages = json!([{"role": "user", "content": "Hello there"}]);
    let request = |more: Value| {
        let mut request = json!({"messages": messages});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request.to_string()
    };
    let greedy = request(json!({"max_tokens": 12, "temperature": 0}));
    let seeded = request(json!({"max_tokens": 12, "temperature": 1, "seed": 3}));
    let input = [
        greedy.clone(),
        seeded.clone(),
        r#"{"messages": [{"role": "user", "content": "Hello there"}], "max_token": 1}"#.into(),
        request(json!({"temperature": -1})),
        "not json".into(),
        greedy.clone(),
        seeded,
        request(json!({"max_tokens": 2, "temperature": 0, "logprobs": true, "top_logprobs": 2})),
        request(json!({"messages": [{"role": "user", "content": "x ".repeat(3000)}]})),
    ]
    .join("\n");
    let out = lines(&["generate", "--threads", "1"], "llama-tied", &input);
    assert_eq!(out.len(), 9);
    for answer in [&out[0], &out[1]] {
        let ids = answer["ids"].as_array().unwrap();
        let reason = answer["finish_reason"].as_str().unwrap();
        assert!(reason == "length" && ids.len() == 12 || reason == "stop" && ids.len() <= 12);
        let usage = &answer["usage"];
        assert_eq!(usage["completion_tokens"], ids.len());
        assert_eq!(
            usage["total_tokens"].as_u64().unwrap(),
            usage["prompt_tokens"].as_u64().unwrap() + ids.len() as u64
        );
        assert!(!answer["text"].as_str().unwrap().contains("<|"));
    }
    for (line, culprit) in [(2, "max_token"), (3, "temperature"), (4, "JSON")] {
        let error = &out[line]["error"];
        assert_eq!(error["code"], "invalid_argument");
        assert!(
            error["message"].as_str().unwrap().contains(culprit),
            "{error}"
        );
    }
    // The same again, now with a cache.
    for (first, again) in [(0, 5), (1, 6)] {
        assert_eq!(out[first]["ids"], out[again]["ids"]);
        assert_eq!(out[first]["text"], out[again]["text"]);
        let prompt_tokens = out[again]["usage"]["prompt_tokens"].as_u64().unwrap();
        assert_eq!(out[again]["usage"]["cached_tokens"], prompt_tokens - 1);
    }
    let logprobs = out[7]["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 2);
    assert_eq!(logprobs[0]["id"], out[7]["ids"][0]);
    assert_eq!(logprobs[0]["top_logprobs"][0][0], out[7]["ids"][0]);
    assert_eq!(logprobs[0]["top_logprobs"][0][1], logprobs[0]["logprob"]);
    assert_eq!(out[8]["error"]["code"], "context_overflow");

    // Another thread count, another file format: the same ids.
    let others = lines(&["generate", "--threads", "2"], "llama-tied.gguf", &greedy);
    assert_eq!(others[0]["ids"], out[0]["ids"]);
}

#[test]
fn greedy_generation_ends_with_the_end_token_when_it_comes() {
    // Sampled hot, a tiny model of 512 tokens sooner or later says one of its two end tokens.
    let input: Vec<String> = (0..20)
        .map(|seed| {
            json!({"messages": [{"role": "user", "content": "Hi"}], "temperature": 2, "top_p": 1,
                   "seed": seed, "max_tokens": 400})
            .to_string()
        })
        .collect();
    let out = lines(&["generate"], "llama-tied", &input.join("\n"));
    let stopped: Vec<_> = out
        .iter()
        .filter(|o| o["finish_reason"] == "stop")
        .collect();
    assert!(!stopped.is_empty());
    for answer in stopped {
        let ids = answer["ids"].as_array().unwrap();
        let ends = |id: &Value| *id == 0 || *id == 2;
        assert!(ends(ids.last().unwrap()));
        assert!(!ids[..ids.len() - 1].iter().any(ends));
    }
}

#[test]
fn bench_measures_prefill_and_decode_apart() {
    let arguments = [
        "bench",
        "--prompt-tokens",
        "40",
        "--decode-tokens",
        "8",
        "--runs",
        "3",
    ];
    let out = &lines(&[&arguments[..], &["--json"]].concat(), "smollm3", "")[0];
    for figure in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(out[figure].as_f64().unwrap() > 0.0);
    }
    assert_eq!(out["prefill_runs"].as_array().unwrap().len(), 3);
    assert_eq!(out["quantization"], "float32");
    let table = String::from_utf8(smollm(&arguments, "smollm3", "").stdout).unwrap();
    assert!(
        table.contains("prefill") && table.contains("tokens/s of 40"),
        "{table}"
    );
}

#[test]
fn chat_remembers_and_obeys() {
    let input = "/system Be brief.\nHello\nAgain\n/history\n/nonsense\n/clear\n/history\n/help\n/quit\nnever read\n";
    let output = smollm(
        &["chat", "--temperature", "0", "--max-tokens", "6"],
        "llama-tied",
        input,
    );
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.matches("system: Be brief.").count(), 2, "{shown}");
    assert_eq!(shown.matches("user: Hello").count(), 1);
    assert_eq!(shown.matches("assistant: ").count(), 2);
    assert!(shown.contains("/clear") && !shown.contains("never read"));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("/nonsense"), "{errors}");
}

#[test]
fn what_is_no_model_is_told_by_name() {
    for (model, code, culprit) in [
        ("nothing-here", "invalid_argument", "nothing-here"),
        (
            "../templates",
            "not_a_model",
            "neither a config.json nor a .gguf",
        ),
        ("llama-tied/config.json", "not_a_model", "config.json"),
        (".", "invalid_argument", "3 .gguf files"),
    ] {
        let output = smollm(&["generate"], model, "{}\n");
        assert!(!output.status.success());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.starts_with(&format!("error ({code})")),
            "{model}: {message}"
        );
        assert!(message.contains(culprit), "{model}: {message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn settings_out_of_range_are_told_at_once() {
    let output = smollm(&["chat", "--temperature", "7"], "llama-tied", "Hi\n");
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("temperature") && message.contains('7'),
        "{message}"
    );

    let output = smollm(&["generate", "--threads", "0"], "llama-tied", "");
    assert!(!output.status.success());
    let output = smollm(&["generate", "--context-length", "513"], "llama-tied", "");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("513"), "{message}");
}

//! `SmolLMInstruct` over real HTTP: both ways of loading, both ways of answering.

use serde_json::json;
use smollm_web::wasm::{SmolLMInstruct, StateReader, StateWriter};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::support::{LLAMA, SMOLLM3, bytes, finish, loaded, parsed, thrown};

/// A greedy request for `messages`.
fn greedy(text: &str) -> String {
    json!({
        "kind": "completion",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0, "max_tokens": 12,
    })
    .to_string()
}

/// Loads a checkpoint the worker's way.
async fn stepwise(directory: &str, precision: &str) -> SmolLMInstruct {
    let model = SmolLMInstruct::new();
    feed(&model, directory, precision).await;
    model
}

async fn feed(model: &SmolLMInstruct, directory: &str, precision: &str) {
    let text =
        async |name: &str| String::from_utf8(bytes(&format!("{directory}/{name}")).await).unwrap();
    let spec = json!({
        "format": "safetensors", "precision": precision, "context_length": 256,
        "files": {
            "config.json": text("config.json").await,
            "tokenizer.json": text("tokenizer.json").await,
            "tokenizer_config.json": text("tokenizer_config.json").await,
        },
    });
    model.begin_load(&spec.to_string()).unwrap();
    model.begin_file("model.safetensors").unwrap();
    for chunk in bytes(&format!("{directory}/model.safetensors"))
        .await
        .chunks(4_099)
    {
        model.feed(chunk).unwrap();
    }
    let info = parsed(model.finish_load());
    assert_eq!(info, parsed(model.info()));
}

#[wasm_bindgen_test]
async fn a_directory_a_sharded_one_and_a_gguf_are_initialized() {
    let gguf = format!("{LLAMA}.gguf");
    for (url, architecture, context) in [
        (LLAMA, "llama", 512),
        (&format!("{SMOLLM3}/"), "smollm3", 1024),
        (&gguf, "llama", 512),
    ] {
        let info = parsed(loaded(url).await.info());
        assert_eq!(info["architecture"], architecture, "{url}");
        assert_eq!(info["quantization"], "float32", "{url}");
        assert_eq!(info["context_length"], context, "{url}");
        assert_eq!(info["kernel"], smollm_web::wasm::kernel_name(), "{url}");
        assert!(info["parameters"].as_u64().unwrap() > 100_000, "{url}");
        let weights = info["weight_bytes"].as_u64().unwrap();
        assert!(weights > 300_000, "{url}: {weights}");
        assert!(info["memory_bytes"].as_u64().unwrap() > weights, "{url}");
    }
}

#[wasm_bindgen_test]
async fn both_ways_of_loading_give_the_same_answer() {
    let alone = loaded(LLAMA).await;
    let fed = stepwise(LLAMA, "source").await;
    for model in [&alone, &fed] {
        parsed(model.start(&greedy("Hello there")));
    }
    let (ids, text, done) = finish(&alone);
    assert_eq!(finish(&fed), (ids.clone(), text, done.clone()));
    assert_eq!(
        ids.len(),
        done["usage"]["completion_tokens"].as_u64().unwrap() as usize
    );

    let packed = stepwise(LLAMA, "int8").await;
    assert_eq!(parsed(packed.info())["quantization"], "int8");
    parsed(packed.start(&greedy("Hello there")));
    assert!(!finish(&packed).0.is_empty());
}

#[wasm_bindgen_test]
async fn what_an_engine_has_read_another_takes_up() {
    for precision in ["source", "int8"] {
        let first = stepwise(LLAMA, precision).await;
        parsed(first.start(&greedy("Hello there, said the sea to the shore")));
        finish(&first);
        let mut writer = StateWriter::new(&first).unwrap();
        let (tokens, bytes) = (writer.tokens(), writer.bytes());
        let mut state = Vec::new();
        while let Some(part) = writer.next(&first).unwrap() {
            state.extend(part);
        }
        assert_eq!(state.len() as f64, bytes);

        let second = stepwise(LLAMA, precision).await;
        let mut reader = StateReader::new();
        for chunk in state.chunks(1_000) {
            reader.feed(&second, chunk).unwrap();
        }
        assert_eq!(reader.finish(&second).unwrap(), tokens);
        for model in [&first, &second] {
            let started = parsed(model.start(&greedy("Hello there, said the sea to the ship")));
            assert!(started["cached_tokens"].as_u64().unwrap() > 10, "{started}");
        }
        assert_eq!(finish(&second), finish(&first), "{precision}");

        state[100] ^= 1;
        let damaged = StateReader::new().feed(&second, &state);
        thrown(damaged, "integrity");
        let other = loaded(SMOLLM3).await;
        let refused = StateReader::new().feed(&other, &state);
        assert!(thrown(refused, "invalid_argument").contains("another model"));
    }
}

#[wasm_bindgen_test]
async fn chat_remembers_and_instruct_does_not() {
    let model = loaded(LLAMA).await;
    model.set_system_prompt("Be brief.").unwrap();
    // Short, so that both fit: this model never stops by itself.
    let say = |message: &str| {
        let request = json!({"kind": "chat", "message": message, "max_tokens": 8});
        parsed(model.start(&request.to_string()));
        finish(&model).1
    };
    let (first, second) = (say("One"), say("Two"));
    let expected = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"}, {"role": "assistant", "content": first},
        {"role": "user", "content": "Two"}, {"role": "assistant", "content": second},
    ]);
    assert_eq!(parsed(model.get_conversation_history()), expected);
    model.instruct("Three").unwrap();
    assert_eq!(parsed(model.get_conversation_history()), expected);
    let third = model.chat("Four").unwrap();
    let history = parsed(model.get_conversation_history());
    let last = history.as_array().unwrap().last().unwrap();
    assert_eq!(last["content"], third);

    model.clear_conversation().unwrap();
    assert_eq!(
        parsed(model.get_conversation_history()),
        json!([{"role": "system", "content": "Be brief."}])
    );
    model.set_system_prompt("").unwrap();
    assert_eq!(parsed(model.get_conversation_history()), json!([]));
}

#[wasm_bindgen_test]
async fn steps_tell_prefill_tokens_and_the_end() {
    let model = loaded(LLAMA).await;
    let request = json!({
        "kind": "completion",
        "messages": [{"role": "user", "content": "word ".repeat(20)}],
        "temperature": 0, "max_tokens": 3, "logprobs": true, "top_logprobs": 2,
    });
    let started = parsed(model.start(&request.to_string()));
    let prompt = started["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 64, "{started}");
    assert_eq!(started["cached_tokens"], 0);
    assert_eq!(started["dropped"], json!([]));

    let mut done = 0;
    let token = loop {
        let step = parsed(model.step());
        if step["type"] != "prefill" {
            break step;
        }
        assert_eq!(step["total"], prompt);
        let now = step["done"].as_u64().unwrap();
        assert!(now > done && now <= done + 32 && now <= prompt, "{step}");
        done = now;
    };
    assert_eq!(token["type"], "token");
    assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    let top = token["top_logprobs"].as_array().unwrap();
    assert_eq!(top.len(), 2);
    // Greedy: the likeliest is the one that came.
    for field in ["id", "logprob", "token", "bytes"] {
        assert_eq!(top[0][field], token[field], "{field}");
    }
    let id = u32::try_from(token["id"].as_u64().unwrap()).unwrap();
    assert_eq!(token["token"], model.detokenize(vec![id]).unwrap());

    let (ids, _, end) = finish(&model);
    assert_eq!(ids.len(), 2);
    assert_eq!(end["finish_reason"], "length");
    let usage = &end["usage"];
    assert_eq!(usage["prompt_tokens"], prompt);
    assert_eq!(usage["completion_tokens"], 3);
    assert_eq!(usage["total_tokens"], prompt + 3);
}

#[wasm_bindgen_test]
async fn an_abort_leaves_the_model_as_good_as_new() {
    let model = loaded(LLAMA).await;
    parsed(model.start(&greedy("What now?")));
    let expected = finish(&model).0;
    // During prefill, and during decode.
    for steps in [1, 4] {
        parsed(model.start(&greedy(&"something else ".repeat(12))));
        for _ in 0..steps {
            parsed(model.step());
        }
        thrown(model.start(&greedy("too soon")), "busy");
        let done = parsed(model.abort());
        assert_eq!(done["type"], "done");
        assert_eq!(done["finish_reason"], "abort");
        thrown(model.abort(), "invalid_argument");
        thrown(model.step(), "invalid_argument");
        parsed(model.start(&greedy("What now?")));
        assert_eq!(finish(&model).0, expected, "aborted after {steps} steps");
    }
}

/// Equal seeds give equal answers, and no seed gives one by chance.
#[wasm_bindgen_test]
async fn seeds_decide() {
    let model = loaded(LLAMA).await;
    let answer = |seed: Option<u64>| {
        let request = json!({
            "kind": "instruct", "instruction": "Say something",
            "temperature": 2, "max_tokens": 24, "seed": seed,
        });
        parsed(model.start(&request.to_string()));
        finish(&model).0
    };
    assert_eq!(answer(Some(7)), answer(Some(7)));
    assert_ne!(answer(Some(7)), answer(Some(8)));
    assert_ne!(answer(None), answer(None));
}

/// SmolLM3's template tells the day; the crate has no clock, so the wasm room brings it.
#[wasm_bindgen_test]
async fn a_template_that_needs_the_day_gets_it() {
    let model = loaded(LLAMA).await;
    let files = json!({
        "config.json": String::from_utf8(bytes(&format!("{LLAMA}/config.json")).await).unwrap(),
        "tokenizer.json": String::from_utf8(bytes(&format!("{LLAMA}/tokenizer.json")).await).unwrap(),
        "chat_template.jinja": "{{ strftime_now('%Y-%m-%d') }}",
    });
    let spec = json!({"format": "safetensors", "files": files});
    model.begin_load(&spec.to_string()).unwrap();
    model.begin_file("model.safetensors").unwrap();
    model
        .feed(&bytes(&format!("{LLAMA}/model.safetensors")).await)
        .unwrap();
    model.finish_load().unwrap();

    let messages = json!([{"role": "user", "content": "?"}]).to_string();
    let text = |options: &str| {
        let ids = model.encode_messages(&messages, options).unwrap();
        model.detokenize(ids).unwrap()
    };
    assert_eq!(text(r#"{"date": "2025-07-08"}"#), "2025-07-08");
    let today = js_sys::Date::new_0();
    let day = text("{}");
    assert_eq!(day[..4], today.get_full_year().to_string());
    assert_eq!(day[8..], format!("{:02}", today.get_date()));
}

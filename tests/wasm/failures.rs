//! Whatever goes wrong is a typed error that names the culprit, and the object can be used again.

use smollm_web::wasm::SmolLMInstruct;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::support::{FakeFetch, LLAMA, bytes, parsed, thrown};

async fn fails(url: &str, code: &str, culprit: &str) {
    let model = SmolLMInstruct::new();
    let message = thrown(model.initialize(url.to_owned()).await, code);
    assert!(message.contains(culprit), "{message}");
    thrown(model.chat("Hi"), "engine_lost");
    model.initialize(LLAMA.to_owned()).await.unwrap();
    model.chat("Hi").unwrap();
}

#[wasm_bindgen_test]
async fn no_url() {
    fails("http://", "invalid_argument", "\"http://\"").await;
}

#[wasm_bindgen_test]
async fn a_file_that_is_not_there() {
    fails(
        "/no/such/model.gguf",
        "http_status",
        "/no/such/model.gguf: the server answered with status 404",
    )
    .await;
    fails("/no/such", "http_status", "/no/such/config.json").await;
}

#[wasm_bindgen_test]
async fn a_server_that_is_not_there() {
    // The discard port: browsers refuse it before any connection.
    fails(
        "http://localhost:9/model.gguf",
        "network",
        "http://localhost:9/model.gguf",
    )
    .await;
}

#[wasm_bindgen_test]
async fn a_web_page_with_status_200() {
    let page = "new Response('<!DOCTYPE html><title>Not found</title>'";
    // A directory may have no manifest, and many hosts answer what is not there with a page that says what it is;
    // one that does not was meant.
    for (kind, refused) in [
        ("text/html; charset=utf-8", "config.json"),
        ("application/octet-stream", "manifest.json"),
    ] {
        let _server = FakeFetch::new(&format!(
            "if (url.includes('/spa/')) return {page}, {{headers: {{'content-type': '{kind}'}}}})"
        ));
        fails(
            "/spa/model.gguf",
            "not_a_model",
            "/spa/model.gguf: a web page",
        )
        .await;
        let message = format!("/spa/{refused}: a web page");
        fails("/spa/", "not_a_model", &message).await;
    }
}

#[wasm_bindgen_test]
async fn a_web_page_in_place_of_an_optional_file() {
    let _server = FakeFetch::new(
        "if (url.endsWith('/chat_template.jinja') || url.endsWith('.index.json'))
           return new Response('<html></html>', {headers: {'content-type': 'text/html'}})",
    );
    SmolLMInstruct::new()
        .initialize(LLAMA.to_owned())
        .await
        .unwrap();
}

#[wasm_bindgen_test]
async fn a_server_error_on_an_optional_file() {
    let _server = FakeFetch::new(
        "if (url.endsWith('/broken/tokenizer_config.json')) return new Response('', {status: 503});
         if (url.includes('/broken/')) return real.call(self, url.replace('/broken/', '/llama-tied/'))",
    );
    fails(
        "/tests/fixtures/models/broken",
        "http_status",
        "tokenizer_config.json: the server answered with status 503",
    )
    .await;
}

#[wasm_bindgen_test]
async fn a_body_shorter_than_its_header() {
    let _server = FakeFetch::new(
        "if (url.endsWith('/short.gguf'))
           return real.call(self, '/tests/fixtures/models/llama-tied.gguf')
             .then(response => response.arrayBuffer())
             .then(file => new Response(file.slice(0, 300_000), {headers: {'content-length': file.byteLength}}))",
    );
    fails(
        "/short.gguf",
        "integrity",
        "/short.gguf: 300000 bytes came of 538976",
    )
    .await;
}

#[wasm_bindgen_test]
async fn a_connection_that_breaks() {
    let _server = FakeFetch::new(
        "if (url.endsWith('/broken.gguf'))
           return real.call(self, '/tests/fixtures/models/llama-tied.gguf')
             .then(response => response.arrayBuffer())
             .then(file => {
               let sent = 0;
               return new Response(new ReadableStream({
                 pull(controller) {
                   if (sent > 200_000) return controller.error(new TypeError('connection reset'));
                   controller.enqueue(new Uint8Array(file, sent, 50_000));
                   sent += 50_000;
                 },
               }));
             })",
    );
    fails("/broken.gguf", "network", "/broken.gguf").await;
}

/// A failed load stops the download: the body is cancelled.
#[wasm_bindgen_test]
async fn a_wrong_file_is_refused_at_its_first_bytes() {
    let _server = FakeFetch::new(
        "if (url.endsWith('/endless.gguf'))
           return new Response(new ReadableStream({
             pull(controller) { controller.enqueue(new Uint8Array(1 << 16).fill(7)); },
             cancel() { self.cancelled = true; },
           }))",
    );
    fails("/endless.gguf", "not_a_model", "").await;
    let cancelled = js_sys::Reflect::get(&js_sys::global(), &"cancelled".into()).unwrap();
    assert!(cancelled.is_truthy());
}

#[wasm_bindgen_test]
async fn calls_during_initialize_are_told_busy() {
    let model = SmolLMInstruct::new();
    // The first poll sends the request and comes back without an answer.
    let mut load = std::pin::pin!(model.initialize(LLAMA.to_owned()));
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert!(load.as_mut().poll(&mut context).is_pending());
    thrown(model.chat("Hi"), "busy");
    thrown(model.begin_load(r#"{"format": "gguf"}"#), "busy");
    thrown(model.initialize(LLAMA.to_owned()).await, "busy");
    load.await.unwrap();
    model.chat("Hi").unwrap();
}

#[wasm_bindgen_test]
async fn broken_loads_step_by_step() {
    let file = bytes(&format!("{LLAMA}.gguf")).await;
    let model = SmolLMInstruct::new();
    let gguf = r#"{"format": "gguf"}"#;
    thrown(model.feed(&file), "invalid_argument");
    thrown(model.finish_load(), "invalid_argument");
    for (spec, culprit) in [
        ("", "JSON"),
        ("{}", "format"),
        (r#"{"format": "onnx"}"#, "onnx"),
        (r#"{"format": "gguf", "precision": "int3"}"#, "int3"),
        (r#"{"format": "gguf", "context": 9}"#, "context"),
        (r#"{"format": "safetensors", "files": 3}"#, "files"),
    ] {
        let message = thrown(model.begin_load(spec), "invalid_argument");
        assert!(message.contains(culprit), "{spec}: {message}");
    }
    thrown(
        model.begin_load(r#"{"format": "safetensors"}"#),
        "not_a_model",
    );

    model.begin_load(gguf).unwrap();
    model.feed(&file[..file.len() - 1]).unwrap();
    thrown(model.finish_load(), "not_a_model");
    model.begin_load(gguf).unwrap();
    thrown(
        model.feed(b"PK\x03\x04 is a zip file, and no gguf file"),
        "not_a_model",
    );
    thrown(model.feed(&file), "invalid_argument");
    thrown(
        model
            .begin_load(r#"{"format": "gguf", "context_length": 0}"#)
            .and_then(|()| model.feed(&file)),
        "invalid_argument",
    );

    model.begin_load(gguf).unwrap();
    model.feed(&file).unwrap();
    model.finish_load().unwrap();
    model.chat("Hi").unwrap();
}

#[wasm_bindgen_test]
async fn requests_that_make_no_sense() {
    let model = SmolLMInstruct::new();
    model.initialize(LLAMA.to_owned()).await.unwrap();
    thrown(model.chat("  "), "invalid_argument");
    thrown(model.instruct(""), "invalid_argument");
    thrown(model.chat(&"far too much ".repeat(500)), "context_overflow");
    for (request, culprit) in [
        ("[]", "object"),
        (r#"{"kind": "poem"}"#, "poem"),
        (r#"{"kind": "chat"}"#, "message"),
        (
            r#"{"kind": "chat", "message": "Hi", "temperature": -1}"#,
            "temperature",
        ),
        (
            r#"{"kind": "chat", "message": "Hi", "top_p": "x"}"#,
            "top_p",
        ),
        (
            r#"{"kind": "chat", "message": "Hi", "max_tokens": 0}"#,
            "max_tokens",
        ),
        (
            r#"{"kind": "chat", "message": "Hi", "temprature": 1}"#,
            "temprature",
        ),
        (
            r#"{"kind": "completion", "messages": [{"role": "bot", "content": ""}]}"#,
            "bot",
        ),
    ] {
        let message = thrown(model.start(request), "invalid_argument");
        assert!(message.contains(culprit), "{request}: {message}");
    }
    assert_eq!(
        parsed(model.get_conversation_history()),
        serde_json::json!([])
    );
    model.chat("Hi").unwrap();
}

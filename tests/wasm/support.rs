//! What these tests share: files over HTTP, thrown errors, a `fetch` that answers as told.

use std::collections::BTreeMap;

use js_sys::{Function, Promise, Reflect, Uint8Array};
use serde::de::DeserializeOwned;
use serde_json::Value;
use smollm_web::wasm::SmolLMInstruct;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

pub const LLAMA: &str = "/tests/fixtures/models/llama-tied";
pub const SMOLLM3: &str = "/tests/fixtures/models/smollm3";

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn fetch(url: &str) -> Promise;
}

/// The bytes at `path`, which must exist.
pub async fn bytes(path: &str) -> Vec<u8> {
    let response = JsFuture::from(fetch(path)).await.unwrap();
    let field = |name: &str| Reflect::get(&response, &name.into()).unwrap();
    assert!(field("ok").is_truthy(), "{path}: {:?}", field("status"));
    let array_buffer: Function = field("arrayBuffer").unchecked_into();
    let buffer = array_buffer.call0(&response).unwrap();
    let buffer = JsFuture::from(Promise::from(buffer)).await.unwrap();
    Uint8Array::new(&buffer).to_vec()
}

/// The JSON at `path`.
pub async fn json<T: DeserializeOwned>(path: &str) -> T {
    serde_json::from_slice(&bytes(path).await).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The lines of `tests/golden/<name>`.
pub async fn golden<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let text = String::from_utf8(bytes(&format!("/tests/golden/{name}")).await).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}")))
        .collect()
}

/// The float tensors of a safetensors file.
pub async fn tensors(path: &str) -> BTreeMap<String, Vec<f32>> {
    let file = bytes(path).await;
    let floats = |bytes: &[u8]| {
        bytes
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
            .collect()
    };
    safetensors::SafeTensors::deserialize(&file)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name, floats(tensor.data())))
        .collect()
}

/// A loaded model.
pub async fn loaded(url: &str) -> SmolLMInstruct {
    let model = SmolLMInstruct::new();
    model.initialize(url.to_owned()).await.unwrap();
    model
}

/// A result's JSON.
pub fn parsed(result: Result<String, JsValue>) -> Value {
    serde_json::from_str(&result.unwrap()).unwrap()
}

/// Steps until the answer is complete: the ids, the text, and the last step.
pub fn finish(model: &SmolLMInstruct) -> (Vec<u32>, String, Value) {
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        let step = parsed(model.step());
        text += step["text"].as_str().unwrap_or_default();
        match step["type"].as_str().unwrap() {
            "prefill" => {}
            "token" => ids.push(u32::try_from(step["id"].as_u64().unwrap()).unwrap()),
            "done" => return (ids, text, step),
            other => panic!("a step of type {other:?}"),
        }
    }
}

/// Asserts that `result` is an `Error` object of this `code`, and returns its message.
#[track_caller]
pub fn thrown<T>(result: Result<T, JsValue>, code: &str) -> String {
    let Err(error) = result else {
        panic!("no error, expected {code}");
    };
    let error: js_sys::Error = error.dyn_into().expect("an Error object");
    let message = String::from(error.message());
    let found = Reflect::get(&error, &"code".into()).unwrap().as_string();
    assert_eq!(found.as_deref(), Some(code), "{message}");
    assert_eq!(String::from(error.name()), "SmolLMError", "{message}");
    message
}

/// Replaces the worker's `fetch` by a JavaScript function body of `(url)` while it lives; what it returns
/// nothing for goes the usual way.
pub struct FakeFetch(JsValue);

impl FakeFetch {
    pub fn new(body: &str) -> Self {
        let real = Reflect::get(&js_sys::global(), &"fetch".into()).unwrap();
        let install = Function::new_with_args(
            "real",
            &format!(
                "const fake = url => {{ {body} }};
                 self.fetch = async (url, init) => fake(String(url)) ?? real.call(self, url, init);"
            ),
        );
        install.call1(&JsValue::UNDEFINED, &real).unwrap();
        Self(real)
    }
}

impl Drop for FakeFetch {
    fn drop(&mut self) {
        Reflect::set(&js_sys::global(), &"fetch".into(), &self.0).unwrap();
    }
}

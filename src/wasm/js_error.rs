//! This crate's errors as JavaScript `Error` objects, and JavaScript's as text.

use std::error::Error as StdError;

use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue};

use crate::error::{Error, ErrorKind};

/// `error` as the `Error` that `js/errors.js` knows: `name` is `"SmolLMError"` (`"AbortError"` for
/// an abort, as the platform has it), `code` the stable string, `cause` what led to it.
pub(super) fn to_js(error: &Error) -> JsValue {
    let js = js_sys::Error::new(&error.to_string());
    js.set_name(match error.kind() {
        ErrorKind::Aborted => "AbortError",
        _ => "SmolLMError",
    });
    set(&js, "code", &error.code().into());
    if let Some(cause) = error.source() {
        set(&js, "cause", &cause_to_js(cause));
    }
    js.into()
}

fn cause_to_js(cause: &(dyn StdError + 'static)) -> JsValue {
    let js = js_sys::Error::new(&cause.to_string());
    if let Some(deeper) = cause.source() {
        set(&js, "cause", &cause_to_js(deeper));
    }
    js.into()
}

/// Sets a property of an `Error` made above: an ordinary extensible object, so it cannot fail.
fn set(error: &js_sys::Error, key: &str, value: &JsValue) {
    let done = Reflect::set(error, &key.into(), value);
    debug_assert_eq!(done, Ok(true));
}

/// What a thrown or rejected JavaScript value says of itself.
pub(super) fn text_of(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.to_string()),
        None => thrown.as_string().unwrap_or_else(|| format!("{thrown:?}")),
    }
}

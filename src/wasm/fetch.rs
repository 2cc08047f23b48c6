//! The class's own way over HTTP, for those who bring no worker: the global `fetch`, which windows
//! and workers both have, its body read chunk by chunk. No chunk outlives its call, and no more than
//! [`WINDOW`] bytes of one are ever copied into wasm memory at a time.

use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStreamDefaultReader, Response, ResponseType, Url};

use super::js_error::text_of;
use crate::error::{Error, ErrorKind, Result};

/// Bytes copied into wasm memory at a time. wasm memory never shrinks, so this stays small whatever
/// the size of the browser's chunks.
const WINDOW: usize = 256 * 1024;

/// The largest configuration or tokenizer file that is taken: SmolLM3's `tokenizer.json` has 17 MB.
const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;

#[wasm_bindgen]
extern "C" {
    /// The global function, of a window or of a worker.
    #[wasm_bindgen(js_name = fetch)]
    fn global_fetch(url: &str) -> Promise;

    /// Of the window or worker; a realm may have none.
    #[wasm_bindgen(thread_local_v2, js_name = location)]
    static LOCATION: Option<js_sys::Object>;
}

/// `reference` as an absolute URL, against the page's or worker's own address.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if it is no URL.
pub(super) fn resolve(reference: &str) -> Result<Url> {
    let location = |field: &str| {
        LOCATION.with(|location| {
            let value = Reflect::get(location.as_ref()?, &field.into()).ok()?;
            value.as_string()
        })
    };
    let base = match location("href") {
        // Nothing is relative to the address of a worker made from a blob; its origin is the page's.
        Some(href) if href.starts_with("blob:") => location("origin"),
        href => href,
    };
    match base {
        Some(base) => Url::new_with_base(reference, &base),
        None => Url::new(reference),
    }
    .map_err(|thrown| {
        Error::invalid_argument(format!("model url {reference:?} is no url"))
            .caused_by(text_of(&thrown))
    })
}

/// The URL of the file `name` in the directory `directory` (its path ends in a slash, or gets one).
pub(super) fn in_directory(directory: &Url, name: &str) -> Result<Url> {
    let invalid = |thrown: JsValue| {
        Error::invalid_argument(format!("{name:?} is no file name")).caused_by(text_of(&thrown))
    };
    let file = Url::new(&directory.href()).map_err(invalid)?;
    let path = directory.pathname();
    let slash = if path.ends_with('/') { "" } else { "/" };
    // The query stays: signed URLs carry their signature there.
    file.set_pathname(&format!("{path}{slash}{name}"));
    Ok(file)
}

/// A response whose status is a success and which is no web page.
pub(super) struct Body {
    url: String,
    response: Response,
}

/// Asks for `url`.
///
/// # Errors
/// [`ErrorKind::Network`] if no answer came, [`ErrorKind::HttpStatus`] if it was no success,
/// [`ErrorKind::NotAModel`] if it is a web page.
pub(super) async fn get(url: &Url) -> Result<Body> {
    request(url).await?.checked().await
}

/// Asks for `url`, which a model may do without: `None` if the server has no such file. Hosts say so
/// with 404 or 410, stores that do not tell strangers what exists with 403, and single-page
/// applications with their start page.
///
/// # Errors
/// As [`get`].
pub(super) async fn get_optional(url: &Url) -> Result<Option<Body>> {
    let body = request(url).await?;
    if matches!(body.response.status(), 403 | 404 | 410) || body.is_web_page() {
        body.discard().await;
        return Ok(None);
    }
    body.checked().await.map(Some)
}

async fn request(url: &Url) -> Result<Body> {
    let url = url.href();
    let answer = JsFuture::from(global_fetch(&url))
        .await
        .map_err(|thrown| network(&url, &thrown))?;
    match answer.dyn_into::<Response>() {
        Ok(response) => Ok(Body { url, response }),
        Err(other) => Err(network(&url, &other)),
    }
}

impl Body {
    async fn checked(self) -> Result<Self> {
        let status = self.response.status();
        let error = if !self.response.ok() {
            let message = format!("{}: the server answered with status {status}", self.url);
            Error::new(ErrorKind::HttpStatus, message)
        } else if self.is_web_page() {
            web_page(&self.url)
        } else {
            return Ok(self);
        };
        self.discard().await;
        Err(error)
    }

    fn is_web_page(&self) -> bool {
        self.response.ok()
            && self.header("content-type").is_some_and(|kind| {
                kind.trim_start()
                    .to_ascii_lowercase()
                    .starts_with("text/html")
            })
    }

    fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }

    /// How many bytes the body promises to have, where that can be told: a compressed body's length
    /// is another one, and other origins do not show whether theirs is compressed.
    fn promised_length(&self) -> Option<u64> {
        let hidden = self.response.type_() == ResponseType::Cors;
        if hidden || self.header("content-encoding").is_some() {
            return None;
        }
        self.header("content-length")?.trim().parse().ok()
    }

    /// Lets go of a body that nobody will read, so that the browser stops fetching it.
    async fn discard(self) {
        if let Some(stream) = self.response.body() {
            // Whatever goes wrong here, the body is gone, which is all that was wanted.
            let _ = JsFuture::from(stream.cancel()).await;
        }
    }

    /// Gives the bytes to `sink` as they arrive, at most [`WINDOW`] at a time.
    ///
    /// # Errors
    /// Those of `sink`, which end the download; [`ErrorKind::Network`] if the connection fails;
    /// [`ErrorKind::Integrity`] if the body is not as long as its header says;
    /// [`ErrorKind::NotAModel`] if it begins like a web page.
    pub(super) async fn stream(self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(stream) = self.response.body() else {
            return Err(Error::not_a_model(format!("{}: empty", self.url)));
        };
        let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
        let result = self.pump(&reader, &mut sink).await;
        if result.is_err() {
            // As in `discard`: the download ends either way.
            let _ = JsFuture::from(reader.cancel()).await;
        }
        result
    }

    async fn pump(
        &self,
        reader: &ReadableStreamDefaultReader,
        sink: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut window = Vec::new();
        let mut received = 0u64;
        while let Some(chunk) = self.read(reader).await? {
            let mut start = 0;
            while start < chunk.length() {
                let end = chunk.length().min(start + WINDOW as u32);
                window.resize((end - start) as usize, 0);
                chunk.subarray(start, end).copy_to(&mut window);
                if received == 0 && begins_like_a_web_page(&window) {
                    return Err(web_page(&self.url));
                }
                received += window.len() as u64;
                sink(&window)?;
                start = end;
            }
        }
        match self.promised_length() {
            Some(promised) if promised != received => Err(Error::new(
                ErrorKind::Integrity,
                format!("{}: {received} bytes came of {promised}", self.url),
            )),
            _ => Ok(()),
        }
    }

    /// The next chunk; `None` at the end.
    async fn read(&self, reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>> {
        let result = JsFuture::from(reader.read())
            .await
            .map_err(|thrown| network(&self.url, &thrown))?;
        let field = |name: &str| Reflect::get(&result, &name.into()).unwrap_or(JsValue::UNDEFINED);
        if field("done").is_truthy() {
            return Ok(None);
        }
        match field("value").dyn_into() {
            Ok(chunk) => Ok(Some(chunk)),
            Err(other) => Err(network(&self.url, &other)),
        }
    }

    /// The whole body, which is to have `expected` bytes.
    ///
    /// # Errors
    /// As [`Body::stream`]; [`ErrorKind::Integrity`] for more bytes.
    pub(super) async fn bytes(self, expected: usize) -> Result<Vec<u8>> {
        let url = self.url.clone();
        let mut bytes = Vec::new();
        self.stream(|chunk| {
            if bytes.len() + chunk.len() > expected {
                let message = format!("{url}: more than the {expected} bytes expected");
                return Err(Error::new(ErrorKind::Integrity, message));
            }
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    /// The whole body as UTF-8 text: a configuration, a tokenizer, a template.
    ///
    /// # Errors
    /// As [`Body::stream`]; [`ErrorKind::NotAModel`] if it is no UTF-8 or absurdly long.
    pub(super) async fn text(self) -> Result<String> {
        let url = self.url.clone();
        let mut bytes = Vec::new();
        self.stream(|chunk| {
            if bytes.len() + chunk.len() > MAX_TEXT_BYTES {
                let message = format!("{url}: more than {MAX_TEXT_BYTES} bytes of text");
                return Err(Error::not_a_model(message));
            }
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .await?;
        String::from_utf8(bytes)
            .map_err(|e| Error::not_a_model(format!("{url}: no utf-8 text")).caused_by(e))
    }
}

fn network(url: &str, thrown: &JsValue) -> Error {
    let message = format!("{url}: the network failed");
    Error::new(ErrorKind::Network, message).caused_by(text_of(thrown))
}

fn web_page(url: &str) -> Error {
    Error::not_a_model(format!("{url}: a web page came instead of a model file"))
}

/// No model file begins so: GGUF has its magic, safetensors a length, JSON a brace.
fn begins_like_a_web_page(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let bytes = bytes.trim_ascii_start();
    [b"<!doctype html".as_slice(), b"<html"].iter().any(|tag| {
        bytes
            .get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
    })
}

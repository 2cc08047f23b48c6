//! GGUF files: whole and in chunks they are the same, and a whole load gives a model or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smollm_web::loader::{LoadOptions, Loader};
use smollm_web::weights::{GgufHeader, GgufReader, GgufSink, TensorInfo, TensorSink};
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds;
use smollm_web_fuzz::{Outcome, Seen, chunks, text};

#[derive(Default)]
struct Sink(Seen);

impl TensorSink for Sink {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> smollm_web::Result<()> {
        self.0.tensor(info, data)
    }
}

impl GgufSink for Sink {
    fn header(&mut self, _: GgufHeader) -> smollm_web::Result<()> {
        Ok(())
    }
}

fn read<'a>(mut chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = GgufReader::new();
    let mut sink = Sink::default();
    let fed = chunks.try_for_each(|chunk| reader.feed(chunk, &mut sink));
    (sink.0, text(fed.and_then(|()| reader.finish())))
}

fuzz_target!(
    init: seeds::write("gguf").expect("the corpus is written"),
    |data: &[u8]| {
        let Some((&how, data)) = data.split_last() else {
            return;
        };
        limited(data.len(), || {
            let whole = read(std::iter::once(data));
            assert_eq!(read(chunks(data, how)), whole);
            let mut loader = Loader::gguf(LoadOptions::default());
            if chunks(data, how).all(|chunk| loader.feed(chunk).is_ok()) {
                let _ = loader.finish();
            }
        });
    }
);

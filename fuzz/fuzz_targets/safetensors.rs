//! Safetensors files, for a fixed config: whole and in chunks they are the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smollm_web::ErrorKind;
use smollm_web::model::{ModelBuilder, Precision};
use smollm_web::weights::SafetensorsReader;
use smollm_web::weights::safetensors::shard_names;
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds;
use smollm_web_fuzz::{Seen, chunks, config};

/// What was seen, and the kind of the error: which of several bad tensors the `safetensors` crate names is chance.
type Outcome = (Seen, Result<(), ErrorKind>);

fn read<'a>(mut chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = SafetensorsReader::new(config());
    let mut seen = Seen::default();
    let fed = chunks.try_for_each(|chunk| reader.feed(chunk, &mut seen));
    let result = fed.and_then(|()| reader.finish());
    (seen, result.map_err(|e| e.kind()))
}

fuzz_target!(
    init: seeds::write("safetensors").expect("the corpus is written"),
    |data: &[u8]| {
        let Some((&how, data)) = data.split_last() else {
            return;
        };
        limited(data.len(), || {
            let whole = read(std::iter::once(data));
            assert_eq!(read(chunks(data, how)), whole);
            if whole.1.is_ok() {
                let mut reader = SafetensorsReader::new(config());
                let mut builder = ModelBuilder::new(config(), Precision::Int8);
                if reader.feed(data, &mut builder).is_ok() {
                    let _ = builder.finish();
                }
            }
            if let Ok(index) = std::str::from_utf8(data) {
                let _ = shard_names(index);
            }
        });
    }
);

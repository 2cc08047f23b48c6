//! A pack's shard in which one tensor is not what was written: whole and in chunks it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smollm_web::model::{ModelBuilder, Precision};
use smollm_web::weights::pack::Manifest;
use smollm_web::weights::{PackReader, TensorSink};
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds::{self, PACK, SHARD_NAME};
use smollm_web_fuzz::{Seen, chunks, config, text};

/// The pack with these bytes for the tensor `index`.
fn changed(index: usize, data: &[u8]) -> (Manifest, Vec<u8>) {
    let (mut manifest, mut bytes) = PACK.clone();
    let start: u64 = manifest.tensors[..index]
        .iter()
        .map(|tensor| tensor.bytes)
        .sum();
    let start = start as usize;
    let tensor = &mut manifest.tensors[index];
    let range = tensor
        .encoding
        .bytes(&tensor.shape)
        .expect("the shape is good");
    let length = (data.len() as u64).clamp(*range.start(), *range.end());
    let data = data.iter().copied().cycle().take(length as usize);
    bytes.splice(start..start + tensor.bytes as usize, data);
    tensor.bytes = length;
    manifest.shards[0].bytes = bytes.len() as u64;
    (manifest, bytes)
}

fn read<'a, S: TensorSink>(
    manifest: &Manifest,
    mut chunks: impl Iterator<Item = &'a [u8]>,
    sink: &mut S,
) -> Result<(), String> {
    let mut reader = PackReader::new(manifest, config()).expect("the manifest is good");
    let fed = reader
        .begin_shard(SHARD_NAME)
        .and_then(|()| chunks.try_for_each(|chunk| reader.feed(chunk, sink)));
    text(fed.and_then(|()| reader.finish()))
}

fuzz_target!(
    init: seeds::write("pack").expect("the corpus is written"),
    |data: &[u8]| {
        let [index, data @ .., how] = data else {
            return;
        };
        if data.is_empty() {
            return;
        }
        let (manifest, bytes) = changed(usize::from(*index) % PACK.0.tensors.len(), data);
        limited(bytes.len(), || {
            let (mut whole, mut cut) = (Seen::default(), Seen::default());
            let outcome = read(&manifest, std::iter::once(&bytes[..]), &mut whole);
            assert_eq!(read(&manifest, chunks(&bytes, *how), &mut cut), outcome);
            assert_eq!(cut, whole);
            let mut builder = ModelBuilder::new(config(), Precision::Int8);
            if read(&manifest, chunks(&bytes, *how), &mut builder).is_ok() {
                builder.finish().expect("every tensor came");
            }
        });
    }
);

//! A pack's manifest: read, written, and read again; then the reader that it describes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use smollm_web::weights::PackReader;
use smollm_web::weights::pack::Manifest;
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds::{self, sealed};

fuzz_target!(
    init: seeds::write("manifest").expect("the corpus is written"),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        limited(data.len(), || {
            let _ = Manifest::parse(text);
            // The hash would stop every changed byte; here it is made anew.
            let Ok(mut manifest) = Manifest::parse(&sealed(text)) else {
                return;
            };
            if let Ok(config) = manifest.model_config() {
                let _ = PackReader::new(&manifest, config);
            }
            // serde_json reads some long floats one unit in the last place off, and a config may hold such.
            manifest.config = Value::Null;
            let written = manifest.to_text().expect("what was read can be written");
            let again = Manifest::parse(&written).expect("what was written is read");
            assert_eq!(again, manifest);
        });
    }
);

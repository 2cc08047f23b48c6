//! `config.json`: read, written, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smollm_web::ModelConfig;
use smollm_web::weights::TensorRole;
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds;

fuzz_target!(
    init: seeds::write("config").expect("the corpus is written"),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        limited(data.len(), || {
            let Ok(config) = ModelConfig::from_json(text) else {
                return;
            };
            let again = ModelConfig::from_json(&config.to_json().to_string());
            assert_eq!(again.expect("what was written is read"), config);
            // Whoever has a config may multiply its sizes.
            let sizes = TensorRole::all(&config).map(|role| role.shape(&config).iter().product::<usize>());
            let _ = sizes.sum::<usize>();
        });
    }
);

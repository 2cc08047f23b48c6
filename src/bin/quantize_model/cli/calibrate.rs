//! A run of the model itself over the calibration text.

use std::fs;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use smollm_web::int4::HeadStatistics;
use smollm_web::loader::LoadedModel;
use smollm_web::model::Logits;
use smollm_web::tokenizer::ParseSpecial;
use smollm_web::{Error, Result};

/// Text that SmolLM2-135M-Instruct wrote at temperature 1, from nothing and in answer to twenty questions.
const OWN_TEXT: &str = include_str!("../calibration.txt");
/// Tokens that are read at most: enough for a few thousand columns.
const TOKENS: usize = 8192;
/// Each piece of the text is read by itself.
const CONTEXT: usize = 512;
/// Tokens whose logits are held at once.
const PIECE: usize = 32;

/// What the text, or where there is none our own, says about the head of `loaded`.
pub fn head_statistics(loaded: &LoadedModel, text: Option<&Path>) -> Result<HeadStatistics> {
    let read;
    let text = match text {
        None => OWN_TEXT,
        Some(path) => {
            read = fs::read_to_string(path).map_err(|e| {
                Error::invalid_argument(format!("{}: {e}", path.display())).caused_by(e)
            })?;
            &read
        }
    };
    let mut ids = loaded.tokenizer.encode(text, ParseSpecial::No)?;
    ids.truncate(TOKENS);
    let config = loaded.model.config();
    let mut statistics = HeadStatistics::new(config.hidden_size, config.vocab_size);
    let mut cache = loaded
        .model
        .new_cache(CONTEXT.min(config.max_position_embeddings))?;
    let style = ProgressStyle::with_template("calibrating {bar:40} {pos}/{len} tokens {eta}")
        .expect("a constant template");
    let progress = ProgressBar::new(ids.len() as u64).with_style(style);
    for window in ids.chunks(cache.capacity()) {
        cache.truncate(0)?;
        for piece in window.chunks(PIECE) {
            let mut states = Vec::new();
            let logits =
                loaded
                    .model
                    .forward_observed(piece, &mut cache, Logits::All, &mut |name, x| {
                        if name == "norm" {
                            states = x
                                .flatten_all()
                                .and_then(|x| x.to_vec1())
                                .unwrap_or_default();
                        }
                    })?;
            statistics.add(&states, &logits);
            progress.inc(piece.len() as u64);
        }
    }
    progress.finish_and_clear();
    Ok(statistics)
}

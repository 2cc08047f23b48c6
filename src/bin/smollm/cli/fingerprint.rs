//! `smollm fingerprint`: digests of every logit, to be held against another machine's or a browser's.

use serde_json::json;
use smollm_web::Result;
use smollm_web::fingerprint::Fingerprint;
use smollm_web::instruct::Fields;
use smollm_web::session::PREFILL_PIECE;
use smollm_web::tokenizer::ParseSpecial;

use super::{jsonl, open};

/// Lines of {"text"} become lines of {"tokens", "text", "answer", "ids"}: SHA-256 of the logits at all positions of the
/// text, and of those that a greedy answer was chosen by
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 200)]
    answer: usize,
}

pub fn run(args: Args) -> Result<()> {
    let loaded = open::load(&args.model)?;
    jsonl::answer_lines(|line| {
        let mut fields = Fields::parse(line)?;
        let text = Fields::required("text", fields.text("text")?)?;
        fields.finish()?;
        let ids = loaded.tokenizer.encode(&text, ParseSpecial::No)?;
        let tokens = ids.len();
        let mut run = Fingerprint::new(&loaded.model, ids, args.answer, PREFILL_PIECE)?;
        loop {
            if let Some(found) = run.step(&loaded.model)? {
                return Ok(json!({
                    "tokens": tokens, "text": found.text, "answer": found.answer, "ids": found.ids,
                }));
            }
        }
    })
}

//! `smollm generate`: conversations to answers.

use serde_json::{Value, json};
use smollm_web::Result;
use smollm_web::instruct::{Fields, InstructModel, Request, RequestOptions, messages};
use smollm_web::session::Step;

use super::{conversation, jsonl, open, seeded};

/// Lines of {"messages", "max_tokens", "temperature", "seed", ...} become lines of {"text", "ids", "finish_reason", "usage"}
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
}

pub fn run(args: Args) -> Result<()> {
    let mut model = conversation(&args.model)?;
    jsonl::answer_lines(|line| generate(&mut model, line))
}

fn generate(model: &mut InstructModel, line: &str) -> Result<Value> {
    let mut fields = Fields::parse(line)?;
    let messages = messages(&mut fields)?;
    let options = seeded(RequestOptions::take(&mut fields)?);
    fields.finish()?;

    let wants_logprobs = options.logprobs == Some(true);
    let mut logprobs = Vec::new();
    let answer = model.answer(Request::Completion { messages, options }, |step| {
        if let Step::Token {
            id, logprob, top, ..
        } = step
            && wants_logprobs
        {
            logprobs.push(json!({"id": id, "logprob": logprob, "top_logprobs": top}));
        }
    })?;
    let mut out = json!({
        "text": answer.text,
        "ids": answer.ids,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
    });
    if wants_logprobs {
        out["logprobs"] = logprobs.into();
    }
    Ok(out)
}

//! `smollm template`: messages to the prompt that the model reads.

use serde_json::json;
use smollm_web::Result;
use smollm_web::instruct::{Fields, take_render_options};

use super::{jsonl, open, today};

/// Lines of {"messages", "add_generation_prompt", "tools", "enable_thinking", ...} become lines of {"text", "ids"}
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
}

pub fn run(args: Args) -> Result<()> {
    let loaded = open::load(&args.model)?;
    let today = today();
    jsonl::answer_lines(|line| {
        let mut fields = Fields::parse(line)?;
        // Told to the template as they are, so that one with roles or fields of its own sees them.
        let messages = Fields::required("messages", fields.any("messages"))?;
        let mut options = take_render_options(&mut fields)?;
        options.add_generation_prompt = fields.bool("add_generation_prompt")?.unwrap_or(false);
        options.date.get_or_insert_with(|| today.clone());
        fields.finish()?;
        let text = loaded.template.render_json(&messages, &options)?;
        let ids = loaded
            .template
            .encode_json(&loaded.tokenizer, &messages, &options)?;
        Ok(json!({"text": text, "ids": ids}))
    })
}

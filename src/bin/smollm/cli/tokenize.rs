//! `smollm tokenize`: text to ids.

use serde_json::json;
use smollm_web::Result;
use smollm_web::instruct::Fields;
use smollm_web::tokenizer::ParseSpecial;

use super::{jsonl, open};

/// Lines of {"text"} become lines of {"ids"}
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
    /// Text may name control tokens
    #[arg(long)]
    parse_special: bool,
}

pub fn run(args: Args) -> Result<()> {
    let tokenizer = open::load(&args.model)?.tokenizer;
    let special = if args.parse_special {
        ParseSpecial::Yes
    } else {
        ParseSpecial::No
    };
    jsonl::answer_lines(|line| {
        let mut fields = Fields::parse(line)?;
        let text = Fields::required("text", fields.text("text")?)?;
        fields.finish()?;
        Ok(json!({"ids": tokenizer.encode(&text, special)?}))
    })
}

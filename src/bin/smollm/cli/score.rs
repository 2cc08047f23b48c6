//! `smollm score`: how likely the model finds given tokens.

use serde_json::{Value, json};
use smollm_web::instruct::Fields;
use smollm_web::model::{KvCache, Logits, Model};
use smollm_web::sampler::{argmax, log_sum_exp, top_log_probabilities};
use smollm_web::{Error, ErrorKind, Result, TokenId};

use super::{jsonl, open};

/// Lines of {"ids"} become lines of {"logprobs", "argmax", "perplexity"}
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
    /// Adds {"top"}: after each token, the K likeliest next ones and their log-probabilities
    #[arg(long, value_name = "K", default_value_t = 0)]
    top: usize,
    /// Adds {"logits"}: after each token, those of the whole vocabulary
    #[arg(long)]
    logits: bool,
}

/// Tokens whose logits are held at once.
const PIECE: usize = 32;

pub fn run(args: Args) -> Result<()> {
    let loaded = open::load(&args.model)?;
    let mut cache = loaded.model.new_cache(loaded.context_length)?;
    jsonl::answer_lines(|line| {
        let mut fields = Fields::parse(line)?;
        let ids = read_ids(Fields::required("ids", fields.any("ids"))?)?;
        fields.finish()?;
        if ids.len() > cache.capacity() {
            return Err(Error::new(
                ErrorKind::ContextOverflow,
                format!(
                    "{} tokens do not fit into a context of {}",
                    ids.len(),
                    cache.capacity()
                ),
            ));
        }
        cache.truncate(0)?;
        score(&loaded.model, &mut cache, &ids, &args)
    })
}

fn read_ids(value: Value) -> Result<Vec<TokenId>> {
    let ids: Vec<TokenId> = serde_json::from_value(value).map_err(|e| {
        Error::invalid_argument(format!("ids: expected a list of token ids ({e})")).caused_by(e)
    })?;
    if ids.is_empty() {
        return Err(Error::invalid_argument("ids: empty"));
    }
    Ok(ids)
}

fn score(model: &Model, cache: &mut KvCache, ids: &[TokenId], args: &Args) -> Result<Value> {
    let vocab = model.config().vocab_size;
    // `logprobs[i]` is of `ids[i]`; nothing comes before the first.
    let mut logprobs: Vec<Option<f32>> = vec![None];
    let mut likeliest: Vec<Option<TokenId>> = Vec::new();
    let mut top = Vec::new();
    let mut rows = Vec::new();
    let mut sum = 0.0;
    for piece in ids.chunks(PIECE) {
        let logits = model.forward(piece, cache, Logits::All)?;
        for row in logits.chunks_exact(vocab) {
            if let Some(next) = ids.get(logprobs.len()) {
                let logprob = f64::from(row[next.0 as usize]) - log_sum_exp(row);
                sum += logprob;
                logprobs.push(Some(logprob as f32));
            }
            likeliest.push(argmax(row));
            if args.top > 0 {
                top.push(top_log_probabilities(row, args.top));
            }
            if args.logits {
                rows.push(row.to_vec());
            }
        }
    }
    let predicted = ids.len() - 1;
    let perplexity = (predicted > 0).then(|| (-sum / predicted as f64).exp());
    let mut out = json!({"logprobs": logprobs, "argmax": likeliest, "perplexity": perplexity});
    if args.top > 0 {
        out["top"] = json!(top);
    }
    if args.logits {
        out["logits"] = json!(rows);
    }
    Ok(out)
}

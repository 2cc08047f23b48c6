//! `smollm bench`: prefill and decode apart, medians over several runs.

use std::time::Instant;

use serde_json::json;
use smollm_web::model::{KvCache, Logits, Model};
use smollm_web::sampler::argmax;
use smollm_web::session::PREFILL_PIECE;
use smollm_web::{Error, Result, TokenId, kernels};

use super::open;

/// Measures prefill and decode
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    /// Tokens generated after it
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    decode_tokens: u32,
    /// Measured runs, after one to warm up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Prints JSON with every run instead of a table
    #[arg(long)]
    json: bool,
}

/// Tokens per second.
struct Run {
    prefill: f64,
    decode: f64,
}

pub fn run(args: Args) -> Result<()> {
    let start = Instant::now();
    let loaded = open::load(&args.model)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let model = &loaded.model;
    let (prompt_tokens, decode_tokens) = (args.prompt_tokens as usize, args.decode_tokens as usize);
    let mut cache = model.new_cache(prompt_tokens + decode_tokens)?;

    // Any ids do: the work does not depend on them. These are spread over the vocabulary.
    let vocab = model.config().vocab_size;
    let prompt: Vec<TokenId> = (0..prompt_tokens)
        .map(|i| TokenId((i * 7919 % vocab) as u32))
        .collect();

    measure(model, &mut cache, &prompt, decode_tokens)?;
    let runs = (0..args.runs)
        .map(|_| measure(model, &mut cache, &prompt, decode_tokens))
        .collect::<Result<Vec<_>>>()?;
    let prefills: Vec<f64> = runs.iter().map(|run| run.prefill).collect();
    let decodes: Vec<f64> = runs.iter().map(|run| run.decode).collect();

    let figures = json!({
        "model": loaded.name,
        "quantization": model.quantization(),
        "parameters": model.parameters(),
        "kernel": kernels::name(),
        "threads": kernels::threads(),
        "prompt_tokens": prompt_tokens,
        "decode_tokens": decode_tokens,
        "prefill_tokens_per_second": median(&prefills),
        "decode_tokens_per_second": median(&decodes),
        "prefill_runs": prefills,
        "decode_runs": decodes,
        "load_seconds": load_seconds,
        "weight_bytes": model.weight_bytes(),
        "cache_bytes": cache.memory_bytes(),
        "peak_resident_bytes": peak_resident_bytes(),
    });
    if args.json {
        println!("{figures}");
        return Ok(());
    }
    let mebibytes = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    for (name, value) in [
        ("model", loaded.name.clone()),
        (
            "weights",
            format!(
                "{}, {}",
                model.quantization(),
                mebibytes(model.weight_bytes())
            ),
        ),
        (
            "kernel",
            format!("{}, {} threads", kernels::name(), kernels::threads()),
        ),
        ("load", format!("{load_seconds:.2} s")),
        (
            "prefill",
            format!("{:.1} tokens/s of {prompt_tokens}", median(&prefills)),
        ),
        (
            "decode",
            format!("{:.1} tokens/s of {decode_tokens}", median(&decodes)),
        ),
        ("cache", mebibytes(cache.memory_bytes())),
        (
            "peak memory",
            peak_resident_bytes().map_or_else(|| "unknown".to_owned(), mebibytes),
        ),
    ] {
        println!("{name:<12} {value}");
    }
    Ok(())
}

/// Reads the prompt as a session does, then decodes greedily.
fn measure(
    model: &Model,
    cache: &mut KvCache,
    prompt: &[TokenId],
    decode_tokens: usize,
) -> Result<Run> {
    cache.truncate(0)?;
    let start = Instant::now();
    let mut logits = Vec::new();
    let pieces = prompt.chunks(PREFILL_PIECE);
    let last = pieces.len() - 1;
    for (index, piece) in pieces.enumerate() {
        let wanted = if index == last {
            Logits::Last
        } else {
            Logits::None
        };
        logits = model.forward(piece, cache, wanted)?;
    }
    let prefill = prompt.len() as f64 / start.elapsed().as_secs_f64();

    let start = Instant::now();
    for _ in 0..decode_tokens {
        let next =
            argmax(&logits).ok_or_else(|| Error::not_a_model("no token has a finite logit"))?;
        logits = model.forward(&[next], cache, Logits::Last)?;
    }
    let decode = decode_tokens as f64 / start.elapsed().as_secs_f64();
    Ok(Run { prefill, decode })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

/// The most memory this process ever had, where the system tells (Linux).
fn peak_resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}

//! `smollm chat`: a person at a terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use smollm_web::instruct::{InstructModel, Request, RequestOptions};
use smollm_web::session::Step;
use smollm_web::{Error, Result};

use super::{conversation, open, seeded};

/// Talks with you: streamed answers, Ctrl-C stops one, /help tells the rest
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: open::ModelArgs,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// 0 is greedy; the model's own unless told
    #[arg(long)]
    temperature: Option<f32>,
    /// Only so many of the likeliest tokens may come
    #[arg(long)]
    top_k: Option<usize>,
    /// Only the likeliest tokens of so much probability may come
    #[arg(long)]
    top_p: Option<f32>,
    /// Only tokens so many times as likely as the likeliest may come
    #[arg(long)]
    min_p: Option<f32>,
    /// Tokens that were there lose by this factor
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// The most tokens of an answer
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Equal seeds give equal answers
    #[arg(long)]
    seed: Option<u64>,
    /// Whether a model that can think before answering does
    #[arg(long, value_name = "BOOL")]
    think: Option<bool>,
    /// Tells speed and tokens after each answer
    #[arg(long)]
    stats: bool,
}

const HELP: &str = "\
/clear          forget the conversation
/system TEXT    play this part, and forget the conversation; without a text, play none
/history        what was said so far
/quit           leave (so does Ctrl-D)
Ctrl-C          stop the answer";

/// What Ctrl-C finds, and leaves behind.
const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPED: u8 = 2;

pub fn run(args: Args) -> Result<()> {
    let mut model = conversation(&args.model)?;
    let options = RequestOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        max_tokens: args.max_tokens,
        seed: args.seed,
        enable_thinking: args.think,
        ..RequestOptions::default()
    };
    options.or(model.defaults()).generate_options()?;
    if let Some(prompt) = &args.system {
        model.set_system_prompt(prompt);
    }

    let state = Arc::new(AtomicU8::new(WAITING));
    let seen_by_handler = Arc::clone(&state);
    ctrlc::set_handler(move || {
        let stopped = seen_by_handler.compare_exchange(
            ANSWERING,
            STOPPED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if stopped == Err(WAITING) {
            eprint!("\n(/quit or Ctrl-D leaves)\n> ");
        }
    })
    .map_err(|e| Error::invalid_argument(format!("Ctrl-C: {e}")).caused_by(e))?;

    let interactive = io::stdin().is_terminal();
    if interactive {
        eprintln!("Talk to the model, or ask for /help.");
    }
    let mut line = String::new();
    loop {
        if interactive {
            eprint!("> ");
        }
        line.clear();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                eprintln!("error: the line is not UTF-8");
                continue;
            }
            Err(e) => {
                return Err(Error::invalid_argument(format!("standard input: {e}")).caused_by(e));
            }
        }
        let words = line.trim();
        if words.is_empty() {
            continue;
        }
        if let Some(command) = words.strip_prefix('/') {
            if !obey(&mut model, command) {
                return Ok(());
            }
            continue;
        }
        state.store(ANSWERING, Ordering::Relaxed);
        let request = Request::Chat {
            message: words.to_owned(),
            options: seeded(options.clone()),
        };
        let answered = answer(&mut model, request, &state, args.stats);
        state.store(WAITING, Ordering::Relaxed);
        match answered {
            Ok(Listener::There) => {}
            Ok(Listener::Gone) => return Ok(()),
            Err(e) => eprintln!("error ({}): {e}", e.code()),
        }
    }
}

/// Carries a command out; false means leave.
fn obey(model: &mut InstructModel, command: &str) -> bool {
    let (name, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    match name {
        "help" => println!("{HELP}"),
        "clear" => model.clear_conversation(),
        "system" => model.set_system_prompt(rest.trim()),
        "history" => {
            for message in model.history() {
                println!("{}: {}", message.role, message.content);
            }
        }
        "quit" | "exit" => return false,
        _ => eprintln!("no such command: /{name} (try /help)"),
    }
    true
}

/// Whether anybody still reads what is printed.
enum Listener {
    There,
    Gone,
}

/// Streams an answer until it ends or Ctrl-C stops it.
fn answer(
    model: &mut InstructModel,
    request: Request,
    state: &AtomicU8,
    stats: bool,
) -> Result<Listener> {
    let started = model.start(request)?;
    if !started.dropped.is_empty() {
        eprintln!(
            "(the context is full: the oldest {} messages are forgotten)",
            started.dropped.len()
        );
    }
    let start = Instant::now();
    let mut first_token = None;
    loop {
        let stopped = state.load(Ordering::Relaxed) == STOPPED;
        let step = if stopped { model.abort() } else { None };
        let step = match step {
            Some(step) => step,
            None => model.step()?,
        };
        match step {
            Step::Prefill { .. } => {}
            Step::Token { text, .. } => {
                first_token.get_or_insert_with(Instant::now);
                if show(&text).is_err() {
                    model.abort();
                    return Ok(Listener::Gone);
                }
            }
            Step::Done { text, usage, .. } => {
                if show(&(text + "\n")).is_err() {
                    return Ok(Listener::Gone);
                }
                if stats {
                    let first = first_token.unwrap_or(start);
                    eprintln!(
                        "({} of {} prompt tokens read in {:.2} s, {} tokens at {:.1} tokens/s)",
                        usage.prompt_tokens - usage.cached_tokens,
                        usage.prompt_tokens,
                        (first - start).as_secs_f64(),
                        usage.completion_tokens,
                        usage.completion_tokens.saturating_sub(1) as f64
                            / first.elapsed().as_secs_f64(),
                    );
                }
                return Ok(Listener::There);
            }
        }
    }
}

fn show(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

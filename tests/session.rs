//! The session's bookkeeping, on a fake model: cache reuse, ends, stop strings, aborts, errors.
#![cfg(not(target_arch = "wasm32"))]

#[path = "fake/mod.rs"]
mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fake::{FakeModel, Said, encode, end_tokens, mix, run, run_for, tokenizer};
use smollm_web::sampler::SamplingParams;
use smollm_web::session::{FinishReason, GenerateOptions, PREFILL_PIECE, Session, Step};
use smollm_web::tokenizer::Tokenizer;
use smollm_web::{ErrorKind, TokenId};

const CONTEXT: usize = 160;

fn session_of(model: FakeModel, tokenizer: &Arc<Tokenizer>, context: usize) -> Session<FakeModel> {
    let ends = end_tokens(tokenizer);
    Session::new(Arc::new(model), Arc::clone(tokenizer), ends, context).unwrap()
}

fn hashing(tokenizer: &Arc<Tokenizer>) -> Session<FakeModel> {
    session_of(FakeModel::new(tokenizer), tokenizer, CONTEXT)
}

/// A session whose model answers `prompt` with `answer` and then an end token.
fn scripted(
    tokenizer: &Arc<Tokenizer>,
    prompt: &[TokenId],
    answer: Vec<TokenId>,
) -> Session<FakeModel> {
    let model = FakeModel::scripted(tokenizer, prompt.len(), answer);
    session_of(model, tokenizer, CONTEXT)
}

fn greedy() -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingParams::greedy(),
        ..GenerateOptions::default()
    }
}

fn stopping_at(stop: &str) -> GenerateOptions {
    GenerateOptions {
        stop: vec![stop.to_owned()],
        ..greedy()
    }
}

fn ids(values: impl IntoIterator<Item = u32>) -> Vec<TokenId> {
    values.into_iter().map(TokenId).collect()
}

/// Numbers for tests that try many cases, the same ones every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = mix(self.0, 1);
        (self.0 % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn ids(&mut self, n: usize) -> Vec<TokenId> {
        (0..n).map(|_| TokenId(self.below(512) as u32)).collect()
    }
}

/// A prompt that shares some of the last prompt and answer, as conversations and edits do.
fn edit(chance: &mut Chance, before: &[TokenId]) -> Vec<TokenId> {
    let mut prompt = before.to_vec();
    match chance.below(6) {
        0 => prompt.clear(),
        1 => prompt.truncate(chance.below(prompt.len())),
        2 => {
            let at = chance.below(prompt.len());
            prompt[at] = TokenId(chance.below(512) as u32);
        }
        3 => {
            prompt.remove(chance.below(prompt.len()));
        }
        _ => {}
    }
    let more = chance.below(40) + usize::from(prompt.is_empty());
    prompt.extend(chance.ids(more));
    prompt.truncate(CONTEXT - 1 - chance.below(20));
    prompt
}

fn any_options(chance: &mut Chance) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingParams {
            temperature: [0.0, 0.7, 1.0][chance.below(3)],
            top_k: [0, 5][chance.below(2)],
            top_p: [1.0, 0.9][chance.below(2)],
            repetition_penalty: [1.0, 1.3][chance.below(2)],
            seed: chance.below(1000) as u64,
            ..SamplingParams::default()
        },
        max_tokens: (!chance.one_in(4)).then(|| chance.below(20) + 1),
        stop: if chance.one_in(2) {
            vec!["e".into(), "th".into()]
        } else {
            Vec::new()
        },
        logprobs: Some(0),
    }
}

/// The property above all: whatever was asked, aborted or failed before, a generation with what the
/// cache holds equals one from scratch.
#[test]
fn cached_generation_equals_generation_from_scratch() {
    let tokenizer = tokenizer();
    let mut session = hashing(&tokenizer);
    let mut chance = Chance(2024);
    let mut last = ids([5]);
    let (mut reused, mut aborted, mut failed) = (0, 0, 0);
    for round in 0..1500 {
        let prompt = edit(&mut chance, &last);
        let options = any_options(&mut chance);

        let mut fresh = hashing(&tokenizer);
        fresh.start(prompt.clone(), options.clone()).unwrap();
        let expected = run(&mut fresh).unwrap();

        if chance.one_in(5) {
            let calls = 1 + chance.below(6);
            session.model().fail_in.store(calls, Ordering::Relaxed);
        }
        let steps = if chance.one_in(4) {
            chance.below(12)
        } else {
            usize::MAX
        };
        let prepared = session.start(prompt.clone(), options.clone()).unwrap();
        assert!(prepared.cached_tokens < prompt.len());
        let outcome = run_for(&mut session, steps);
        session.model().fail_in.store(0, Ordering::Relaxed);

        last = prompt;
        match outcome {
            Ok(said) => {
                last.extend(&said.ids);
                reused += prepared.cached_tokens;
                compare(&said, &expected, round);
                aborted += usize::from(said.finish_reason == FinishReason::Abort);
            }
            Err(error) => {
                assert_eq!(error.to_string(), "injected failure");
                assert!(!session.is_running());
                failed += 1;
            }
        }
    }
    // All of it was tried, not just the easy part.
    assert!(reused > 30_000, "{reused} cached tokens");
    assert!(aborted > 100 && failed > 100, "{aborted}, {failed}");
}

fn compare(said: &Said, expected: &Said, round: usize) {
    if said.finish_reason == FinishReason::Abort {
        assert_eq!(said.ids, expected.ids[..said.ids.len()], "round {round}");
        assert!(
            expected
                .text
                .starts_with(said.text.trim_end_matches('\u{fffd}')),
            "round {round}: {:?} does not begin {:?}",
            said.text,
            expected.text
        );
        return;
    }
    assert_eq!(said.ids, expected.ids, "round {round}");
    assert_eq!(said.text, expected.text, "round {round}");
    assert_eq!(said.finish_reason, expected.finish_reason, "round {round}");
    let bits = |said: &Said| {
        said.logprobs
            .iter()
            .map(|l| l.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(said), bits(expected), "round {round}");
    assert_eq!(
        said.usage.completion_tokens,
        expected.usage.completion_tokens
    );
}

#[test]
fn the_prompt_is_read_in_pieces_and_only_where_it_is_new() {
    let tokenizer = tokenizer();
    let mut session = hashing(&tokenizer);
    let prompt = ids(100..170);
    let options = GenerateOptions {
        max_tokens: Some(1),
        ..greedy()
    };
    let prepared = session.start(prompt.clone(), options.clone()).unwrap();
    assert_eq!((prepared.prompt_tokens, prepared.cached_tokens), (70, 0));
    for done in [32, 64, 70] {
        assert_eq!(session.step().unwrap(), Step::Prefill { done, total: 70 });
    }
    let said = run(&mut session).unwrap();
    assert_eq!(said.usage.cached_tokens, 0);
    assert_eq!(session.model().evaluated.load(Ordering::Relaxed), 70);
    assert_eq!(
        session.model().largest_piece.load(Ordering::Relaxed),
        PREFILL_PIECE
    );

    // The same prompt again: only its last token, whose logits are needed, is read again.
    let prepared = session.start(prompt.clone(), options.clone()).unwrap();
    assert_eq!(prepared.cached_tokens, 69);
    assert_eq!(
        session.step().unwrap(),
        Step::Prefill {
            done: 70,
            total: 70
        }
    );
    assert_eq!(run(&mut session).unwrap().usage.cached_tokens, 69);
    assert_eq!(session.model().evaluated.load(Ordering::Relaxed), 71);

    // A change in the middle keeps what stands before it.
    let mut changed = prompt;
    changed[40] = TokenId(3);
    assert_eq!(session.start(changed, options).unwrap().cached_tokens, 40);
    assert_eq!(session.cached(), &ids(100..140));
}

#[test]
fn every_end_token_ends_the_answer_and_shows_no_text() {
    let tokenizer = tokenizer();
    let prompt = ids([40, 41]);
    let hello = encode(&tokenizer, "hello");
    for end in end_tokens(&tokenizer) {
        let mut answer = hello.clone();
        answer.push(end);
        let mut session = scripted(&tokenizer, &prompt, answer.clone());
        session.start(prompt.clone(), greedy()).unwrap();
        let said = run(&mut session).unwrap();
        assert_eq!(said.ids, answer);
        assert_eq!(said.text, "hello");
        assert_eq!(said.finish_reason, FinishReason::Stop);
        assert_eq!(said.usage.prompt_tokens, 2);
        assert_eq!(said.usage.completion_tokens, answer.len());
        assert_eq!(said.usage.total_tokens, 2 + answer.len());
        // The end token itself was not evaluated: nothing follows it.
        assert_eq!(session.cached().len(), 2 + hello.len());
    }
}

#[test]
fn a_control_token_that_ends_nothing_shows_no_text() {
    let tokenizer = tokenizer();
    let prompt = ids([40]);
    let mut answer = encode(&tokenizer, "one");
    answer.push(tokenizer.special_id("<|im_start|>").unwrap());
    answer.extend(encode(&tokenizer, "two"));
    let mut session = scripted(&tokenizer, &prompt, answer);
    session.start(prompt, greedy()).unwrap();
    assert_eq!(run(&mut session).unwrap().text, "onetwo");
}

#[test]
fn stop_strings_end_the_answer_and_never_show_however_tokens_cut_them() {
    let tokenizer = tokenizer();
    let prompt = ids([40]);
    let text = "The answer is 42. END of it";
    let answer = encode(&tokenizer, text);
    for (stop, shown, reason) in [
        ("END", "The answer is 42. ", FinishReason::Stop),
        (". E", "The answer is 42", FinishReason::Stop),
        ("The answer is 42", "", FinishReason::Stop),
        ("END of it at last", text, FinishReason::Stop), // by the end token
    ] {
        let mut session = scripted(&tokenizer, &prompt, answer.clone());
        session.start(prompt.clone(), stopping_at(stop)).unwrap();
        let mut streamed = String::new();
        let mut pieces = 0;
        loop {
            match session.step().unwrap() {
                Step::Prefill { .. } => {}
                Step::Token { text, .. } => {
                    streamed += &text;
                    pieces += usize::from(!text.is_empty());
                    // What was shown is never taken back.
                    assert!(shown.starts_with(&streamed), "{streamed:?} of {shown:?}");
                }
                Step::Done {
                    finish_reason,
                    text,
                    ..
                } => {
                    streamed += &text;
                    assert_eq!(finish_reason, reason);
                    break;
                }
            }
        }
        assert_eq!(streamed, shown, "stop {stop:?}");
        assert!(
            shown.len() < 10 || pieces > 3,
            "text is streamed, not kept back"
        );
    }
}

#[test]
fn held_text_is_shown_when_the_answer_ends_otherwise() {
    let tokenizer = tokenizer();
    let prompt = ids([40]);
    let answer = encode(&tokenizer, "wait for EN");
    let options = GenerateOptions {
        max_tokens: Some(answer.len()),
        ..stopping_at("END")
    };
    let mut session = scripted(&tokenizer, &prompt, answer.clone());
    session.start(prompt.clone(), options).unwrap();
    let said = run(&mut session).unwrap();
    assert_eq!(said.text, "wait for EN");
    assert_eq!(said.finish_reason, FinishReason::Length);

    let mut session = scripted(&tokenizer, &prompt, answer.clone());
    session.start(prompt, stopping_at("END")).unwrap();
    let said = run_for(&mut session, 1 + answer.len()).unwrap();
    assert_eq!(said.text, "wait for EN");
    assert_eq!(said.finish_reason, FinishReason::Abort);
}

#[test]
fn characters_cut_apart_by_tokens_come_whole_or_as_replacement() {
    let tokenizer = tokenizer();
    let prompt = ids([40]);
    let answer = encode(&tokenizer, "né 🦙");
    assert!(answer.len() > 6, "the tiny vocabulary cuts the llama apart");
    let mut session = scripted(&tokenizer, &prompt, answer.clone());
    session.start(prompt.clone(), greedy()).unwrap();
    assert_eq!(run(&mut session).unwrap().text, "né 🦙");

    let mut session = scripted(&tokenizer, &prompt, answer.clone());
    let options = GenerateOptions {
        max_tokens: Some(answer.len() - 1),
        ..greedy()
    };
    session.start(prompt, options).unwrap();
    assert_eq!(run(&mut session).unwrap().text, "né \u{fffd}");
}

#[test]
fn an_answer_ends_with_max_tokens_or_with_the_context() {
    let tokenizer = tokenizer();
    let prompt = ids([40; 10]);
    let endless = encode(&tokenizer, &"on and ".repeat(200));
    for (max_tokens, expected) in [
        (Some(1), 1),
        (Some(7), 7),
        (None, CONTEXT - 10),
        (Some(100_000), CONTEXT - 10),
    ] {
        let mut session = scripted(&tokenizer, &prompt, endless.clone());
        let options = GenerateOptions {
            max_tokens,
            ..greedy()
        };
        session.start(prompt.clone(), options).unwrap();
        let said = run(&mut session).unwrap();
        assert_eq!(said.ids.len(), expected);
        assert_eq!(said.finish_reason, FinishReason::Length);
    }
    // The longest prompt that leaves room for a token.
    let mut session = hashing(&tokenizer);
    session
        .start(ids([40; CONTEXT - 1]), GenerateOptions::default())
        .unwrap();
    assert_eq!(run(&mut session).unwrap().ids.len(), 1);
}

#[test]
fn logprobs_are_those_of_the_unfiltered_distribution() {
    let tokenizer = tokenizer();
    let prompt = ids([40, 50, 60]);
    let options = |temperature, logprobs| GenerateOptions {
        sampling: SamplingParams {
            temperature,
            top_k: 1,
            ..SamplingParams::default()
        },
        max_tokens: Some(3),
        logprobs,
        ..GenerateOptions::default()
    };
    let mut tops = Vec::new();
    for temperature in [0.0, 0.5, 2.0] {
        let mut session = hashing(&tokenizer);
        session
            .start(prompt.clone(), options(temperature, Some(4)))
            .unwrap();
        session.step().unwrap();
        let Step::Token {
            id, logprob, top, ..
        } = session.step().unwrap()
        else {
            panic!("a token was due");
        };
        assert_eq!(top.len(), 4);
        assert_eq!(top[0], (id, logprob.unwrap()));
        assert!(top.is_sorted_by(|a, b| a.1 >= b.1));
        // 512 logits spread evenly over [−4, 4]: the best is near −ln Σ exp(l − 4) ≈ −4.2, not 0.
        assert!((-4.6..-3.8).contains(&top[0].1), "{}", top[0].1);
        tops.push(top);
    }
    assert!(tops.iter().all(|top| *top == tops[0]));

    let mut session = hashing(&tokenizer);
    session.start(prompt, options(1.0, None)).unwrap();
    session.step().unwrap();
    let Step::Token { logprob, top, .. } = session.step().unwrap() else {
        panic!("a token was due");
    };
    assert_eq!((logprob, top.len()), (None, 0));
}

#[test]
fn equal_seeds_say_the_same_and_others_something_else() {
    let tokenizer = tokenizer();
    let say = |seed| {
        let mut session = hashing(&tokenizer);
        let options = GenerateOptions {
            sampling: SamplingParams {
                seed,
                ..SamplingParams::default()
            },
            max_tokens: Some(12),
            ..GenerateOptions::default()
        };
        session.start(ids([9, 8, 7]), options).unwrap();
        run(&mut session).unwrap().ids
    };
    assert_eq!(say(1), say(1));
    assert_ne!(say(1), say(2));
}

#[test]
fn refusals_name_the_culprit_and_leave_the_session_as_it_was() {
    let tokenizer = tokenizer();
    let mut session = hashing(&tokenizer);
    session.start(ids([40, 41, 42]), greedy()).unwrap();
    run_for(&mut session, 2).unwrap();
    let cached = session.cached().to_vec();
    assert!(!cached.is_empty());

    let mut refuse = |prompt: Vec<TokenId>, options: GenerateOptions, kind, words: &[&str]| {
        let error = session.start(prompt, options).expect_err("must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
        assert!(!session.is_running());
        assert_eq!(session.cached(), cached);
    };
    use ErrorKind::{ContextOverflow, InvalidArgument};
    refuse(vec![], greedy(), InvalidArgument, &["prompt", "empty"]);
    refuse(ids([512]), greedy(), InvalidArgument, &["512"]);
    refuse(
        ids([40; CONTEXT]),
        greedy(),
        ContextOverflow,
        &["160 tokens", "context of 160"],
    );
    refuse(
        ids([40; 2000]),
        greedy(),
        ContextOverflow,
        &["2000 tokens", "context of 160"],
    );
    let with = |change: fn(&mut GenerateOptions)| {
        let mut options = greedy();
        change(&mut options);
        options
    };
    refuse(
        ids([40]),
        with(|o| o.sampling.temperature = f32::NAN),
        InvalidArgument,
        &["temperature", "NaN"],
    );
    refuse(
        ids([40]),
        with(|o| o.max_tokens = Some(0)),
        InvalidArgument,
        &["max_tokens", "0"],
    );
    refuse(
        ids([40]),
        with(|o| o.stop = vec!["ok".into(), String::new()]),
        InvalidArgument,
        &["stop[1]"],
    );
    refuse(
        ids([40]),
        with(|o| o.stop = vec!["x".into(); 17]),
        InvalidArgument,
        &["stop", "17"],
    );
    refuse(
        ids([40]),
        with(|o| o.logprobs = Some(21)),
        InvalidArgument,
        &["top_logprobs", "21"],
    );

    session.start(ids([40]), greedy()).unwrap();
    run(&mut session).unwrap();
}

#[test]
fn one_generation_at_a_time() {
    let tokenizer = tokenizer();
    let mut session = hashing(&tokenizer);
    let idle = session.step().expect_err("nothing was started");
    assert_eq!(idle.kind(), ErrorKind::InvalidArgument);
    assert_eq!(session.abort(), None);

    session.start(ids([40]), greedy()).unwrap();
    let busy = session.start(ids([41]), greedy()).expect_err("busy");
    assert_eq!(busy.kind(), ErrorKind::Busy);
    let Some(Step::Done {
        finish_reason,
        usage,
        ..
    }) = session.abort()
    else {
        panic!("the abort ends the generation");
    };
    assert_eq!(finish_reason, FinishReason::Abort);
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (1, 0));
    assert!(!session.is_running());
}

#[test]
fn forgetting_empties_the_cache() {
    let tokenizer = tokenizer();
    let mut session = hashing(&tokenizer);
    session.start(ids([40, 41]), greedy()).unwrap();
    run_for(&mut session, 3).unwrap();
    session.forget();
    assert!(session.cached().is_empty());
    assert_eq!(
        session
            .start(ids([40, 41]), greedy())
            .unwrap()
            .cached_tokens,
        0
    );
}

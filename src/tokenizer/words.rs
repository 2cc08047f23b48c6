//! Pre-tokenization: text → words, which merging does not cross.
//!
//! The models come with regular expressions for this, always the same two. They are written out here as
//! what they do, which is faster, and spares the browser a regex engine and its Unicode tables (a quarter
//! of the whole download). A model with another pattern is refused by name.

use serde_json::{Value, json};

use super::classes::{LETTERS, NUMBERS};
use super::unsupported;
use crate::error::Result;

/// GPT-2's pattern (openai/gpt-2, `src/encoder.py`), which `ByteLevel` means by `use_regex`:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
fn gpt2(text: &str) -> usize {
    let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    if let Some(found) = contractions.iter().find(|c| text.starts_with(**c)) {
        return found.len();
    }
    let after_space = text.strip_prefix(' ').unwrap_or(text);
    let space = text.len() - after_space.len();
    for class in [Class::Letter, Class::Number, Class::Other] {
        let run = run_of(after_space, |c| class_of(c) == class);
        if run > 0 {
            return space + run;
        }
    }
    spaces(text)
}

/// Llama 3's pattern (meta-llama/llama3, `llama/tokenizer.py`), SmolLM3's too.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn llama3(text: &str) -> usize {
    let contraction = contraction_in_any_case(text);
    if contraction > 0 {
        return contraction;
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    let letters = |from: usize| run_of(&text[from..], |c| class_of(c) == Class::Letter);
    let own = letters(0);
    if own > 0 {
        return own;
    }
    let number = |c: &char| class_of(*c) == Class::Number;
    let digits = text.chars().take(3).take_while(number);
    let digits: usize = digits.map(char::len_utf8).sum();
    if digits > 0 {
        return digits;
    }
    if !text.starts_with(is_newline) {
        let following = letters(first);
        if following > 0 {
            return first + following;
        }
    }
    let after_space = text.strip_prefix(' ').unwrap_or(text);
    let other = run_of(after_space, |c| class_of(c) == Class::Other);
    if other > 0 {
        let end = text.len() - after_space.len() + other;
        return end + run_of(&text[end..], is_newline);
    }
    // `\s*[\r\n]+`: up to the last newline of the white space.
    let blank = &text[..run_of(text, char::is_whitespace)];
    match blank.rfind(is_newline) {
        Some(last) => last + 1,
        None => spaces(text),
    }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`: its length at the start of `text`, or 0.
fn contraction_in_any_case(text: &str) -> usize {
    let Some(rest) = text.strip_prefix('\'') else {
        return 0;
    };
    // Unicode's simple case folding makes the long s an s; no other letter here has such a relative.
    let folded = |c: char| {
        if c == 'ſ' {
            's'
        } else {
            c.to_ascii_lowercase()
        }
    };
    let mut chars = rest.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else {
        return 0;
    };
    match (folded(first), second.map(folded)) {
        ('s' | 't' | 'm' | 'd', _) => 1 + first.len_utf8(),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => 3,
        _ => 0,
    }
}

/// `\s+(?!\S)|\s+`: white space up to the one character that goes with the next word.
fn spaces(text: &str) -> usize {
    let run = run_of(text, char::is_whitespace);
    if run == text.len() {
        return run;
    }
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    if run > last { run - last } else { run }
}

/// Bytes of the longest start of `text` that is all `wanted`.
fn run_of(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// What the patterns tell apart: `\p{L}`, `\p{N}`, `\s` and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class_of(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        _ if c.is_whitespace() => Class::Space,
        '\0'..='\x7f' => Class::Other,
        _ if is_in(&LETTERS, c) => Class::Letter,
        _ if is_in(&NUMBERS, c) => Class::Number,
        _ => Class::Other,
    }
}

/// Whether `c` lies in one of the ranges whose bounds these are.
fn is_in(bounds: &[u32], c: char) -> bool {
    bounds.partition_point(|&bound| bound <= u32::from(c)) % 2 == 1
}

/// How a text is cut: each step cuts the pieces of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    cuts: Vec<Cut>,
    /// [`gpt2`] at last.
    gpt2: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Every `\p{N}` alone.
    EachDigit,
    Llama3,
}

impl Words {
    /// SmolLM's and SmolLM2's.
    pub(super) fn smollm() -> Self {
        Self {
            cuts: vec![Cut::EachDigit],
            gpt2: true,
        }
    }

    /// Llama 3's and SmolLM3's.
    pub(super) fn llama3() -> Self {
        Self {
            cuts: vec![Cut::Llama3],
            gpt2: false,
        }
    }

    /// Reads the `pre_tokenizer` of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`UnsupportedArchitecture`](crate::ErrorKind::UnsupportedArchitecture) naming what is unknown.
    pub(super) fn from_json(pre_tokenizer: &Value) -> Result<Self> {
        let parts = match pre_tokenizer["pretokenizers"].as_array() {
            Some(parts) if pre_tokenizer["type"] == "Sequence" => parts.as_slice(),
            _ => std::slice::from_ref(pre_tokenizer),
        };
        // Bytes become characters in the last step; only there can that stay out of the others' way.
        let Some((last, cuts)) = parts.split_last() else {
            return Err(unsupported("no byte-level BPE"));
        };
        if last["type"] != "ByteLevel" {
            return Err(unsupported("no byte-level BPE"));
        }
        let flag = |name: &str| last[name].as_bool().unwrap_or(true);
        if flag("add_prefix_space") {
            return Err(unsupported(
                "pre_tokenizer: add_prefix_space is not supported",
            ));
        }
        Ok(Self {
            cuts: cuts.iter().map(Cut::from_json).collect::<Result<_>>()?,
            gpt2: flag("use_regex"),
        })
    }

    /// The `pre_tokenizer` of a `tokenizer.json` that cuts so.
    pub(super) fn to_json(&self) -> Value {
        let mut parts = self
            .cuts
            .iter()
            .map(|cut| cut.to_json())
            .collect::<Vec<_>>();
        parts.push(byte_level(false, self.gpt2));
        json!({"type": "Sequence", "pretokenizers": parts})
    }

    /// Calls `word` with the words of `text`, in order; together they are the text.
    pub(super) fn cut_up(&self, text: &str, mut word: impl FnMut(&str)) {
        self.descend(&self.cuts, text, &mut word);
    }

    fn descend(&self, cuts: &[Cut], text: &str, word: &mut dyn FnMut(&str)) {
        match cuts.split_first() {
            Some((Cut::EachDigit, rest)) => {
                in_pieces(text, each_digit, |piece| self.descend(rest, piece, word));
            }
            Some((Cut::Llama3, rest)) => {
                in_pieces(text, llama3, |piece| self.descend(rest, piece, word));
            }
            None if self.gpt2 => in_pieces(text, gpt2, word),
            None => word(text),
        }
    }
}

/// Calls `piece` with the pieces of `text`; `length` says how much of a text that is not empty is the first.
fn in_pieces(mut text: &str, length: impl Fn(&str) -> usize, mut piece: impl FnMut(&str)) {
    while !text.is_empty() {
        let (first, rest) = text.split_at(length(text));
        piece(first);
        text = rest;
    }
}

impl Cut {
    fn from_json(part: &Value) -> Result<Self> {
        match part["type"].as_str().unwrap_or_default() {
            "Digits" if part["individual_digits"] == true => Ok(Self::EachDigit),
            "Split"
                if part["pattern"]["Regex"] == LLAMA3
                    && part["behavior"] == "Isolated"
                    && part["invert"] != true =>
            {
                Ok(Self::Llama3)
            }
            _ => Err(unsupported(format!(
                "pre_tokenizer is not supported: {part}"
            ))),
        }
    }

    fn to_json(self) -> Value {
        match self {
            Self::EachDigit => json!({"type": "Digits", "individual_digits": true}),
            Self::Llama3 => json!({
                "type": "Split",
                "pattern": {"Regex": LLAMA3},
                "behavior": "Isolated",
                "invert": false,
            }),
        }
    }
}

/// A `ByteLevel` of a `tokenizer.json`.
pub(super) fn byte_level(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": true,
        "use_regex": use_regex,
    })
}

/// One digit of any script, or all up to the next.
fn each_digit(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    if text.starts_with(char::is_numeric) {
        first
    } else {
        run_of(text, |c| !c.is_numeric())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::pre_tokenizers::digits::Digits;
    use tokenizers::pre_tokenizers::sequence::Sequence;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    };

    use super::*;

    /// SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014).
    pub(in crate::tokenizer) struct Random(pub u64);

    impl Random {
        pub(in crate::tokenizer) fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n as u64) as usize
        }
    }

    fn words(cut: &Words, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        cut.cut_up(text, |word| words.push(word.to_owned()));
        words
    }

    /// By hand from the patterns; the goldens say the same for hundreds of texts.
    #[test]
    fn cuts_where_the_patterns_do() {
        let gpt2 = Words {
            cuts: Vec::new(),
            gpt2: true,
        };
        for (cut, text, expected) in [
            (
                &gpt2,
                "It's  fine.\n\n ok",
                &["It", "'s", " ", " fine", ".", "\n\n", " ok"][..],
            ),
            (&gpt2, "a1 22  ", &["a", "1", " 22", "  "]),
            (&gpt2, "x\n\ty", &["x", "\n", "\t", "y"]),
            (&Words::smollm(), "a 12b", &["a", " ", "1", "2", "b"]),
            (&Words::smollm(), " 7", &[" ", "7"]),
            (
                &Words::llama3(),
                "I'LL (go) 12345!\r\n x",
                &["I", "'LL", " (", "go", ")", " ", "123", "45", "!\r\n", " x"],
            ),
            (&Words::llama3(), "a \n \n  b", &["a", " \n \n", " ", " b"]),
            (&Words::llama3(), "'ſo", &["'ſ", "o"]),
            (&Words::llama3(), "\ta\u{a0}b  ", &["\ta", "\u{a0}b", "  "]),
        ] {
            assert_eq!(words(cut, text), expected, "{text:?}");
        }
    }

    /// Random texts that Hugging Face's Python package cut (`tests/golden/README.md`).
    #[test]
    fn cuts_where_the_reference_does() {
        #[derive(serde::Deserialize)]
        struct Case {
            text: String,
            smollm: Vec<usize>,
            llama3: Vec<usize>,
        }
        let golden = include_str!("../../tests/golden/words.jsonl");
        for line in golden.lines() {
            let Case {
                text,
                smollm,
                llama3,
            } = serde_json::from_str(line).unwrap();
            for (cut, expected) in [(Words::smollm(), smollm), (Words::llama3(), llama3)] {
                let lengths = words(&cut, &text)
                    .iter()
                    .map(String::len)
                    .collect::<Vec<_>>();
                assert_eq!(lengths, expected, "{cut:?}: {text:?}");
            }
        }
        assert!(golden.lines().count() >= 400);
    }

    /// A pipeline of the `tokenizers` crate, regular expressions and all, beside ours.
    struct Both {
        ours: Words,
        reference: Sequence,
    }

    impl Both {
        fn smollm() -> Self {
            let digits = Digits::new(true).into();
            Self {
                ours: Words::smollm(),
                reference: Sequence::new(vec![digits, ByteLevel::new(false, true, true).into()]),
            }
        }

        fn llama3() -> Self {
            let pattern = SplitPattern::Regex(LLAMA3.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap();
            let byte_level = ByteLevel::new(false, true, false).into();
            Self {
                ours: Words::llama3(),
                reference: Sequence::new(vec![split.into(), byte_level]),
            }
        }

        #[track_caller]
        fn assert_agree(&self, text: &str) {
            let mut pieces = PreTokenizedString::from(text);
            self.reference.pre_tokenize(&mut pieces).unwrap();
            let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let expected = pieces
                .into_iter()
                .map(|(_, (start, end), _)| &text[start..end]);
            assert_eq!(
                words(&self.ours, text),
                expected.collect::<Vec<_>>(),
                "{text:?}"
            );
        }
    }

    /// Characters between neighbours that their class decides about: all of the planes that hold letters
    /// and numbers, samples of the others.
    #[test]
    fn every_character_as_in_the_regular_expressions() {
        let sparse = ('\u{33000}'..=char::MAX).step_by(97);
        let characters = ('\u{80}'..'\u{33000}').chain(sparse).collect::<Vec<_>>();
        let (smollm, llama3) = (Both::smollm(), Both::llama3());
        for characters in characters.chunks(1 << 5) {
            let texts = characters.iter().map(|c| format!("a{c}1 {c}\n"));
            let text = texts.collect::<String>();
            smollm.assert_agree(&text);
            llama3.assert_agree(&text);
        }
    }

    #[test]
    fn random_texts_as_by_the_regular_expressions() {
        let kinds: [&[&str]; 7] = [
            &[
                " ", " ", "\n", "\r", "\r\n", "\t", "\u{a0}", "\u{85}", "\u{2028}", "\u{3000}",
            ],
            &[
                "'s", "'LL", "'rE", "'ve", "'ſ", "'d", "'", "'x", "’s", "'l", "'r",
            ],
            &["0", "9", "²", "٣", "Ⅷ", "七", "𝟎", "𐅀"],
            &["a", "Z", "é", "漢", "한", "ع", "ह", "ǅ", "ʰ"],
            &[
                "\u{301}", "ि", "\u{20dd}", "\u{fe0f}", "\u{200d}", "😀", "¿", "!", "_", "<|",
            ],
            &[
                "\0",
                "\u{1c}",
                "\u{7f}",
                "\u{200b}",
                "\u{feff}",
                "\u{378}",
                "\u{e000}",
                "\u{10ffff}",
            ],
            &[],
        ];
        let (smollm, llama3) = (Both::smollm(), Both::llama3());
        let mut random = Random(3);
        for _ in 0..10_000 {
            // Few kinds in a text make longer runs.
            let few = [
                random.below(kinds.len()),
                random.below(kinds.len()),
                random.below(kinds.len()),
            ];
            let mut text = String::new();
            for _ in 0..=random.below(24) {
                let kind = kinds[few[random.below(few.len())]];
                if kind.is_empty() {
                    text.extend(char::from_u32(random.below(0x11_0000) as u32));
                } else {
                    let piece = kind[random.below(kind.len())];
                    text.push_str(&piece.repeat([1, 1, 1, 2, 5][random.below(5)]));
                }
            }
            smollm.assert_agree(&text);
            llama3.assert_agree(&text);
        }
    }

    #[test]
    fn pipelines_are_read_as_they_are_written() {
        for words in [Words::smollm(), Words::llama3()] {
            assert_eq!(Words::from_json(&words.to_json()).unwrap(), words);
        }
    }

    #[test]
    fn other_pipelines_are_named() {
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false});
        let sequence = |first: Value| {
            let parts = [first, byte_level.clone()];
            Words::from_json(&json!({"type": "Sequence", "pretokenizers": parts}))
        };
        for (part, named) in [
            (json!({"type": "Whitespace"}), "Whitespace"),
            (
                json!({"type": "Digits", "individual_digits": false}),
                "Digits",
            ),
            (
                json!({"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false}),
                "x+",
            ),
        ] {
            let error = sequence(part).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let prefix = json!({"type": "ByteLevel", "add_prefix_space": true});
        let error = Words::from_json(&prefix).unwrap_err().to_string();
        assert!(error.contains("add_prefix_space"), "{error}");
    }
}

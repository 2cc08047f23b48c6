//! What does not fit is refused by name: other models, other versions, damaged and hostile bytes.

use super::models::{self, project};
use super::{
    CONTEXT, generate, ids, refused, restore, save, session, session_with, session_with_context,
};
use smollm_web::ErrorKind;
use smollm_web::loader::{LoadOptions, Loader};
use smollm_web::model::Precision;
use smollm_web::session::{GenerateOptions, STATE_VERSION};
use twox_hash::XxHash64;

#[test]
fn another_model_is_refused() {
    let mut source = session("llama-tied.gguf");
    let prompt = ids(&source, 1, 40);
    generate(&mut source, &prompt, 2);
    let saved = save(&source);
    // The same weights as floats, others, another architecture.
    for name in ["llama-tied", "llama-untied.gguf", "smollm3.gguf"] {
        let mut other = session(name);
        let before = ids(&other, 4, 12);
        let expected = generate(&mut other, &before, 3).0;
        let cached = other.cached().to_vec();
        refused(
            &mut other,
            &saved,
            ErrorKind::InvalidArgument,
            "another model",
        );
        assert_eq!(other.cached(), cached, "what was there stays");
        assert_eq!(generate(&mut other, &before, 3).0, expected);
    }
    refused(
        &mut session_with_context("llama-tied.gguf", 40),
        &saved,
        ErrorKind::ContextOverflow,
        "context of 40",
    );
    assert_eq!(
        restore(
            &mut session_with_context("llama-tied.gguf", 41),
            &saved,
            5000
        )
        .unwrap(),
        41
    );
}

#[test]
fn which_file_the_weights_came_from_does_not_matter() {
    let mut source = session("llama-tied.gguf");
    let prompt = ids(&source, 1, 40);
    generate(&mut source, &prompt, 2);
    let saved = save(&source);
    for name in ["llama-tied", "llama-tied-bf16"] {
        let mut same = session_with(name, Precision::Int8, CONTEXT);
        assert_eq!(restore(&mut same, &saved, 500).unwrap(), 41, "{name}");
    }
}

#[test]
fn a_single_other_weight_is_another_model() {
    let path = project("tests/fixtures/models/llama-tied.gguf");
    let bytes = models::read(&path);
    let digest = |bytes: &[u8]| {
        let mut loader = Loader::gguf(LoadOptions::default());
        loader.feed(bytes).unwrap();
        *loader.finish().unwrap().model.digest()
    };
    let expected = digest(&bytes);
    assert_eq!(digest(&bytes), expected);
    // The data section's end is weights; the lowest bit of a byte keeps every number a number.
    for back in [1, 100, 1000, 5000, 20_000] {
        let mut changed = bytes.clone();
        let at = changed.len() - back;
        changed[at] ^= 1;
        assert_ne!(digest(&changed), expected, "{back} bytes before the end");
    }
}

#[test]
fn another_version_is_refused() {
    let mut source = session("llama-tied.gguf");
    let prompt = ids(&source, 1, 40);
    generate(&mut source, &prompt, 2);
    let mut saved = save(&source);
    saved[8..12].copy_from_slice(&(STATE_VERSION + 1).to_le_bytes());
    refused(
        &mut source,
        &saved,
        ErrorKind::InvalidArgument,
        "another version of the engine: 2",
    );
    saved[0] = b'S';
    refused(&mut source, &saved, ErrorKind::Integrity, "does not begin");
    refused(&mut source, b"GGUF", ErrorKind::Integrity, "truncated");
    refused(&mut source, b"", ErrorKind::Integrity, "truncated");
    assert_eq!(source.cached().len(), 41);
}

/// Every byte of the head and ids, and some of every block.
#[test]
fn damage_is_found_wherever_it_is() {
    for name in ["llama-tied", "llama-tied.gguf"] {
        let mut source = session(name);
        let prompt = ids(&source, 1, 70);
        generate(&mut source, &prompt, 2);
        let saved = save(&source);
        let mut target = session(name);
        for at in (0..400)
            .chain((400..saved.len()).step_by(97))
            .chain(saved.len() - 9..saved.len())
        {
            let mut flipped = saved.clone();
            flipped[at] ^= 1 << (at % 8);
            let error = restore(&mut target, &flipped, 1 << 20).unwrap_err();
            let expected = if (8..12).contains(&at) {
                ErrorKind::InvalidArgument
            } else {
                ErrorKind::Integrity
            };
            assert_eq!(error.kind(), expected, "byte {at}: {error}");
            assert_eq!(target.cached(), [], "byte {at}");
        }
        for len in (0..600)
            .chain((600..saved.len()).step_by(331))
            .chain([saved.len() - 1])
        {
            refused(
                &mut target,
                &saved[..len],
                ErrorKind::Integrity,
                "truncated",
            );
            assert_eq!(target.cached(), [], "cut to {len} bytes");
        }
        let longer = [&saved[..], b"x"].concat();
        refused(&mut target, &longer, ErrorKind::Integrity, "after its end");

        // Parts of two files, each of them whole.
        let mut second = session(name);
        let prompt = ids(&second, 2, 70);
        generate(&mut second, &prompt, 2);
        let half =
            saved.len() - target.model().new_cache(1).unwrap().position_bytes() * (71 % 32) - 8;
        let mixed = [&saved[..half], &save(&second)[half..]].concat();
        refused(&mut target, &mixed, ErrorKind::Integrity, "checksum");

        assert_eq!(
            restore(&mut target, &saved, 50).unwrap(),
            71,
            "and after all that it still works"
        );
        assert_eq!(save(&target), saved);
    }
}

/// Right checksums around numbers that no session saves.
#[test]
fn sealed_nonsense_is_refused() {
    let mut target = session("llama-tied.gguf");
    let prompt = ids(&target, 1, 10);
    generate(&mut target, &prompt, 2);
    let saved = save(&target);
    assert_eq!(sealed(&parts(&saved)), saved);

    let mut outside = parts(&saved);
    outside[1][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(
        &mut target,
        &sealed(&outside),
        ErrorKind::Integrity,
        "vocabulary",
    );
    assert_eq!(target.cached().len(), 11, "nothing was replaced yet");

    let mut many = parts(&saved);
    many[0][12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(
        &mut target,
        &sealed(&many),
        ErrorKind::ContextOverflow,
        "4294967295 tokens",
    );
    assert_eq!(target.cached().len(), 11);

    // The first head's scales, then its key.
    let cases = [
        (0, f32::NAN.to_le_bytes()),
        (0, (-1f32).to_le_bytes()),
        (4, f32::INFINITY.to_le_bytes()),
        (8, [0, 0x10, 0, 0]),
        (8, [0, 0x80, 0, 0]),
    ];
    for (at, bytes) in cases {
        let mut bad = parts(&saved);
        bad[2][at..at + 4].copy_from_slice(&bytes);
        refused(
            &mut target,
            &sealed(&bad),
            ErrorKind::Integrity,
            "position 0",
        );
        assert_eq!(target.cached(), []);
    }
    assert_eq!(restore(&mut target, &saved, 100).unwrap(), 11);
}

/// Whatever the bytes are, their checksums right or not: there is an error, or a cache that can be gone on with.
#[test]
fn no_bytes_do_harm() {
    for name in ["llama-tied", "llama-tied.gguf"] {
        let mut target = session(name);
        let prompt = ids(&target, 1, 20);
        generate(&mut target, &prompt, 2);
        let saved = save(&target);
        let mut state = 1u64;
        let mut below = move |n: usize| {
            // Knuth's MMIX generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..2000 {
            let mut changed = parts(&saved);
            for _ in 0..1 + below(3) {
                let part = [0, 1, 1, 2, 2, 2, 2][below(7)];
                let at = below(changed[part].len());
                changed[part][at] = [0, 1, 0x7f, 0x80, 0xff, below(256) as u8][below(6)];
            }
            let mut bytes = sealed(&changed);
            if below(4) == 0 {
                let at = below(bytes.len());
                bytes.remove(at);
            }
            match restore(&mut target, &bytes, 1 + below(300)) {
                Ok(tokens) => {
                    read += 1;
                    assert_eq!(tokens, 21);
                    // Absurd scales give logits that are no numbers: an error, which leaves the session usable.
                    let next = [target.cached(), &prompt[..3]].concat();
                    target
                        .start(
                            next,
                            GenerateOptions {
                                max_tokens: Some(2),
                                ..GenerateOptions::default()
                            },
                        )
                        .unwrap();
                    while target.is_running() {
                        let _ = target.step();
                    }
                }
                Err(_) => refused += 1,
            }
        }
        assert!(
            read > 100 && refused > 100,
            "{name}: {read} read, {refused} refused"
        );
        assert_eq!(restore(&mut target, &saved, 100).unwrap(), 21);
    }
}

/// Head, ids and the one block of a saved session of at most 32 tokens, without their checksums.
fn parts(bytes: &[u8]) -> [Vec<u8>; 3] {
    let tokens = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let (head, rest) = bytes.split_at(8 + 4 + 4 + 32);
    let (ids, block) = rest[8..].split_at(4 * tokens);
    [
        head.to_vec(),
        ids.to_vec(),
        block[8..block.len() - 8].to_vec(),
    ]
}

/// The parts with their checksums.
fn sealed(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut checksum = 0;
    for part in parts {
        checksum = XxHash64::oneshot(checksum, part);
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(&u64::to_le_bytes(checksum));
    }
    bytes
}

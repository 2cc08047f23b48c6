//! `quantize_model` on disk: what it may replace, and what it leaves behind.
#![cfg(not(target_arch = "wasm32"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

/// A directory that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("quantize-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = files(&self.0).into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What lies in a directory, files with their content.
fn files(directory: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let file = entry.file_type().unwrap().is_file();
        (name, file.then(|| fs::read(entry.path()).unwrap()))
    });
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

fn command(model: &Path, output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantize_model"));
    command.arg("--model-path").arg(model);
    command.arg("--output-path").arg(output);
    command
}

fn quantize(model: &Path, output: &Path, more: &[&str]) -> Output {
    command(model, output).args(more).output().unwrap()
}

#[track_caller]
fn quantize_well(model: &Path, output: &Path, more: &[&str]) {
    let done = quantize(model, output, more);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", model.display());
}

#[test]
fn only_packs_are_replaced_and_nothing_half_made_is_left() {
    let scratch = Scratch::new("replaced");
    let model = fixture("llama-tied");
    let other = scratch.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "dear").unwrap();
    let refused = quantize(&model, &other, &[]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("invalid_argument"));
    assert_eq!(fs::read(other.join("letter.txt")).unwrap(), b"dear");

    let pack = scratch.join("pack");
    quantize_well(&model, &pack, &[]);
    let before = files(&pack);
    quantize_well(&model, &pack, &[]);
    assert!(files(&pack) == before);
    quantize_well(&model, &pack, &["--name", "Another"]);
    assert!(files(&pack) != before);

    // A source that is no model leaves nothing behind.
    let bad = scratch.join("bad.gguf");
    fs::write(&bad, "<html>").unwrap();
    assert!(!quantize(&bad, &scratch.join("none"), &[]).status.success());
    assert_eq!(scratch.names(), ["bad.gguf", "other", "pack"]);
}

#[cfg(unix)]
#[test]
fn an_interruption_leaves_what_was_there_and_no_more() {
    let scratch = Scratch::new("interrupted");
    let pack = scratch.join("pack");
    let model = fixture("llama-tied.gguf");
    quantize_well(&model, &pack, &[]);
    let before = files(&pack);

    // A source that comes through a pipe is there once. It is read twice, to run it and to quantize it: the second time,
    // when the new pack is begun, there is nothing to read and no end.
    let pipe = scratch.join("pipe.gguf");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let bytes = fs::read(&model).unwrap();
    let feeder = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, bytes)
    });
    let mut tool = command(&pipe, &pack).stderr(Stdio::null()).spawn().unwrap();
    let mut waits = 0;
    while scratch.names().len() < 3 {
        if let Some(status) = tool.try_wait().unwrap() {
            panic!("ended before it began the pack: {status}");
        }
        if waits == 6000 {
            tool.kill().unwrap();
            panic!("a minute, and no pack was begun");
        }
        waits += 1;
        thread::sleep(Duration::from_millis(10));
    }
    feeder.join().unwrap().unwrap();
    let sent = Command::new("kill")
        .args(["-INT", &tool.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(tool.wait().unwrap().code(), Some(130));
    assert_eq!(scratch.names(), ["pack", "pipe.gguf"]);
    assert!(files(&pack) == before);
}

//! Lines of JSON, one in and one out.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};
use smollm_web::{Error, Result};

/// Answers every line of standard input with one of standard output, blank ones aside. An error is
/// the answer to its line, `{"error": {"code", "message"}}`, and the next line is read all the same.
///
/// # Errors
/// Where the streams themselves fail. A reader of ours that has gone away is no error.
pub fn answer_lines(mut answer: impl FnMut(&str) -> Result<Value>) -> Result<()> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input
            .read_until(b'\n', &mut line)
            .map_err(|e| stream("standard input", e))?
            == 0
        {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answered = std::str::from_utf8(&line)
            .map_err(|e| Error::invalid_argument("the line is not UTF-8").caused_by(e))
            .and_then(&mut answer)
            .unwrap_or_else(|e| json!({"error": {"code": e.code(), "message": e.to_string()}}));
        // Flushed line by line: whoever drives us waits for this answer before asking on.
        match writeln!(output, "{answered}").and_then(|()| output.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(stream("standard output", e)),
        }
    }
}

fn stream(name: &str, e: io::Error) -> Error {
    Error::invalid_argument(format!("{name}: {e}")).caused_by(e)
}

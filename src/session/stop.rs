//! Stop strings: text that ends an answer and is never shown, wherever tokens happen to cut it.

/// Watches an answer's text for stop strings and holds back what could be the beginning of one.
///
/// What comes out does not depend on how the text was cut into pieces: the stop string that is
/// complete first ends the answer, the longest where several complete together.
#[derive(Debug, Clone)]
pub(super) struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// Text that can be shown; nothing has ended.
    Text(String),
    /// The last text to be shown: a stop string follows it.
    Stopped(String),
}

impl StopMatcher {
    /// Watches for `stops`, none of which may be empty.
    pub(super) fn new(stops: Vec<String>) -> Self {
        debug_assert!(stops.iter().all(|stop| !stop.is_empty()));
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece and returns what can be shown of all that came so far.
    pub(super) fn push(&mut self, piece: &str) -> Watched {
        self.held.push_str(piece);
        // The first occurrence of each one is also its first to be complete.
        let first = self
            .stops
            .iter()
            .filter_map(|stop| {
                let start = self.held.find(stop)?;
                Some((start + stop.len(), start))
            })
            .min();
        if let Some((_, start)) = first {
            self.held.truncate(start);
            return Watched::Stopped(std::mem::take(&mut self.held));
        }
        let certain = self.held.len() - self.undecided();
        let rest = self.held.split_off(certain);
        Watched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What is still held back, once no more text can follow.
    pub(super) fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of the longest end of the held text that begins a stop string.
    fn undecided(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let tail = self.held.len().saturating_sub(longest.saturating_sub(1));
        (tail..self.held.len())
            .filter(|&start| self.held.is_char_boundary(start))
            .find(|&start| {
                let end = &self.held[start..];
                self.stops.iter().any(|stop| stop.starts_with(end))
            })
            .map_or(0, |start| self.held.len() - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text shown and whether a stop string ended it, for `text` cut at every `step` chars.
    fn watch(stops: &[&str], text: &str, step: usize) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let chars: Vec<char> = text.chars().collect();
        let mut shown = String::new();
        for piece in chars.chunks(step) {
            match matcher.push(&piece.iter().collect::<String>()) {
                Watched::Text(text) => shown += &text,
                Watched::Stopped(text) => return (shown + &text, true),
            }
        }
        (shown + &matcher.flush(), false)
    }

    #[test]
    fn what_is_shown_does_not_depend_on_the_cuts() {
        let cases: [(&[&str], &str, &str, bool); 9] = [
            (&[], "all of it", "all of it", false),
            (&["\n\n"], "one\ntwo\n\nthree", "one\ntwo", true),
            (
                &["User:"],
                "Use the Usher. User: hi",
                "Use the Usher. ",
                true,
            ),
            (&["abc", "b"], "xabc", "xa", true),
            (&["abcd", "bcd"], "xabcd", "x", true),
            (&["aab"], "aaab", "a", true),
            (&["end"], "the en", "the en", false),
            (&["née"], "elle est née", "elle est ", true),
            (&["né!"], "elle est née", "elle est née", false),
        ];
        for (stops, text, shown, stopped) in cases {
            for step in 1..=text.chars().count() {
                assert_eq!(
                    watch(stops, text, step),
                    (shown.to_owned(), stopped),
                    "{stops:?} in {text:?}, {step} characters at a time"
                );
            }
        }
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut matcher = StopMatcher::new(vec!["STOP".to_owned()]);
        assert_eq!(matcher.push("go ST"), Watched::Text("go ".to_owned()));
        assert_eq!(matcher.push("A"), Watched::Text("STA".to_owned()));
        assert_eq!(matcher.push("ST"), Watched::Text(String::new()));
        assert_eq!(matcher.flush(), "ST");
    }
}

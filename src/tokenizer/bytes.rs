//! The byte-level alphabet: GPT-2's stand-in character for each byte, and each token's bytes.
//!
//! Source: `bytes_to_unicode` in openai/gpt-2, `src/encoder.py`. Bytes that print keep their own code
//! point; the other 68 take U+0100, U+0101, … in order.

/// The byte that a character of a byte-level token stands for.
fn byte_of(c: char) -> Option<u8> {
    match c {
        '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}' => Some(c as u32 as u8),
        // The hidden bytes in order: 00–20, 7f–a0, ad.
        '\u{100}'..='\u{120}' => Some((c as u32 - 0x100) as u8),
        '\u{121}'..='\u{142}' => Some((c as u32 - 0x121) as u8 + 0x7f),
        '\u{143}' => Some(0xad),
        _ => None,
    }
}

/// The character that stands for a byte.
pub(super) fn char_of(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
    };
    char::from_u32(code).unwrap_or_default()
}

/// The bytes of every token of a vocabulary, in one allocation.
#[derive(Debug)]
pub(super) struct TokenBytes {
    data: Vec<u8>,
    /// Token `i` is `data[ends[i - 1]..ends[i]]`.
    ends: Vec<u32>,
}

impl TokenBytes {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self {
            data: Vec::with_capacity(tokens * 8),
            ends: Vec::with_capacity(tokens),
        }
    }

    /// Appends a token written in the byte-level alphabet. One that is not (any character outside the
    /// alphabet) stands for its own UTF-8, as in the reference's decoder.
    pub(super) fn push_byte_level(&mut self, token: &str) {
        let start = self.data.len();
        for c in token.chars() {
            match byte_of(c) {
                Some(byte) => self.data.push(byte),
                None => {
                    self.data.truncate(start);
                    return self.push_text(token);
                }
            }
        }
        self.ends.push(self.data.len() as u32);
    }

    /// Appends a token that stands for its own UTF-8; the empty text for an id without a token.
    pub(super) fn push_text(&mut self, token: &str) {
        self.data.extend_from_slice(token.as_bytes());
        self.ends.push(self.data.len() as u32);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)? as usize;
        let start = if id == 0 {
            0
        } else {
            self.ends[id - 1] as usize
        };
        Some(&self.data[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_is_a_bijection_over_all_bytes() {
        let mut seen = [false; 256];
        let mut characters = 0;
        for c in '\0'..='\u{1000}' {
            if let Some(byte) = byte_of(c) {
                characters += 1;
                seen[usize::from(byte)] = true;
            }
        }
        assert_eq!(characters, 256);
        assert!(seen.iter().all(|&s| s));
        assert!((0..=255).all(|byte| byte_of(char_of(byte)) == Some(byte)));
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
    }

    #[test]
    fn a_token_outside_the_alphabet_stands_for_itself() {
        let mut bytes = TokenBytes::with_capacity(2);
        bytes.push_byte_level("Ġé");
        bytes.push_byte_level("a b");
        assert_eq!(bytes.get(0), Some(&b" \xe9"[..]));
        assert_eq!(bytes.get(1), Some(&b"a b"[..]));
        assert_eq!(bytes.get(2), None);
    }
}

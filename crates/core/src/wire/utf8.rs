//! The UTF-8 check: of a whole text, or of one that arrives in pieces. It keeps no text.

use super::FrameError;

/// Checks a whole text.
#[inline]
pub(super) fn check(text: &[u8]) -> Result<(), FrameError> {
    // What most messages are. A wide vector load of bytes unmasked just before would stall on
    // their narrower stores; this costs 4 ns less at 128 bytes.
    if text.len() <= 128 && text.is_ascii() {
        return Ok(());
    }
    match simdutf8::basic::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(FrameError::InvalidUtf8),
    }
}

/// Checks a text piece by piece and fails at the first byte that cannot belong to one.
#[derive(Clone, Debug, Default)]
pub(super) struct Checker {
    /// The start of a character whose rest has not come: a valid prefix of 1 to 3 bytes.
    tail: [u8; 3],
    tail_len: u8,
}

impl Checker {
    /// Checks the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), FrameError> {
        while self.tail_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            self.complete(byte)?;
            piece = rest;
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            // No length: the piece ends inside a character that is right so far.
            Err(error) if error.error_len().is_none() => {
                self.keep(&piece[error.valid_up_to()..]);
                Ok(())
            }
            Err(_) => Err(FrameError::InvalidUtf8),
        }
    }

    /// Ends the text, which must not end inside a character.
    pub(super) fn finish(&mut self) -> Result<(), FrameError> {
        if self.tail_len > 0 {
            return Err(FrameError::InvalidUtf8);
        }
        Ok(())
    }

    /// Adds one byte to the character that has begun.
    fn complete(&mut self, byte: u8) -> Result<(), FrameError> {
        let len = self.tail_len as usize;
        let mut character = [0; 4];
        character[..len].copy_from_slice(&self.tail[..len]);
        character[len] = byte;
        match std::str::from_utf8(&character[..=len]) {
            Ok(_) => self.tail_len = 0,
            Err(error) if error.error_len().is_none() => self.keep(&character[..=len]),
            Err(_) => return Err(FrameError::InvalidUtf8),
        }
        Ok(())
    }

    fn keep(&mut self, prefix: &[u8]) {
        self.tail[..prefix.len()].copy_from_slice(prefix);
        self.tail_len = prefix.len() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the text at once and at every split into three; gives how many bytes came before
    /// the first refusal, a byte at a time.
    fn check_every_way(text: &[u8]) -> Result<(), usize> {
        let whole = check(text);
        for second in 0..=text.len() {
            for first in 0..=second {
                let mut checker = Checker::default();
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                let result = pieces.iter().try_for_each(|piece| checker.push(piece));
                assert_eq!(result.and_then(|()| checker.finish()), whole, "{first} {second}");
            }
        }
        let mut checker = Checker::default();
        for (at, byte) in text.iter().enumerate() {
            checker.push(&[*byte]).map_err(|_| at)?;
        }
        checker.finish().map_err(|_| text.len())
    }

    #[track_caller]
    fn valid(text: &str) {
        assert_eq!(check_every_way(text.as_bytes()), Ok(()));
    }

    #[track_caller]
    fn invalid_at(text: &[u8], at: usize) {
        assert_eq!(check_every_way(text), Err(at));
    }

    #[test]
    fn text_is_valid_however_it_is_cut() {
        for text in ["", "a", "κόσμε", "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "\0\u{feff}"]
        {
            valid(text);
        }
    }

    #[test]
    fn the_first_byte_that_cannot_be_right_is_refused() {
        invalid_at(b"\x80", 0);
        invalid_at(b"ab\xff", 2);
        invalid_at(b"\xc0\x80", 0); // overlong
        invalid_at(b"\xe0\x80\x80", 1); // overlong
        invalid_at(b"\xed\xa0\x80", 1); // a surrogate
        invalid_at(b"\xf4\x90\x80\x80", 1); // over U+10FFFF
        invalid_at(b"\xf5\x80\x80\x80", 0);
        invalid_at(b"\xe2\x82x", 2);
        invalid_at(b"a\xf0\x9f\x98", 4); // ends inside a character
    }
}

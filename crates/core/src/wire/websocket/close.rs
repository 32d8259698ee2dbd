//! The payload of a close frame (RFC 6455, sections 5.5.1 and 7.4): a code and a reason, checked.

use crate::wire::{FrameError, utf8};

/// The peer's code, or `None` when the frame is empty.
pub(super) fn parse(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(FrameError::Protocol("close payload of one byte"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(FrameError::Protocol("close code that may not be sent"));
    }
    utf8::check(reason)?;
    Ok(Some(code))
}

/// Whether an endpoint may send this code: those of section 7.4.1 without the reserved 1004, 1005,
/// 1006 and 1015, those registered with IANA since (1012 to 1014), and the ranges for libraries
/// and applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(payload: &[u8], expected: Result<Option<u16>, FrameError>) {
        assert_eq!(parse(payload), expected, "{payload:?}");
    }

    #[test]
    fn a_close_is_empty_or_a_code_with_a_reason() {
        check(b"", Ok(None));
        check(b"\x03\xe8", Ok(Some(1000)));
        check(b"\x03\xe9going away", Ok(Some(1001)));
        check(b"\x03", Err(FrameError::Protocol("close payload of one byte")));
        check(b"\x03\xe8\xce\xba\xe1", Err(FrameError::InvalidUtf8));
    }

    #[test]
    fn only_codes_that_may_be_sent_are_taken() {
        for code in [1000, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            check(&u16::to_be_bytes(code), Ok(Some(code)));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, u16::MAX] {
            let refused = Err(FrameError::Protocol("close code that may not be sent"));
            check(&code.to_be_bytes(), refused);
        }
    }
}

//! From a message to what is published of it.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::refusal::Refusal;

/// What is published of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataForm {
    /// JSON as it is, other text as a JSON string.
    #[default]
    Auto,
    /// JSON as it is, and nothing else.
    Json,
    /// Any text, as a JSON string.
    Text,
    /// Any bytes as they are. Subscribers whose encoding is JSON can only read those that are JSON.
    Bytes,
}

/// What is published of `message`; `is_json` when it is known to be.
///
/// # Errors
///
/// It is not of the form.
pub(super) fn payload(
    form: DataForm,
    message: &[u8],
    is_json: bool,
) -> Result<Cow<'_, [u8]>, Refusal> {
    if form == DataForm::Bytes {
        return Ok(Cow::Borrowed(message));
    }
    // JSON that is skipped may hold bytes which are no text.
    let text = std::str::from_utf8(message).map_err(|_error| Refusal::NotText)?;
    let is_json =
        form != DataForm::Text && (is_json || serde_json::from_str::<IgnoredAny>(text).is_ok());
    match form {
        _ if is_json => Ok(Cow::Borrowed(message)),
        DataForm::Json => Err(Refusal::NotJson),
        DataForm::Auto | DataForm::Text | DataForm::Bytes => {
            let string = serde_json::to_vec(text).expect("text is a JSON string");
            Ok(Cow::Owned(string))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: DataForm, message: &[u8], expected: Option<&[u8]>) {
        let made = payload(form, message, false).ok();
        assert_eq!(made.as_deref(), expected, "{form:?} of {message:?}");
    }

    #[test]
    fn json_is_published_as_it_is_and_other_text_as_a_string() {
        for json in [&b"{\"a\": 1}"[..], b"27.5", b" [1,\n2] ", b"\"x\"", b"null"] {
            check(DataForm::Auto, json, Some(json));
            check(DataForm::Json, json, Some(json));
            check(DataForm::Bytes, json, Some(json));
        }
        check(DataForm::Auto, b"27.5 C \"warm\"", Some(br#""27.5 C \"warm\"""#));
        check(DataForm::Auto, b"", Some(b"\"\""));
        check(DataForm::Json, b"27.5 C", None);
        check(DataForm::Text, b"27.5", Some(b"\"27.5\""));
    }

    #[test]
    fn bytes_that_are_no_text_are_published_only_as_bytes() {
        for form in [DataForm::Auto, DataForm::Json, DataForm::Text] {
            check(form, b"\xff\x00", None);
            assert_eq!(payload(form, b"{\"a\":\"\xff\"}", true), Err(Refusal::NotText));
        }
        check(DataForm::Bytes, b"\xff\x00", Some(b"\xff\x00"));
    }
}

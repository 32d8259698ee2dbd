//! A value that is never shown: not in logs, not in a fault, not in `/config`.

use std::fmt;

use serde_json::Value as Json;

use super::raw::{Raw, Refused, Setting};

/// A secret: visible ASCII without spaces, at least [`Secret::BYTES_MIN`] long.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Shorter ones could be guessed through the side port.
    pub const BYTES_MIN: usize = 16;

    /// The secret itself. Compare it in constant time.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Setting for Secret {
    const SECRET: bool = true;

    fn wanted() -> String {
        format!("a secret of at least {} visible ASCII characters", Self::BYTES_MIN)
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?;
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && text.len() >= Self::BYTES_MIN)
            .then(|| Self(text.to_owned()))
            .ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        "[redacted]".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let raw = Raw::Text("correct-horse-battery".to_owned());
        let secret = Secret::read(&raw).expect("a secret");
        assert_eq!(secret.expose(), "correct-horse-battery");
        assert_eq!(format!("{secret:?} {}", secret.show()), "[redacted] \"[redacted]\"");
        assert_eq!(format!("{raw:?}"), "Text(..)");
        let short = Raw::Text("hunter2".to_owned());
        let refused = Secret::read(&short).expect_err("too short").text::<Secret>(&short);
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

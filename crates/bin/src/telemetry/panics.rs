//! A panic is one log line: where it was and what it says. Nothing else of the program is in it: no
//! backtrace, no argument, no local variable.

use std::panic::PanicHookInfo;

/// Makes a panic one log line, in place of several on standard error.
pub(super) fn log() {
    std::panic::set_hook(Box::new(tell));
}

fn tell(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let text = panic.payload_as_str().unwrap_or("a value that is no text");
    tracing::error!(thread, at, text, "panic");
}

#[cfg(test)]
mod tests {
    use crate::telemetry::captured::logged;

    #[test]
    fn a_panic_is_one_line_of_where_it_was_and_what_it_says() {
        let before = std::panic::take_hook();
        super::log();
        let secret = "a-secret-beside-it";
        let line = logged(|| {
            let panicked = std::panic::catch_unwind(|| panic!("{} bytes", secret.len()));
            assert!(panicked.is_err());
        });
        std::panic::set_hook(before);
        let mut fields: Vec<&str> =
            line.as_object().expect("one").keys().map(|key| &**key).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["at", "level", "msg", "target", "text", "thread", "ts"]);
        assert_eq!(line["text"], "18 bytes");
        assert!(line["at"].as_str().is_some_and(|at| at.contains("panics.rs:")), "{line}");
        assert!(!line.to_string().contains(secret));
    }
}

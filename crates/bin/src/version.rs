//! Which build this is, as far as the build knew.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The first digits of the commit it was built from.
pub const COMMIT: &str = env!("BUILT_FROM_COMMIT");
/// The compiler.
pub const RUSTC: &str = env!("BUILT_BY_RUSTC");
/// The platform it was built for.
pub const TARGET: &str = env!("BUILT_FOR_TARGET");

/// All of it in one line, as `weir --version` prints it after the name.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("BUILT_FROM_COMMIT"),
    ", ",
    env!("BUILT_BY_RUSTC"),
    ", ",
    env!("BUILT_FOR_TARGET"),
    ")"
);

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_build_tells_is_no_setting() {
        // `cargo run` gives the program these variables, and one that begins with WEIR_ would be
        // a setting that nobody knows.
        assert!(!include_str!("../build.rs").contains("rustc-env=WEIR_"));
    }
}

//! Which build this is, as far as the build knew.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The first digits of the commit it was built from.
pub const COMMIT: &str = env!("WEIR_COMMIT");
/// The compiler.
pub const RUSTC: &str = env!("WEIR_RUSTC");
/// The platform it was built for.
pub const TARGET: &str = env!("WEIR_TARGET");

/// All of it in one line, as `weir --version` prints it after the name.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("WEIR_COMMIT"),
    ", ",
    env!("WEIR_RUSTC"),
    ", ",
    env!("WEIR_TARGET"),
    ")"
);

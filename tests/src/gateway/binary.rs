//! Where the program under test is, and that it is not an old one.

use std::path::PathBuf;

use tokio::process::Command;
use tokio::sync::OnceCell;

/// A command that runs weir with no environment but a path: variables that begin with `WEIR_` are
/// settings.
pub async fn weir_command() -> Command {
    let mut command = Command::new(weir_binary().await);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// A command that runs the weir-load that lies beside the weir under test.
pub async fn weir_load_command() -> Command {
    Command::new(weir_binary().await.with_file_name("weir-load"))
}

/// The weir to test: `TESTED_WEIR` when it is set (`make test` builds once and sets it), otherwise
/// the workspace's own, which is brought up to date first, once in each test program.
///
/// # Panics
///
/// When it cannot be built.
async fn weir_binary() -> PathBuf {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    BINARY.get_or_init(find).await.clone()
}

async fn find() -> PathBuf {
    if let Some(path) = std::env::var_os("TESTED_WEIR") {
        return path.into();
    }
    // The whole workspace is named, so that features are those of `cargo test --workspace` and
    // nothing is compiled a second time.
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--workspace", "--bin", "weir", "--bin", "weir-load"]);
    build.current_dir(crate::tools::repository());
    let status = build.status().await.expect("cargo starts");
    assert!(status.success(), "cargo build failed");
    beside_this_program()
}

/// Test programs lie in `target/debug/deps`, the program under test one folder up.
fn beside_this_program() -> PathBuf {
    let this = std::env::current_exe().expect("a test program knows its path");
    let deps = this.parent().expect("a program lies in a folder");
    let folder = deps.parent().expect("deps lies in the profile's folder");
    folder.join("weir")
}

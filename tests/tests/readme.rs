//! The README's tour, word for word: every command is run as it stands there, against a weir with
//! nothing but its built-in settings, and must print what the README says.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;
use weir_tests::tools::{self, Finished};
use weir_tests::wait::eventually;
use weir_tests::{Browser, Gateway};

/// A command of the tour and what it prints.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

/// The fenced blocks of one language, in order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let starts = text.split(&fence).skip(1);
    starts.map(|rest| rest.split("```").next().expect("a block").to_owned()).collect()
}

/// Lines that begin with `$ ` are commands, those below one are its output.
fn steps(block: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                steps.push(Step { command: command.to_owned(), output: String::new() });
            }
            (None, Some(step)) => step.output = step.output.clone() + line + "\n",
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    steps
}

/// A folder for what the tour's commands write.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-tests-readme-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}

async fn shell(command: &str, folder: &PathBuf) -> Finished {
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).current_dir(folder);
    tools::run(bash, "").await
}

#[tokio::test]
async fn the_tour_is_true_word_for_word() {
    let readme = tools::read("README.md");
    let mut gateway = Gateway::built_in().await;
    let folder = folder();
    let tour = blocks(&readme, "console");
    assert!(tour.len() >= 6, "a tour of {} stops", tour.len());
    for step in tour.iter().flat_map(|block| steps(block)) {
        check(&step, &folder).await;
    }
    let scripts = blocks(&readme, "js");
    assert_eq!(scripts.len(), 1);
    run_in_a_page(&scripts[0]).await;

    gateway.signal(Signal::INT);
    assert_eq!(gateway.exit_code().await, 0);
    std::fs::remove_dir_all(folder).expect("the folder is ours");
}

/// Runs one command. What it asks of weir may be a moment behind what was sent to weir.
async fn check(step: &Step, folder: &PathBuf) {
    let expected = step.output.trim_end();
    eventually(&format!("{step:?}"), async || {
        let finished = shell(&step.command, folder).await;
        let printed = finished.stdout.trim_end();
        if expected.is_empty() {
            assert_eq!(finished.code, 0, "{step:?}: {finished:?}");
        }
        if printed != expected {
            eprintln!("{} printed {printed:?} {:?}", step.command, finished.stderr);
        }
        (printed == expected).then_some(())
    })
    .await;
}

/// Pastes the script into the console of a page of weir's own host.
async fn run_in_a_page(script: &str) {
    let mut browser = Browser::open("http://127.0.0.1:8080/").await;
    browser.run("window.printed = []; console.log = (text) => printed.push(text);").await;
    browser.run(script).await;
    let printed = browser.run(
        "new Promise((done) => { \
           const look = () => printed.length ? done(printed) : setTimeout(look, 20); look(); })",
    );
    assert_eq!(printed.await, Value::from(vec!["hello from a page"]));
}

#[tokio::test]
async fn the_settings_that_are_shown_are_read() {
    let readme = tools::read("README.md");
    let settings = blocks(&readme, "toml");
    assert!(!settings.is_empty());
    for text in settings {
        let file = weir_tests::gateway::config_file(&text);
        let mut weir = weir_tests::gateway::weir_command().await;
        weir.arg("--config").arg(&file).arg("check");
        let finished = tools::run(weir, "").await;
        std::fs::remove_file(file).expect("the file is ours");
        assert_eq!(finished.code, 0, "{text}\n{}", finished.stderr);
    }
}

//! The protocol against those who speak it: what is written is read by the SDKs' own codecs, as they come out of
//! their packages, to the same values in both encodings; and what they write is read here.

pub mod samples;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use serde_json::{Value, json};
use weir_channels::protocol::emulation::EmulationRequest;
use weir_channels::protocol::{Command, Encoding, Limits, Reply, frame};

const BOTH: [(Encoding, &str); 2] = [(Encoding::Json, "json"), (Encoding::Protobuf, "protobuf")];

/// An SDK whose codecs answer questions.
struct Oracle {
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// Whether it knows the fields of experimental types.
    knows_experimental: bool,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn javascript() -> Oracle {
    let modules = here("../../tests/.tools/node_modules");
    assert!(modules.join("centrifuge").exists(), "no SDK: run tests/setup/install.sh");
    let arguments = vec![here("tests/sdk/oracle.js"), modules];
    Oracle { program: "node".into(), arguments, knows_experimental: true }
}

fn python() -> Oracle {
    let program = here("../../tests/.tools/venv/bin/python");
    assert!(program.exists(), "no SDK: run tests/setup/install.sh");
    let arguments = vec![here("tests/sdk/oracle.py")];
    Oracle { program, arguments, knows_experimental: false }
}

impl Oracle {
    /// Asks all at once: an answer a question.
    fn ask(&self, questions: &[Value]) -> Vec<Value> {
        let mut process = Process::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
        let mut input = process.stdin.take().expect("it has an input");
        // Both oracles read everything, or a line at a time: neither is waited for while it waits.
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = process.wait_with_output().expect("it ends");
        writer.join().expect("no panic").expect("it reads its questions");
        assert!(output.status.success());
        let answers = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let answers = answers.map(|line| serde_json::from_slice(line).expect("it answers in JSON"));
        let answers: Vec<Value> = answers.collect();
        assert_eq!(answers.len(), questions.len());
        answers
    }

    fn knows(&self, is_experimental: bool) -> bool {
        self.knows_experimental || !is_experimental
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

/// A value without what is zero, as the oracles give theirs.
fn plain(value: &Value) -> Option<Value> {
    const MAPS: [&str; 4] = ["subs", "headers", "tags", "presence"];
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) => (number.as_f64() != Some(0.0)).then(|| value.clone()),
        Value::String(text) => (!text.is_empty()).then(|| value.clone()),
        Value::Array(list) => (!list.is_empty())
            .then(|| list.iter().map(|item| plain(item).unwrap_or(Value::Null)).collect()),
        Value::Object(fields) => {
            let kept =
                fields.iter().filter_map(|(name, field)| Some((name.clone(), plain(field)?)));
            let is_nothing =
                |name: &str, field: &Value| *field == json!({}) && MAPS.contains(&name);
            Some(Value::Object(kept.filter(|(name, field)| !is_nothing(name, field)).collect()))
        }
        Value::Bool(true) => Some(value.clone()),
    }
}

/// What we write is one value to the SDK, whichever encoding it comes in, and it is the value that the JSON
/// says.
fn reads_what_we_write(oracle: &Oracle) {
    let samples = samples::replies();
    let replies: Vec<&Reply<'_>> = samples
        .iter()
        .filter(|(_, is_experimental)| oracle.knows(*is_experimental))
        .map(|(reply, _)| reply)
        .collect();
    let (mut questions, mut expected) = (Vec::new(), Vec::new());
    for reply in &replies {
        for (encoding, name) in BOTH {
            let mut frame = Vec::new();
            reply.encode(encoding, &mut frame).expect("it can be written");
            if encoding == Encoding::Json {
                let value: Value = serde_json::from_slice(&frame).expect("it is JSON");
                expected.push(plain(&value).expect("an object"));
            }
            questions.push(json!({ "encoding": name, "read": hex(&frame) }));
        }
    }
    // All of them in one frame, too.
    for (encoding, name) in BOTH {
        let mut joiner = frame::Joiner::new(encoding, usize::MAX, usize::MAX);
        for reply in &replies {
            assert_eq!(joiner.push(reply), Ok(None));
        }
        questions.push(json!({ "encoding": name, "read": hex(&joiner.take().expect("a frame")) }));
    }
    let mut answers = oracle.ask(&questions);
    let frames = answers.split_off(2 * expected.len());
    for (reply, (answers, expected)) in replies.iter().zip(answers.chunks(2).zip(&expected)) {
        for answer in answers {
            let read = answer[0].as_object().map(|_| plain(&answer[0]));
            assert_eq!(read, Some(Some(expected.clone())), "{reply:?}");
        }
    }
    for frame in frames {
        let read = frame.as_array().expect("replies").iter().map(plain);
        assert_eq!(read.collect::<Option<Vec<_>>>().as_ref(), Some(&expected));
    }
}

fn in_json(command: &Command<'_>) -> Value {
    let mut line = Vec::new();
    command.encode(Encoding::Json, &mut line).expect("it can be written");
    serde_json::from_slice(&line).expect("it is JSON")
}

/// What the SDK writes is the command that was meant.
fn writes_what_we_read(oracle: &Oracle) {
    let samples = samples::commands();
    let commands: Vec<&Command<'_>> = samples
        .iter()
        .filter(|(_, is_experimental)| oracle.knows(*is_experimental))
        .map(|(command, _)| command)
        .collect();
    let meant: Vec<Value> = commands.into_iter().map(in_json).collect();
    let questions = BOTH.map(|(_, name)| json!({ "encoding": name, "write": meant }));
    for ((encoding, _), answer) in BOTH.iter().zip(oracle.ask(&questions)) {
        let frame = unhex(answer.as_str().expect("a frame"));
        let read = frame::commands(*encoding, &frame, &Limits::default());
        let read: Vec<_> = read.collect::<Result<_, _>>().expect("every command is one");
        // Payloads come with other white space and escapes: the values are compared.
        assert_eq!(read.iter().map(in_json).collect::<Vec<_>>(), meant, "{encoding:?}");
    }
}

#[test]
fn the_javascript_sdk_reads_every_reply_and_push() {
    reads_what_we_write(&javascript());
}

#[test]
fn the_javascript_sdk_writes_commands_that_are_understood() {
    writes_what_we_read(&javascript());
}

#[test]
fn the_javascript_sdk_emulates_with_requests_that_are_understood() {
    for (encoding, name) in BOTH {
        let mut data = Vec::new();
        for (command, _) in samples::commands() {
            if encoding == Encoding::Json && !data.is_empty() {
                data.push(b'\n');
            }
            command.encode(encoding, &mut data).expect("it can be written");
        }
        let request = json!({ "node": "n-1", "session": "żółw", "data": hex(&data) });
        let answers = javascript().ask(&[json!({ "encoding": name, "emulate": request })]);
        let body = unhex(answers[0].as_str().expect("a body"));
        let read = EmulationRequest::decode(encoding, &body).expect("it is one");
        assert_eq!((&*read.node, &*read.session, &*read.data), ("n-1", "żółw", &data[..]));
    }
}

#[test]
fn the_python_sdk_reads_every_reply_and_push() {
    reads_what_we_write(&python());
}

#[test]
fn the_python_sdk_writes_commands_that_are_understood() {
    writes_what_we_read(&python());
}

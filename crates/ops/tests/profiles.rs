//! What profiles promise: they name the function that runs, to a reader that is not ours, one at a
//! time, and leave nothing armed behind.

mod support;

use std::hint::black_box;
use std::io::Write;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use support::{Side, eventually, start};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the program sets: profiling is compiled in and off.
#[expect(unsafe_code, reason = "jemalloc reads its settings from a symbol of this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 46] = b"prof:true,prof_active:false,lg_prof_sample:12\0";

/// One process has one profiler: tests that take profiles take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Burns CPU on a named thread until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        Self::of(|| {
            the_caller_of_the_busy_function();
        })
    }

    fn of(work: impl Fn() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("busy-thread".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    work();
                }
            })
            .expect("a thread");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[inline(never)]
fn the_caller_of_the_busy_function() -> u64 {
    black_box(the_busy_function(black_box(10_000))) + 1
}

#[inline(never)]
fn the_busy_function(rounds: u64) -> u64 {
    let mut sum = rounds;
    let mut round = 0;
    // Nothing is called here, also without optimisation.
    while round < rounds {
        sum ^= (sum << 7) ^ round;
        round += 1;
    }
    sum
}

/// What Go's reader says of a profile; `None` where Go is not installed.
fn go_tool_pprof(arguments: &[&str], profile: &[u8]) -> Option<String> {
    let file = std::env::temp_dir().join(format!("weir-ops-{}.pb.gz", std::process::id()));
    std::fs::write(&file, profile).expect("a file");
    let read = Command::new("go").args(["tool", "pprof"]).args(arguments).arg(&file).output();
    std::fs::remove_file(&file).expect("the file");
    let Ok(read) = read else {
        eprintln!("go is not installed: the profile was not read by another's reader");
        return None;
    };
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    Some(String::from_utf8_lossy(&read.stdout).into_owned())
}

fn profile(side: &Side, path: &str) -> Vec<u8> {
    let reply = side.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.body
}

#[test]
fn a_cpu_profile_names_the_function_that_runs_its_caller_its_line_and_its_thread() {
    let _turn = TURN.lock();
    let (side, _load) = (start(), Load::start());
    let profile = profile(&side, "/debug/pprof/profile?seconds=1");
    let Some(top) = go_tool_pprof(&["-top"], &profile) else { return };
    // flat flat% sum% cum cum% name
    let line = |name: &str| {
        let line = top.lines().find(|line| line.trim_end().ends_with(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{top}")).to_owned()
    };
    let percent = |line: &str, column: usize| -> f64 {
        let field = line.split_ascii_whitespace().nth(column).expect("a column");
        field.trim_end_matches('%').parse().expect("a share")
    };
    assert!(percent(&line("profiles::the_busy_function"), 1) > 80.0, "{top}");
    let caller = line("profiles::the_caller_of_the_busy_function");
    assert!(percent(&caller, 4) > 80.0 && percent(&caller, 1) < 10.0, "{top}");

    let lines = go_tool_pprof(&["-list", "the_busy_function"], &profile);
    assert!(lines.is_some_and(|lines| lines.contains("tests/profiles.rs")));
    let tags = go_tool_pprof(&["-tags"], &profile).expect("go, as before");
    assert!(tags.contains("busy-thread"), "{tags}");
}

#[inline(never)]
fn the_function_that_sends(socket: &UdpSocket) -> usize {
    black_box(socket.send(black_box(&[1; 1024])).expect("a datagram")) + 1
}

#[test]
fn time_in_the_kernel_belongs_to_the_function_that_went_there() {
    let _turn = TURN.lock();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(socket.local_addr().expect("bound")).expect("connected to itself");
    let send = move || {
        the_function_that_sends(&socket);
    };
    let (side, _load) = (start(), Load::of(send));
    let profile = profile(&side, "/debug/pprof/profile?seconds=1");
    let Some(top) = go_tool_pprof(&["-top", "-cum"], &profile) else { return };
    for name in ["profiles::the_function_that_sends", "start_thread"] {
        let line = top.lines().find(|line| line.trim_end().ends_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{top}"));
        let share = line.split_ascii_whitespace().nth(4).expect("a column").trim_end_matches('%');
        assert!(share.parse::<f64>().expect("a share") > 80.0, "{top}");
    }
}

#[test]
fn the_cpu_time_of_a_profile_is_what_the_process_used() {
    let _turn = TURN.lock();
    let (side, _load) = (start(), Load::start());
    for hz in [50, 1000] {
        let profile = profile(&side, &format!("/debug/pprof/profile?seconds=1&hz={hz}"));
        let Some(raw) = go_tool_pprof(&["-raw"], &profile) else { return };
        let values = |line: &str| -> Option<f64> {
            line.split_once(':')?.0.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        let samples = raw.lines().skip_while(|line| !line.starts_with("samples/")).skip(1);
        let total: f64 =
            samples.take_while(|line| !line.starts_with("Locations")).filter_map(values).sum();
        // One thread burns all it gets for a second; the machine may give it less.
        assert!((0.1e9..1.9e9).contains(&total), "{hz} Hz: {total}\n{raw}");
    }
}

#[test]
fn a_flamegraph_is_a_picture_of_the_same() {
    let _turn = TURN.lock();
    let (side, _load) = (start(), Load::start());
    let reply = side.get("/debug/pprof/profile?seconds=1&format=svg");
    assert_eq!(reply.header("content-type").as_deref(), Some("image/svg+xml"));
    let svg = reply.text();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for name in ["busy-thread", "profiles::the_busy_function", "all 100.00%"] {
        assert!(svg.contains(name), "no {name}");
    }
}

#[test]
fn profiles_are_taken_one_at_a_time_while_all_else_answers() {
    let _turn = TURN.lock();
    let (side, _load) = (start(), Load::start());
    let mut first = side.connect();
    first
        .write_all(b"GET /debug/pprof/profile?seconds=2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    eventually("the first runs", || !side.get("/debug/pprof/").json()["running"].is_null());
    for path in ["/debug/pprof/profile?seconds=1", "/debug/pprof/heap"] {
        let second = side.get(path);
        assert_eq!(second.status, 409, "{path}");
        let local = first.local_addr().expect("an address").to_string();
        assert!(second.text().contains(&local), "{}", second.text());
    }
    assert_eq!(side.get("/healthz").status, 200);
    assert_eq!(side.get("/metrics").status, 200);
    assert_eq!(support::read(&mut first).status, 200);
    assert_eq!(side.get("/debug/pprof/profile?seconds=61").status, 400);
}

#[test]
fn a_profile_whose_reader_left_makes_room_for_the_next() {
    let _turn = TURN.lock();
    let side = start();
    let mut first = side.connect();
    first
        .write_all(b"GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    eventually("the first runs", || !side.get("/debug/pprof/").json()["running"].is_null());
    assert!(handles_sigprof());
    drop(first);
    eventually("the first is gone", || side.get("/debug/pprof/").json()["running"].is_null());
    assert!(!handles_sigprof());
}

#[test]
fn profiles_in_a_row_leave_nothing_armed() {
    let _turn = TURN.lock();
    let (side, _load, _second) = (start(), Load::start(), Load::start());
    assert!(!handles_sigprof());
    for _ in 0..3 {
        profile(&side, "/debug/pprof/profile?seconds=1&hz=1000");
        assert!(!handles_sigprof(), "the handler stayed");
    }
}

/// Whether a handler for SIGPROF (27) is installed (proc(5), `SigCgt`).
fn handles_sigprof() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    let mask = u64::from_str_radix(line.trim(), 16).expect("a number");
    mask & (1 << 26) != 0
}

#[inline(never)]
fn the_function_that_holds_memory() -> Vec<Vec<u8>> {
    (0..1000).map(|_| black_box(vec![1; 4096])).collect()
}

#[test]
fn a_heap_profile_names_who_holds_what_was_allocated_meanwhile() {
    let _turn = TURN.lock();
    let side = start();
    let mut asked = side.connect();
    asked
        .write_all(b"GET /debug/pprof/heap?seconds=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    eventually("sampling is on", || !side.get("/debug/pprof/").json()["running"].is_null());
    let held = the_function_that_holds_memory();
    let reply = support::read(&mut asked);
    assert_eq!(reply.status, 200, "{}", reply.text());
    drop(held);
    let Some(top) = go_tool_pprof(&["-top", "-cum", "-unit=kb"], &reply.body) else { return };
    let line = top.lines().find(|line| line.contains("the_function_that_holds_memory"));
    let line = line.unwrap_or_else(|| panic!("not named in\n{top}"));
    let held = line.split_ascii_whitespace().nth(3).expect("a column");
    let held: f64 = held.trim_end_matches("kB").parse().expect("kilobytes");
    assert!((2_000.0..8_000.0).contains(&held), "4,000 kB were held: {line}");
    let svg = side.get("/debug/pprof/heap?seconds=1&format=svg");
    assert_eq!(svg.status, 200);
    std::thread::sleep(Duration::from_millis(1));
}

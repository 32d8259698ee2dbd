//! The CPU sampler: a timer on the process's CPU time, and a signal handler that writes the stack
//! of the thread it interrupts into memory set aside for it. Both exist only while a profile is
//! taken.
//!
//! Why not the `pprof` crate: walking frame pointers it starts at the first return address, so
//! that the function which runs is missing from every stack and its time counts as its caller's;
//! see docs/decisions/cpu-sampler.md.
//!
//! The walk needs frame pointers (`.cargo/config.toml`). It starts at the program counter, so that
//! the running function is always there; its caller, where it has no frame, is found by [`caller`].

#![expect(unsafe_code, reason = "a signal handler, its timer, and the registers it is given")]

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::caller;
use super::mappings;
use super::profile::{Profile, Sample, ValueKind};

/// Whether this platform can be sampled.
pub(super) const AVAILABLE: bool =
    cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")));

/// Most frames of a stack; outer ones are left out.
const DEPTH_MAX: usize = 128;
/// Words set aside for each expected sample: its header and an ordinary stack.
const WORDS_PER_SAMPLE: usize = 48;
/// Bounds of the memory for samples, in words: 1 MiB to 32 MiB.
const WORDS_MIN: usize = 128 * 1024;
const WORDS_MAX: usize = 4 * 1024 * 1024;
/// A frame is at most this far from the one before, in bytes; what is further is no stack.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Where the handler writes. Null: it does nothing.
static ARENA: AtomicPtr<Arena> = AtomicPtr::new(ptr::null_mut());
/// Handlers that may be using `ARENA` now.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// This process, for reading its own memory.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// Where the program's own code begins and ends; the rest is libraries.
static PROGRAM: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Memory that samples are written to, one after the other, without a lock: a header (thread and
/// number of addresses) and the addresses, innermost first. A zero header is the end.
struct Arena {
    words: Box<[AtomicUsize]>,
    used: AtomicUsize,
    lost: AtomicUsize,
}

/// Why the CPU cannot be sampled.
#[derive(Debug, thiserror::Error)]
pub(super) enum SamplerError {
    #[error("CPU profiles are taken on Linux on x86_64 and aarch64 only")]
    Platform,
    #[error("this process may not read its own memory (process_vm_readv): {0}")]
    Memory(io::Error),
    #[error("the profiling timer cannot be set: {0}")]
    Timer(io::Error),
}

/// A CPU profile that is being taken. At most one exists, by the slot of `Profiles`.
pub(super) struct Sampler {
    arena: *mut Arena,
    hz: u32,
    started: Instant,
    cpu_before: Duration,
}

// SAFETY: `arena` is shared with the handler through atomics only, and freed by the one owner.
unsafe impl Send for Sampler {}

/// What was sampled.
pub(super) struct Samples {
    stacks: HashMap<(u32, Vec<usize>), u64>,
    lost: usize,
    hz: u32,
    duration: Duration,
    cpu: Duration,
}

impl Sampler {
    /// Starts sampling `hz` times for each second of CPU time, with room for `seconds`.
    ///
    /// # Errors
    /// Where the platform or its rules do not allow it.
    pub(super) fn start(hz: u32, seconds: u32) -> Result<Self, SamplerError> {
        if !AVAILABLE {
            return Err(SamplerError::Platform);
        }
        PROCESS.store(std::process::id().cast_signed(), Ordering::Relaxed);
        let here = [0_u8; WORD];
        if read_memory(here.as_ptr() as usize, &mut [0; WORD]).is_none() {
            return Err(SamplerError::Memory(io::Error::last_os_error()));
        }
        find_program();
        let arena = Box::into_raw(Box::new(Arena::for_samples(hz, seconds)));
        let sampler =
            Self { arena, hz, started: Instant::now(), cpu_before: cpu_time_of_process() };
        ARENA.store(arena, Ordering::SeqCst);
        // From here on dropping `sampler` undoes all of it.
        handle_ticks().map_err(SamplerError::Timer)?;
        set_timer(hz).map_err(SamplerError::Timer)?;
        Ok(sampler)
    }

    /// Stops sampling and takes what was sampled.
    pub(super) fn stop(self) -> Samples {
        self.disarm();
        // SAFETY: `disarm` has taken the arena out of the handler's reach; `Drop` frees it later.
        let arena = unsafe { &*self.arena };
        Samples {
            stacks: arena.stacks(),
            lost: arena.lost.load(Ordering::Relaxed),
            hz: self.hz,
            duration: self.started.elapsed(),
            cpu: cpu_time_of_process().saturating_sub(self.cpu_before),
        }
    }

    /// Stops the timer and waits until no handler can touch the arena. Twice is as good as once.
    fn disarm(&self) {
        if let Err(error) = set_timer(0) {
            tracing::error!(%error, "the profiling timer cannot be stopped");
        }
        ARENA.store(ptr::null_mut(), Ordering::SeqCst);
        // A handler counts itself before it loads the pointer, so one that is not seen here finds
        // null. Handlers take microseconds and wait for nothing.
        while INSIDE.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        ignore_ticks();
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.disarm();
        // SAFETY: made by `Box::into_raw` in `start`, out of the handler's reach, freed only here.
        drop(unsafe { Box::from_raw(self.arena) });
    }
}

impl Samples {
    /// The profile that began at `since`. CPU time is what the kernel counted for the process,
    /// spread over the samples: the timer cannot tick faster than the kernel does.
    pub(super) fn into_profile(self, since: SystemTime) -> Profile {
        let samples = self.stacks.values().sum::<u64>().max(1);
        let each = self.cpu.as_nanos() as u64 / samples;
        let names = self.thread_names();
        let mut comments = Vec::new();
        if self.lost > 0 {
            comments.push(format!("{} samples were lost: no room", self.lost));
        }
        let cpu = ValueKind { name: "cpu", unit: "nanoseconds" };
        Profile {
            kinds: [ValueKind { name: "samples", unit: "count" }, cpu],
            samples: self
                .stacks
                .into_iter()
                .map(|((thread, stack), count)| Sample {
                    stack,
                    values: [count.cast_signed(), (count * each).cast_signed()],
                    thread: names.get(&thread).cloned(),
                })
                .collect(),
            period: (cpu, i64::from(1_000_000_000 / self.hz)),
            since,
            duration: self.duration,
            comments,
        }
    }

    fn thread_names(&self) -> HashMap<u32, String> {
        let name = |thread: u32| {
            std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"))
                .map_or_else(|_| format!("ended {thread}"), |name| name.trim_end().to_owned())
        };
        self.stacks.keys().map(|(thread, _)| (*thread, name(*thread))).collect()
    }
}

impl Arena {
    fn for_samples(hz: u32, seconds: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let words = (hz as usize)
            .saturating_mul(seconds as usize)
            .saturating_mul(cores * WORDS_PER_SAMPLE)
            .clamp(WORDS_MIN, WORDS_MAX);
        Self::with_words(words)
    }

    fn with_words(words: usize) -> Self {
        Self {
            words: (0..words).map(|_| AtomicUsize::new(0)).collect(),
            used: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        }
    }

    /// Called in the handler.
    fn push(&self, thread: u32, stack: &[usize]) {
        let start = self.used.fetch_add(stack.len() + 1, Ordering::Relaxed);
        let Some([header, words @ ..]) = self.words.get(start..start + stack.len() + 1) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for (word, address) in words.iter().zip(stack) {
            word.store(*address, Ordering::Relaxed);
        }
        header.store((thread as usize) << 32 | stack.len(), Ordering::Relaxed);
    }

    /// The samples, equal ones counted. Called when no handler runs.
    fn stacks(&self) -> HashMap<(u32, Vec<usize>), u64> {
        let mut stacks = HashMap::new();
        let mut rest = &*self.words;
        while let Some((header, after)) = rest.split_first() {
            let header = header.load(Ordering::Relaxed);
            let Some((stack, after)) = after.split_at_checked(header & 0xffff_ffff) else { break };
            if header == 0 {
                break;
            }
            let stack = stack.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            *stacks.entry(((header >> 32) as u32, stack)).or_default() += 1;
            rest = after;
        }
        stacks
    }
}

/// The handler of SIGPROF. It calls only what a signal handler may (signal-safety(7)): atomics and
/// system calls. It allocates nothing, locks nothing and leaves `errno` as it was.
extern "C" fn on_tick(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let arena = ARENA.load(Ordering::SeqCst);
    if !arena.is_null() && !context.is_null() {
        // SAFETY: `errno` is this thread's own; the kernel passes a valid `ucontext_t` to a
        // handler with SA_SIGINFO; the arena lives while `INSIDE` counts us, see `disarm`.
        unsafe {
            let errno = *libc::__errno_location();
            sample(&*arena, &*context.cast::<libc::ucontext_t>());
            *libc::__errno_location() = errno;
        }
    }
    INSIDE.fetch_sub(1, Ordering::SeqCst);
}

fn sample(arena: &Arena, context: &libc::ucontext_t) {
    let Some(registers) = Registers::of(context) else { return };
    let mut stack = [0; DEPTH_MAX];
    let depth = walk(&registers, &mut stack);
    // SAFETY: a system call without arguments.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
    arena.push(thread, &stack[..depth]);
}

/// Where a thread was interrupted.
pub(super) struct Registers {
    pub(super) program_counter: usize,
    pub(super) stack_pointer: usize,
    pub(super) frame_pointer: usize,
}

impl Registers {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn of(context: &libc::ucontext_t) -> Option<Self> {
        let register = |index: c_int| context.uc_mcontext.gregs[index as usize] as usize;
        Some(Self {
            program_counter: register(libc::REG_RIP),
            stack_pointer: register(libc::REG_RSP),
            frame_pointer: register(libc::REG_RBP),
        })
    }

    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    fn of(context: &libc::ucontext_t) -> Option<Self> {
        let machine = &context.uc_mcontext;
        Some(Self {
            program_counter: machine.pc as usize,
            stack_pointer: machine.sp as usize,
            frame_pointer: machine.regs[29] as usize,
        })
    }

    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    fn of(_context: &libc::ucontext_t) -> Option<Self> {
        None
    }
}

/// Follows the frame pointers outwards; returns how many addresses it wrote. A frame is two words,
/// the outer frame's pointer and the return address, 16-aligned, each further out than the last.
fn walk(registers: &Registers, stack: &mut [usize; DEPTH_MAX]) -> usize {
    let mut window = Window::new();
    stack[0] = registers.program_counter;
    let mut depth = 1;
    let (mut frame, mut floor) = (registers.frame_pointer, registers.stack_pointer);
    if let Some(caller) = caller::before_its_frame(registers, &mut window) {
        stack[depth] = caller.return_address - 1;
        depth += 1;
        (frame, floor) = (caller.frame_pointer, caller.floor);
    }
    while depth < DEPTH_MAX {
        if frame < floor || frame - floor > FRAME_BYTES_MAX || !frame.is_multiple_of(16) {
            break;
        }
        let (Some(outer), Some(return_address @ 1..)) =
            (window.word(frame), window.word(frame + WORD))
        else {
            break;
        };
        stack[depth] = return_address - 1; // inside the call, not behind it
        depth += 1;
        floor = frame + 2 * WORD;
        frame = outer;
    }
    depth
}

pub(super) const WORD: usize = size_of::<usize>();

/// A piece of the stack, copied. Reading word by word would be a system call each.
pub(super) struct Window {
    start: usize,
    bytes: [u8; 1024],
    len: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { start: 0, bytes: [0; 1024], len: 0 }
    }

    /// The word at `at`.
    pub(super) fn word(&mut self, at: usize) -> Option<usize> {
        if at < self.start || at.checked_add(WORD)? > self.start + self.len {
            self.start = at;
            self.len = read_memory(at, &mut self.bytes)?;
        }
        let place = at - self.start;
        let bytes = self.bytes[..self.len].get(place..place + WORD)?;
        bytes.try_into().ok().map(usize::from_ne_bytes)
    }
}

/// Copies this process's memory from `at`, as far as `into` and the page go; returns how much. The
/// kernel copies, and answers an address that is not mapped with an error, where a load would end
/// the process.
pub(super) fn read_memory(at: usize, into: &mut [u8]) -> Option<usize> {
    const PAGE: usize = 4096;
    let length = into.len().min(PAGE - at % PAGE);
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: at as *mut c_void, iov_len: length };
    let process = PROCESS.load(Ordering::Relaxed);
    // SAFETY: writes at most `length` bytes to `into`, which has as many; the kernel reads.
    let read = unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) };
    usize::try_from(read).ok()
}

/// Whether `address` lies in the program's own code.
pub(super) fn is_in_program(address: usize) -> bool {
    let [start, end] = &PROGRAM;
    (start.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&address)
}

fn find_program() {
    let mappings = mappings::of_this_process();
    let program = mappings::of_the_program(&mappings);
    let start = program.iter().map(|mapping| mapping.start).min().unwrap_or(0);
    let end = program.iter().map(|mapping| mapping.end).max().unwrap_or(0);
    PROGRAM[0].store(start as usize, Ordering::Relaxed);
    PROGRAM[1].store(end as usize, Ordering::Relaxed);
}

fn handle_ticks() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one with an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_tick;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `on_tick` is safe to run at any point of any thread, see there.
    checked(unsafe { libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) })
}

/// Ignores SIGPROF. Its default, which would end the process, could meet a late tick.
fn ignore_ticks() {
    // SAFETY: an ignored signal runs no code.
    unsafe { libc::signal(libc::SIGPROF, libc::SIG_IGN) };
}

/// A tick for each 1/`hz` s of the process's CPU time; none for 0.
fn set_timer(hz: u32) -> io::Result<()> {
    let microseconds = 1_000_000_u32.checked_div(hz).unwrap_or(0);
    let interval = libc::timeval {
        tv_sec: (microseconds / 1_000_000).into(),
        tv_usec: (microseconds % 1_000_000).into(),
    };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: both pointers are valid or null.
    checked(unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) })
}

fn cpu_time_of_process() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    let read = checked(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) });
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    read.map(|()| Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec)))
        .unwrap_or_default()
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn samples_come_back_counted_and_those_without_room_are_counted_too() {
        let arena = Arena::with_words(9);
        arena.push(7, &[1, 2]);
        arena.push(7, &[1, 2]);
        arena.push(8, &[1]);
        arena.push(9, &[1, 2]);
        let stacks = arena.stacks();
        assert_eq!(stacks.len(), 2);
        assert_eq!((stacks[&(7, vec![1, 2])], stacks[&(8, vec![1])]), (2, 1));
        assert_eq!(arena.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn memory_that_is_not_there_is_told_and_not_touched() {
        PROCESS.store(std::process::id().cast_signed(), Ordering::Relaxed);
        let here = [17_usize, 18];
        let at = here.as_ptr() as usize;
        let mut window = Window::new();
        assert_eq!((window.word(at), window.word(at + WORD)), (Some(17), Some(18)));
        for nowhere in [0, 8, 4096, usize::MAX - 7, usize::MAX] {
            assert_eq!(Window::new().word(nowhere), None, "{nowhere:#x}");
        }
    }

    #[test]
    fn a_walk_ends_where_the_frames_do() {
        PROCESS.store(std::process::id().cast_signed(), Ordering::Relaxed);
        #[repr(align(16))]
        struct Frames([usize; 6]);
        let mut frames = Frames([0; 6]);
        let base = frames.0.as_ptr() as usize;
        let walked = |frames: &Frames, frame_pointer: usize| {
            black_box(frames);
            let registers = Registers { program_counter: 0x10, stack_pointer: base, frame_pointer };
            let mut stack = [0; DEPTH_MAX];
            let depth = walk(&registers, &mut stack);
            stack[..depth].to_vec()
        };
        frames.0 = [base + 16, 0x21, base + 32, 0x31, 0, 0x41];
        assert_eq!(walked(&frames, base), [0x10, 0x20, 0x30, 0x40]);
        frames.0 = [base, 0x21, 0, 0, 0, 0];
        assert_eq!(walked(&frames, base), [0x10, 0x20], "a circle");
        frames.0 = [base + 24, 0x21, 0, 0, 0, 0];
        assert_eq!(walked(&frames, base), [0x10, 0x20], "out of line");
        frames.0 = [usize::MAX - 15, 0x21, 0, 0, 0, 0];
        assert_eq!(walked(&frames, base), [0x10, 0x20], "far away");
        frames.0 = [base + 16, 0, 0, 0, 0, 0];
        assert_eq!(walked(&frames, base), [0x10], "no return address");
        assert_eq!(walked(&frames, 0), [0x10], "no frame pointer");
    }
}

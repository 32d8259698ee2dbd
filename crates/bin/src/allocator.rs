//! The allocator: jemalloc, which keeps long-lived mixed sizes denser than the system's does, and
//! whose samples make heap profiles.
#![expect(unsafe_code, reason = "the name under which jemalloc looks for its options")]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Options of jemalloc. Sampling for heap profiles is built in and off until the side port turns
/// it on (one sample in 2^19 bytes); freed pages go back to the system within a second, by a
/// thread of jemalloc's.
// SAFETY: `_rjem_malloc_conf` is jemalloc's `const char *malloc_conf`, read once at its start. A
// reference to an array has the layout of that pointer, and the text ends with a zero byte.
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
static OPTIONS: &[u8; 109] =
    b"prof:true,prof_active:false,lg_prof_sample:19,background_thread:true,\
dirty_decay_ms:1000,muzzy_decay_ms:1000\0";

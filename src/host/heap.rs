//! How the C library hands out memory to the agent's threads.
//!
//! Purpose: by itself it gives every thread an arena of its own, up to eight per CPU, and each keeps what it was ever asked
//! for at a time. An agent with a dozen threads that read lists of tasks now and then ends up with several times the
//! memory that it uses. Two arenas, those of the first threads, are shared by all.
//!
//! Not here: other C libraries, which have no arenas to be counted.

/// All threads together: the one of the first thread, and one more.
#[cfg(target_env = "gnu")]
const ARENAS: nix::libc::c_int = 2;

/// To be called before there is a second thread. Whether it took effect; without it the agent merely takes more memory.
#[cfg(target_env = "gnu")]
pub fn few_arenas() -> bool {
    #[expect(unsafe_code, reason = "no library has this call; the environment variable is read before main")]
    // SAFETY: two numbers, no pointer; it sets a parameter of the allocator under the allocator's own lock.
    let taken = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS) };
    taken == 1
}

#[cfg(not(target_env = "gnu"))]
pub fn few_arenas() -> bool {
    true
}

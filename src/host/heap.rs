//! How the C library hands out memory to the agent's threads.
//!
//! Purpose: by itself it gives every thread an arena of its own, up to eight per CPU, and each keeps what it was ever asked
//! for at a time. An agent with a dozen threads that read lists of tasks now and then ends up with several times the
//! memory that it uses. Two arenas, those of the first threads, are shared by all. What they keep is still more than what the
//! agent holds at a time, and is no sign of a leak; what it holds is told apart ([`held_bytes`]).
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

/// What the agent holds of its heap, without what the C library keeps to hand it out again; up to 4 GiB.
#[cfg(target_env = "gnu")]
pub fn held_bytes() -> Option<u32> {
    #[expect(unsafe_code, reason = "no library has this call")]
    // SAFETY: it takes nothing and returns numbers; it looks at each arena under the arena's own lock.
    let told = unsafe { nix::libc::mallinfo() };
    Some(told.uordblks.cast_unsigned().saturating_add(told.hblkhd.cast_unsigned()))
}

#[cfg(not(target_env = "gnu"))]
pub fn held_bytes() -> Option<u32> {
    None
}

/// Gives the kernel back what is free between what is held, which the C library keeps for ever by itself: a long list of tasks
/// leaves many such holes. Whether there was any; a few milliseconds at most.
#[cfg(target_env = "gnu")]
pub fn give_back() -> bool {
    #[expect(unsafe_code, reason = "no library has this call")]
    // SAFETY: a number, no pointer; it looks for free pages in each arena under the arena's own lock.
    let given = unsafe { nix::libc::malloc_trim(0) };
    given == 1
}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() -> bool {
    false
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use super::*;

    /// Anonymous pages of this process, in KiB.
    fn anonymous() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn holes_between_what_is_held_are_given_back() {
        let mut blocks: Vec<Option<Vec<u8>>> = (0..16_384).map(|_| Some(vec![1; 2_000])).collect();
        // Every sixty-fourth stays, so that no arena has an end that it could give back by itself.
        for (number, block) in blocks.iter_mut().enumerate().filter(|(number, _)| number % 64 > 0) {
            assert_eq!(block.take().map(|block| block.len()), Some(2_000), "{number}");
        }
        let before = anonymous();
        assert!(give_back());
        let after = anonymous();
        assert!(
            after + (16 << 10) < before,
            "{before} KiB before, {after} KiB after, {} blocks",
            blocks.len()
        );
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_given_back() {
        let held = || u64::from(held_bytes().unwrap());
        let before = held();
        // Much more than what other tests of this process ask for; nothing of it is ever touched.
        let large = vec![0_u8; 512 << 20];
        assert!(held() > before + (400 << 20), "{} and {}", held(), large.len());
        drop(large);
        assert!(held() < before + (100 << 20));
    }
}

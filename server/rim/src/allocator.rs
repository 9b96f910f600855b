//! Allocator: what the one of this process does with memory that was freed. Where it is not that of glibc, nothing here does anything.

use crate::limits::{KEPT_ON_TOP_BYTES, MAPPED_FROM_BYTES};

/// Blocks from [`MAPPED_FROM_BYTES`] on go back to the kernel when they are freed, for ever: by itself glibc raises that bound with the
/// first large block that is freed, up to 32 MiB, and then keeps them among the small ones.
pub fn map_large_blocks() {
    // Once the first one is set the second one would be 128 KiB, and the end of a thread's memory would go and come back all the time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, bytes) in [(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_ON_TOP_BYTES)] {
        // SAFETY: it takes two numbers, and holds the allocator's own locks while it works. It refuses what it does not know.
        unsafe {
            libc::mallopt(option, bytes);
        }
    }
}

/// Gives memory back to the kernel that was freed, in whole pages. It takes milliseconds for some hundred megabytes, in which other threads
/// wait to allocate.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number, and holds the allocator's own locks while it works.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::hint::black_box;

    use super::*;
    use crate::process::Usage;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn what_was_freed_between_things_that_stay_is_given_back() {
        map_large_blocks();
        // 256 MiB in blocks of 32 KiB, with something after each that stays.
        let (blocks, stays): (Vec<_>, Vec<_>) = (0..8192).map(|_| (vec![1_u8; 32 * 1024], vec![1_u8; 64])).unzip();
        let large = black_box(vec![1_u8; 64 * MIB as usize]);
        let most = Usage::own().memory_bytes;
        drop(large);
        let without_large = Usage::own().memory_bytes;
        drop(blocks);
        give_back();
        let left = Usage::own().memory_bytes;
        assert_eq!(stays.len(), 8192);
        // Other tests allocate meanwhile, but not as much.
        assert!(without_large + 48 * MIB < most, "{without_large} of {most}");
        assert!(left + 192 * MIB < without_large, "{left} of {without_large}");
    }
}

//! Settings of glibc's allocator that return large blocks to the system. Decoders allocate and free frames of a megabyte
//! in many threads; without these settings about 25 MB of them stay with the process.

/// Blocks from this size on are mapped one by one and unmapped when they are freed.
#[cfg(target_env = "gnu")]
const MAP_FROM_BYTES: libc::c_int = 1 << 20;
/// Arenas for smaller blocks; by default each GStreamer thread would get its own.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Applies the settings; does nothing with another C library. Call it before the first thread starts.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "glibc offers this only through mallopt")]
pub fn tune_malloc() {
    // SAFETY: mallopt takes two integers and keeps no pointer; both parameters are documented ones with values in
    // their range. It is called before other threads exist, so nothing allocates meanwhile.
    let is_set = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES) == 1
            && libc::mallopt(libc::M_ARENA_MAX, HEAPS) == 1
    };
    if !is_set {
        tracing::debug!("glibc's allocator keeps its defaults");
    }
}

/// Applies the settings; does nothing with another C library.
#[cfg(not(target_env = "gnu"))]
pub fn tune_malloc() {}

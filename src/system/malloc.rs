//! glibc's allocator, told once at start to give large blocks back: decoders take and free pictures of a megabyte in
//! many threads, and without this some 25 MB of them stay with the process.

/// Blocks from this size on are mapped one by one and unmapped when freed.
#[cfg(target_env = "gnu")]
const MAP_FROM_BYTES: libc::c_int = 1 << 20;
/// Heaps for smaller blocks; each GStreamer thread would get its own.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Sets glibc's allocator up; does nothing elsewhere. To be called before the first thread starts.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "glibc offers this through mallopt alone")]
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

/// Sets glibc's allocator up; does nothing elsewhere.
#[cfg(not(target_env = "gnu"))]
pub fn tune_malloc() {}

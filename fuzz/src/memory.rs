//! A limit on memory: hostile sizes must not become allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static COUNTING: Counting = Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What a reader may take whatever the input: buffers that it asks for in pieces of this size.
const FIXED: usize = 40 << 20;
/// And how much for each byte of the input: strings, tables, a vocabulary twice.
const PER_BYTE: usize = 512;

/// Runs `read`, which was given `bytes` bytes.
///
/// # Panics
/// If it took much more memory than that at once.
pub fn limited<T>(bytes: usize, read: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = read();
    let taken = PEAK.load(Relaxed).saturating_sub(before);
    assert!(
        taken <= FIXED + PER_BYTE * bytes,
        "{taken} bytes for {bytes} bytes of input"
    );
    result
}

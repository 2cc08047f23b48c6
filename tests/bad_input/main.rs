//! Wrong, truncated and hostile files: each a typed error that names the culprit, the same however the
//! bytes are cut, and never an absurd allocation.
#![cfg(not(target_arch = "wasm32"))]

#[path = "../common/files.rs"]
mod files;

mod config;
mod gguf;
mod loader;
mod safetensors;

use smollm_web::error::Result;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Remembers the largest allocation, to catch those that a header's counts size.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// No file of these tests has a megabyte; the readers reserve at most 16 ahead of what has come.
const ALLOWED: usize = 20 << 20;

/// Checked at the end of every test, for all tests of this binary together.
#[track_caller]
fn assert_no_absurd_allocation() {
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest <= ALLOWED, "an allocation of {largest} bytes");
}

#[track_caller]
fn expect<T>(what: &str, result: Result<T>, code: &str, needles: &[&str]) {
    let error = match result {
        Ok(_) => panic!("{what}: accepted"),
        Err(error) => error,
    };
    assert_eq!(error.code(), code, "{what}: {error}");
    for needle in needles {
        let message = error.to_string();
        assert!(
            message.contains(needle),
            "{what}: {message:?} lacks {needle:?}"
        );
    }
}

//! Threads for the kernels: a few long-lived workers behind one barrier.
//!
//! A token takes some 200 small matrix products of a few microseconds each, so workers spin a while before they
//! sleep, and work is handed out in ranges by one shared counter. What a range computes never depends on who
//! computes it.

use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

/// The work of one barrier, on the stack of the thread that calls [`for_ranges`].
struct Job<'a> {
    work: &'a (dyn Fn(Range<usize>) + Sync),
    total: usize,
    step: usize,
    next: AtomicUsize,
}

impl Job<'_> {
    fn run(&self) {
        loop {
            let start = self.next.fetch_add(self.step, Ordering::Relaxed);
            if start >= self.total {
                return;
            }
            (self.work)(start..(start + self.step).min(self.total));
        }
    }
}

struct Pool {
    /// Held by the thread whose job is running.
    owner: Mutex<()>,
    /// Rises by one with every job.
    generation: AtomicU32,
    job: AtomicPtr<Job<'static>>,
    /// Workers that have not finished the job yet.
    busy: AtomicUsize,
    /// Workers that take part in jobs; others sleep.
    active: AtomicUsize,
    spawned: Mutex<usize>,
    sleep: Mutex<()>,
    wake: Condvar,
    sleepers: AtomicUsize,
}

static POOL: Pool = Pool {
    owner: Mutex::new(()),
    generation: AtomicU32::new(0),
    job: AtomicPtr::new(std::ptr::null_mut()),
    busy: AtomicUsize::new(0),
    active: AtomicUsize::new(0),
    spawned: Mutex::new(0),
    sleep: Mutex::new(()),
    wake: Condvar::new(),
    sleepers: AtomicUsize::new(0),
};

/// Looks at the generation this often before sleeping: some tens of microseconds.
#[cfg(not(target_arch = "wasm32"))]
const SPINS: u32 = 20_000;

/// How many threads compute, the caller's among them.
pub fn threads() -> usize {
    POOL.active.load(Ordering::Relaxed) + 1
}

/// Uses `n` threads from now on (at least 1), and returns how many there are: fewer where they cannot be started.
pub fn set_threads(n: usize) -> usize {
    let _owner = POOL.owner.lock().unwrap_or_else(|e| e.into_inner());
    let mut spawned = POOL.spawned.lock().unwrap_or_else(|e| e.into_inner());
    let wanted = n.clamp(1, 64) - 1;
    while *spawned < wanted && spawn(*spawned) {
        *spawned += 1;
    }
    POOL.active.store(wanted.min(*spawned), Ordering::Relaxed);
    threads()
}

#[cfg(not(target_arch = "wasm32"))]
fn spawn(index: usize) -> bool {
    let seen = POOL.generation.load(Ordering::Acquire);
    std::thread::Builder::new()
        .name(format!("kernel-{}", index + 1))
        .spawn(move || worker(index, seen))
        .is_ok()
}

/// A module without shared memory has no second thread.
#[cfg(target_arch = "wasm32")]
fn spawn(_index: usize) -> bool {
    false
}

#[cfg(not(target_arch = "wasm32"))]
fn worker(index: usize, mut seen: u32) {
    loop {
        seen = wait_for_job(seen);
        if index < POOL.active.load(Ordering::Relaxed) {
            // SAFETY: `for_ranges` published the job before the generation, and keeps it alive until `busy`
            // is zero, which this worker's decrement below is part of.
            let _done = OnDrop(|| {
                POOL.busy.fetch_sub(1, Ordering::Release);
            });
            unsafe { (*POOL.job.load(Ordering::Acquire)).run() };
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn wait_for_job(seen: u32) -> u32 {
    for _ in 0..SPINS {
        let now = POOL.generation.load(Ordering::Acquire);
        if now != seen {
            return now;
        }
        std::hint::spin_loop();
    }
    let mut guard = POOL.sleep.lock().unwrap_or_else(|e| e.into_inner());
    POOL.sleepers.fetch_add(1, Ordering::SeqCst);
    loop {
        let now = POOL.generation.load(Ordering::SeqCst);
        if now != seen {
            POOL.sleepers.fetch_sub(1, Ordering::SeqCst);
            return now;
        }
        guard = POOL.wake.wait(guard).unwrap_or_else(|e| e.into_inner());
    }
}

/// Calls `work` with ranges that cover `0..total` once, at least `grain` items each where there are that many, on all threads;
/// returns when all is done. A caller that finds the pool in use computes alone.
pub(super) fn for_ranges(total: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
    let active = POOL.active.load(Ordering::Relaxed);
    if active == 0 || total <= grain {
        return work(0..total);
    }
    let Ok(_owner) = POOL.owner.try_lock() else {
        return work(0..total);
    };
    // `set_threads` needs the lock too, so this count holds until the end.
    let active = POOL.active.load(Ordering::Relaxed);
    let parts = 4 * (active + 1);
    let job = Job {
        work: &work,
        total,
        step: total.div_ceil(parts).max(grain),
        next: AtomicUsize::new(0),
    };
    POOL.job
        .store((&raw const job).cast_mut().cast(), Ordering::Release);
    POOL.busy.store(active, Ordering::Relaxed);
    POOL.generation.fetch_add(1, Ordering::SeqCst);
    if POOL.sleepers.load(Ordering::SeqCst) > 0 {
        let _guard = POOL.sleep.lock().unwrap_or_else(|e| e.into_inner());
        POOL.wake.notify_all();
    }
    // Also when `work` panics here: the workers still read the job.
    let _all_done = OnDrop(|| {
        while POOL.busy.load(Ordering::Acquire) > 0 {
            std::hint::spin_loop();
        }
    });
    job.run();
}

/// Runs a closure at the end of the scope, unwinding included.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

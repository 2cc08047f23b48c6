//! Threads for the kernels: a few long-lived workers, and a caller who waits for none that has not come.
//!
//! A token takes some 200 small matrix products of a few microseconds each. So a worker looks out for the next job a
//! while before it sleeps, work is handed out in ranges by one shared counter, and nobody has to take part: a
//! worker enters a job while it is open, the caller closes it when no range is left, and waits only for those
//! inside. One that sleeps, or has lost its core to somebody else, costs nothing. What a range computes never depends on who
//! computes it.
//!
//! Natively workers are threads of the process. In a browser they are Web Workers that share the module's memory
//! and call [`run_worker`]; they end when the host ends them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};

/// The most threads that can be asked for.
const MAX_THREADS: usize = 64;

/// How often a worker looks for a job, and a caller for the last worker to leave, before it sleeps: about a tenth
/// of a millisecond, which is more than what lies between two products, and between two tokens.
const SPINS: u32 = if cfg!(target_arch = "wasm32") {
    // There is no pause instruction here.
    60_000
} else {
    4_000
};

/// The work of one barrier, on the stack of the thread that calls [`for_ranges`].
struct Job<'a> {
    work: &'a (dyn Fn(Range<usize>) + Sync),
    total: usize,
    grain: usize,
    /// What a thread takes is this part of what is left.
    share: usize,
    next: AtomicUsize,
}

impl Job<'_> {
    /// Computes ranges until none is left.
    // Never inlined: V8 exchanges a function for its optimized code when it is called, and a worker's loop is called once.
    #[inline(never)]
    fn run(&self) {
        while let Some(range) = self.take() {
            (self.work)(range);
        }
    }

    /// Large ranges first, since taking one costs a trip between cores, and small ones last, so that all threads
    /// end together.
    fn take(&self) -> Option<Range<usize>> {
        let mut start = self.next.load(Ordering::Relaxed);
        loop {
            if start >= self.total {
                return None;
            }
            let left = self.total - start;
            let end = start + (left / self.share).max(self.grain).min(left);
            match self
                .next
                .compare_exchange_weak(start, end, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(start..end),
                Err(now) => start = now,
            }
        }
    }
}

struct Pool {
    /// Held by the thread whose job is running.
    owner: Mutex<()>,
    /// The job's number << 8 | [`OPEN`] | workers inside.
    state: AtomicU32,
    job: AtomicPtr<Job<'static>>,
    /// Workers that may take part; those numbered higher sleep.
    active: AtomicUsize,
    /// A worker died inside a job, which is therefore incomplete.
    broken: AtomicBool,
    /// Where active workers wait for a job.
    idle: Gate,
    /// Where the others wait.
    benched: Gate,
    /// Where the caller waits for the last worker to leave.
    leaving: Gate,
    #[cfg(not(target_arch = "wasm32"))]
    spawned: Mutex<usize>,
}

/// The job takes workers.
const OPEN: u32 = 0x80;
const INSIDE: u32 = 0x7f;
const NUMBER: u32 = 8;

static POOL: Pool = Pool {
    owner: Mutex::new(()),
    state: AtomicU32::new(0),
    job: AtomicPtr::new(std::ptr::null_mut()),
    active: AtomicUsize::new(0),
    broken: AtomicBool::new(false),
    idle: Gate::new(),
    benched: Gate::new(),
    leaving: Gate::new(),
    #[cfg(not(target_arch = "wasm32"))]
    spawned: Mutex::new(0),
};

/// How many threads compute, the caller's among them.
pub fn threads() -> usize {
    POOL.active.load(Ordering::Relaxed) + 1
}

/// Uses `n` threads from now on (at least 1), and returns how many there are: fewer where they cannot be started. In a
/// browser the host starts them (see [`run_worker`]), where the module has shared memory; elsewhere there is one.
pub fn set_threads(n: usize) -> usize {
    let _owner = locked(&POOL.owner);
    let workers = start_workers(n.clamp(1, MAX_THREADS) - 1);
    POOL.active.store(workers, Ordering::SeqCst);
    // Each to the gate where it belongs now.
    POOL.benched.wake();
    POOL.idle.wake();
    workers + 1
}

#[cfg(not(target_arch = "wasm32"))]
fn start_workers(wanted: usize) -> usize {
    let mut spawned = locked(&POOL.spawned);
    while *spawned < wanted {
        let index = *spawned;
        let thread = std::thread::Builder::new().name(format!("kernel-{}", index + 1));
        if thread.spawn(move || run_worker(index)).is_err() {
            break;
        }
        *spawned += 1;
    }
    wanted.min(*spawned)
}

/// Whoever is not there yet is not waited for.
#[cfg(target_arch = "wasm32")]
fn start_workers(wanted: usize) -> usize {
    if cfg!(target_feature = "atomics") {
        wanted
    } else {
        0
    }
}

/// Makes this thread worker number `index`, from 0, for as long as it lives: it computes when there is something to, and
/// sleeps when there is not. Two threads must not have the same number.
pub fn run_worker(index: usize) {
    let mut seen = 0;
    loop {
        POOL.benched
            .wait(0, || index < POOL.active.load(Ordering::Acquire));
        let mut entered = false;
        POOL.idle.wait(SPINS, || {
            let is_active = index < POOL.active.load(Ordering::Relaxed);
            entered = is_active && POOL.enter(&mut seen);
            entered || !is_active
        });
        if entered {
            let _inside = Inside;
            // SAFETY: `for_ranges` publishes the job before it opens it, and keeps it alive until all who entered
            // have left; this thread leaves when `_inside` goes.
            unsafe { (*POOL.job.load(Ordering::Acquire)).run() };
        }
    }
}

/// Says that a worker died where Rust could not see it: a trap unwinds nothing. Callers are told by a panic
/// instead of waiting for it for ever.
pub fn worker_died() {
    POOL.broken.store(true, Ordering::SeqCst);
    POOL.leaving.wake();
}

impl Pool {
    /// Enters the job under way, if it is open and this worker was not in it before.
    fn enter(&self, seen: &mut u32) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let number = state >> NUMBER;
        if state & OPEN == 0 || number == *seen {
            return false;
        }
        let entered = self
            .state
            .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if entered {
            *seen = number;
        }
        entered
    }

    /// Lets nobody in any more and waits for those inside.
    fn close(&self) {
        if self.state.fetch_and(!OPEN, Ordering::AcqRel) & INSIDE > 0 {
            // A thread that panics leaves; one that traps cannot, and nothing of the module is used after that.
            let trapped = || cfg!(target_arch = "wasm32") && self.broken.load(Ordering::Relaxed);
            self.leaving.wait(SPINS, || {
                self.state.load(Ordering::Acquire) & INSIDE == 0 || trapped()
            });
        }
    }
}

/// A worker's stay in a job, ended also by a panic.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        if std::thread::panicking() {
            POOL.broken.store(true, Ordering::Release);
        }
        // The last one out of a closed job.
        if POOL.state.fetch_sub(1, Ordering::AcqRel) & (OPEN | INSIDE) == 1 {
            POOL.leaving.wake();
        }
    }
}

/// Calls `work` with ranges that cover `0..total` once, at least `grain` items each where there are that many, on all threads;
/// returns when all is done. A caller that finds the pool in use computes alone.
///
/// # Panics
/// Where `work` panicked in a worker.
pub(crate) fn for_ranges(total: usize, grain: usize, work: impl Fn(Range<usize>) + Sync) {
    let active = POOL.active.load(Ordering::Relaxed);
    if active == 0 || total <= grain {
        return work(0..total);
    }
    let _owner = match POOL.owner.try_lock() {
        Ok(owner) => owner,
        // What panicked was somebody's `work`; the pool is as it should be.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return work(0..total),
    };
    let job = Job {
        work: &work,
        total,
        grain,
        share: 2 * (active + 1),
        next: AtomicUsize::new(0),
    };
    POOL.job
        .store((&raw const job).cast_mut().cast(), Ordering::Release);
    let number = (POOL.state.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1);
    POOL.state.store(number << NUMBER | OPEN, Ordering::Release);
    POOL.idle.wake();
    // Also when `work` panics here: the workers still read the job.
    let closed = OnDrop(|| POOL.close());
    job.run();
    drop(closed);
    assert!(
        !POOL.broken.swap(false, Ordering::AcqRel),
        "a worker of the kernels died in a job"
    );
}

/// [`for_ranges`] over the rows of `out`, `width` elements each: `work` also gets the part of `out` that its rows are.
///
/// # Panics
/// Where `out` ends within a row, and as [`for_ranges`].
pub(crate) fn for_rows<T: Send>(
    out: &mut [T],
    width: usize,
    grain: usize,
    work: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    let rows = out.len() / width;
    assert_eq!(out.len(), rows * width, "rows");
    let out = Rows(out.as_mut_ptr());
    for_ranges(rows, grain, |range| {
        let (out, n) = (&out, range.len() * width);
        // SAFETY: `for_ranges` gives every row to one range only and returns after all are done; the last row ends with `out`.
        let part = unsafe { std::slice::from_raw_parts_mut(out.0.add(range.start * width), n) };
        work(range, part);
    });
}

/// Where rows go that threads share out among them.
struct Rows<T>(*mut T);
// SAFETY: only `for_rows` uses it, which gives every thread rows of its own.
unsafe impl<T: Send> Sync for Rows<T> {}

/// A place to wait for something that is looked for without a lock.
struct Gate {
    lock: Mutex<()>,
    changed: Condvar,
    sleepers: AtomicU32,
}

impl Gate {
    const fn new() -> Self {
        Self {
            lock: Mutex::new(()),
            changed: Condvar::new(),
            sleepers: AtomicU32::new(0),
        }
    }

    /// Returns when `ready` has, after looking `spins` times and then at every [`wake`](Self::wake).
    fn wait(&self, spins: u32, mut ready: impl FnMut() -> bool) {
        for _ in 0..spins {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = locked(&self.lock);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Either this thread sees what was changed before `wake`, or `wake` sees this thread.
        fence(Ordering::SeqCst);
        while !ready() {
            guard = self.changed.wait(guard).unwrap_or_else(|e| e.into_inner());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets those asleep look again.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = locked(&self.lock);
            self.changed.notify_all();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs a closure at the end of the scope, unwinding included.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU8;
    use std::thread;

    /// The pool is the process's, so tests take turns.
    fn exclusive() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        locked(&TURN)
    }

    fn covers_once(total: usize, grain: usize) {
        let seen: Vec<AtomicU8> = (0..total).map(|_| AtomicU8::new(0)).collect();
        for_ranges(total, grain, |range| {
            for i in range {
                seen[i].fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn ranges_cover_everything_once_whoever_comes() {
        let _turn = exclusive();
        // More threads than cores, awake and asleep.
        for threads in [1, 2, 16, 3] {
            assert_eq!(set_threads(threads), threads);
            for job in 0..2_000 {
                covers_once(job % 70, 1 + job % 5);
                if job % 500 == 0 {
                    // Long enough for the workers to fall asleep.
                    (0..10 * SPINS).for_each(|_| std::hint::spin_loop());
                }
            }
        }
        set_threads(1);
    }

    #[test]
    fn a_second_caller_computes_alone() {
        let _turn = exclusive();
        set_threads(2);
        for_ranges(8, 1, |_| covers_once(100, 1));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| covers_once(40, 1)));
            }
        });
        set_threads(1);
    }

    #[test]
    fn a_panic_in_a_range_reaches_the_caller_and_the_pool_goes_on() {
        let _turn = exclusive();
        set_threads(4);
        for bad in 0..16 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                for_ranges(16, 1, |range| {
                    assert!(!range.contains(&bad), "as the test wants it");
                });
            }));
            assert!(result.is_err());
            covers_once(100, 1);
        }
        set_threads(1);
    }
}

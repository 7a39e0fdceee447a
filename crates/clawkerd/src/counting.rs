//! How often PID 1 allocates while it moves bytes: never. Counted in debug builds, for the test that says so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting.
pub struct Counting;

// SAFETY: everything is the system allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Turns of PID 1's loop that did nothing but move bytes, reap and report, and what they allocated.
#[derive(Debug, Default)]
pub struct Tally {
    turns: u64,
    allocations: u64,
    before: u64,
}

impl Tally {
    pub fn turned(&mut self, cold: bool) {
        let now = ALLOCATIONS.load(Ordering::Relaxed);
        if !cold {
            self.turns = self.turns.saturating_add(1);
            self.allocations = self.allocations.saturating_add(now.saturating_sub(self.before));
        }
        self.before = ALLOCATIONS.load(Ordering::Relaxed);
    }

    /// Turns and allocations, for a test to read.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, format!("{} {}\n", self.turns, self.allocations))
    }
}

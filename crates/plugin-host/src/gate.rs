//! How many calls run at once, and the clock behind their wall limit.
//!
//! Owns a thread that moves the engine's epoch while calls run. It stays awake for a while after the last of them, so
//! that a busy host doesn't pay a wake-up for each call, then sleeps until the next; it ends with the [`Gate`].
//!
//! ```text
//! enter ──► waits while all places are taken ──► Pass ──drop──► place free
//!    └─ wakes the ticker if it is parked             ticker: TICK, TICK, … LINGER without calls ──► parked
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wasmtime::Engine;

pub(crate) const TICK: Duration = Duration::from_millis(5);
const LINGER: Duration = Duration::from_secs(1);

pub(crate) struct Gate {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    freed: Condvar,
    wake: Condvar,
}

struct State {
    free: u32,
    running: u32,
    parked: bool,
    closed: bool,
}

/// A place in the engine; free again when dropped.
pub(crate) struct Pass<'a>(&'a Shared);

impl Gate {
    pub fn new(engine: Engine, places: u32) -> std::io::Result<Self> {
        let state = State {
            free: places,
            running: 0,
            parked: false,
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            freed: Condvar::new(),
            wake: Condvar::new(),
        });
        let ticker = std::thread::Builder::new().name("plugin-clock".into()).spawn({
            let shared = shared.clone();
            move || shared.tick(&engine)
        })?;
        Ok(Self {
            shared,
            ticker: Some(ticker),
        })
    }

    /// Waits until a place is free.
    pub fn enter(&self) -> Pass<'_> {
        let mut state = self.shared.lock();
        while state.free == 0 {
            state = self.shared.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free -= 1;
        state.running += 1;
        if std::mem::take(&mut state.parked) {
            self.shared.wake.notify_one();
        }
        Pass(&self.shared)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.free += 1;
        state.running -= 1;
        drop(state);
        self.0.freed.notify_one();
    }
}

impl Shared {
    // The state is two counters and two flags, each change complete in itself: poison says nothing about it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, engine: &Engine) {
        let mut busy = Instant::now();
        let mut state = self.lock();
        while !state.closed {
            if state.running > 0 {
                busy = Instant::now();
            } else if busy.elapsed() > LINGER {
                state.parked = true;
                while state.parked && !state.closed {
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                busy = Instant::now();
                continue;
            }
            state = self
                .wake
                .wait_timeout(state, TICK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            engine.increment_epoch();
        }
    }
}

//! The real terminal: the only place that reads the environment, the clock and the terminal's state.
//!
//! Raw mode is undone by its guard, and by the panic hook before a panic is printed; signals reach a command
//! as values (see `World::signals`), so a command that ends by one drops its guard like any other.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};

use super::{RawGuard, Settings, Signal, Signals, Size, Term, Ttys, World};
use crate::args::Globals;

impl Term {
    /// The terminal and environment of this process.
    pub fn system(globals: &Globals) -> Self {
        let tty = Ttys {
            stdin: termios::isatty(rustix::stdio::stdin()),
            stdout: termios::isatty(rustix::stdio::stdout()),
            stderr: termios::isatty(rustix::stdio::stderr()),
        };
        let no_color = globals.no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = tty.stdout.then(|| size_of(rustix::stdio::stdout())).flatten();
        Self {
            stdin: Box::new(tokio::io::stdin()),
            stdout: Box::new(tokio::io::stdout()),
            stderr: Box::new(tokio::io::stderr()),
            tty,
            width: width.map(|size| size.cols),
            settings: Settings {
                json: globals.json,
                quiet: globals.quiet,
                colour: tty.stderr && tty.stdout && !no_color,
                reconnect_for: Duration::from_secs(60),
                drain_for: Duration::from_secs(5),
            },
            world: Box::new(Process),
        }
    }
}

struct Process;

impl World for Process {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn cwd(&self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }

    fn ids(&self) -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    fn program_dir(&self) -> Option<PathBuf> {
        Some(std::env::current_exe().ok()?.parent()?.to_owned())
    }

    fn word(&self) -> io::Result<String> {
        let mut bytes = [0; 16];
        // A pool that is ready gives so few at once.
        let len = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        debug_assert_eq!(len, bytes.len(), "getrandom(2): up to 256 bytes are given whole");
        use base64::Engine as _;
        Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }

    fn signals(&self) -> io::Result<Signals> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::window_change(),
        ];
        let mut streams = Vec::new();
        for kind in kinds {
            let what = match kind == SignalKind::window_change() {
                true => Signal::Resized,
                false => Signal::Number(u8::try_from(kind.as_raw_value()).unwrap_or(u8::MAX)),
            };
            let listener = signal(kind)?;
            let stream = futures::stream::unfold(listener, move |mut listener| async move {
                listener.recv().await.map(|()| (what, listener))
            });
            streams.push(stream.boxed());
        }
        Ok(futures::stream::select_all(streams).boxed())
    }

    fn size(&self) -> Option<Size> {
        size_of(rustix::stdio::stdin())
    }

    fn raw(&self) -> io::Result<RawGuard> {
        let before = termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *saved() = Some(before);
        restore_on_panic();
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(RawGuard::new(restore))
    }
}

/// What the terminal was before it became raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn saved() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn restore() {
    if let Some(before) = saved().take() {
        // Drained first, so that no output is drawn by other rules than it was written for.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &before);
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            print(panic);
        }));
    });
}

fn size_of(fd: impl rustix::fd::AsFd) -> Option<Size> {
    let size = termios::tcgetwinsize(fd).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size {
        rows: size.ws_row,
        cols: size.ws_col,
    })
}

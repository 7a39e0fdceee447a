//! The terminal as commands see it: three streams, what is known of them, and the world around.
//!
//! A test makes one from buffers; [`Term::system`] makes the real one.

mod system;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures::stream::BoxStream;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{CommandError, Kind};
use crate::text::plain_json;

pub struct Term {
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    pub tty: Ttys,
    /// Columns of the terminal that stdout is; `None` when it isn't one.
    pub width: Option<u16>,
    pub settings: Settings,
    pub world: Box<dyn World>,
}

/// Which of the streams are terminals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ttys {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub json: bool,
    pub quiet: bool,
    pub colour: bool,
    /// How long a cut connection is tried again.
    pub reconnect_for: Duration,
    /// How long output may be silent after the exit, while its stream has not ended.
    pub drain_for: Duration,
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub cols: u16,
}

/// What the system tells a command that runs in the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A POSIX number.
    Number(u8),
    /// The terminal has another size.
    Resized,
}

pub type Signals = BoxStream<'static, Signal>;

/// What a command may know of the process it runs in.
pub trait World: Send {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
    fn var(&self, name: &str) -> Option<String>;
    fn cwd(&self) -> io::Result<PathBuf>;
    /// Real uid and gid of the caller.
    fn ids(&self) -> (u32, u32);
    /// The folder of this program.
    fn program_dir(&self) -> Option<PathBuf>;
    /// A word that nobody has had: 22 letters and digits.
    fn word(&self) -> io::Result<String>;
    /// From now on signals come here instead of ending the process.
    fn signals(&self) -> io::Result<Signals>;
    /// Of the terminal that stdin is.
    fn size(&self) -> Option<Size>;
    /// Makes stdin raw until the guard is dropped.
    fn raw(&self) -> io::Result<RawGuard>;
}

/// While it lives the terminal is raw.
pub struct RawGuard(Option<Box<dyn FnOnce() + Send>>);

impl RawGuard {
    pub fn new(restore: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(restore)))
    }
}

impl Drop for RawGuard {
    fn drop(&mut self) {
        if let Some(restore) = self.0.take() {
            restore();
        }
    }
}

impl Term {
    /// A line of the result.
    pub async fn line(&mut self, text: &str) -> Result<(), CommandError> {
        let line = format!("{text}\n");
        self.stdout
            .write_all(line.as_bytes())
            .await
            .map_err(|error| output_error(&error))
    }

    pub async fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), CommandError> {
        for line in lines {
            self.line(&line).await?;
        }
        Ok(())
    }

    /// One object of the result.
    pub async fn object(&mut self, object: &impl Serialize) -> Result<(), CommandError> {
        let json = serde_json::to_string(object).map_err(|error| CommandError::new(Kind::Failed, error))?;
        self.line(&plain_json(&json)).await
    }

    /// A remark on stderr; `--quiet` and `--json` leave it out.
    pub async fn remark(&mut self, text: &str) -> Result<(), CommandError> {
        if self.settings.quiet || self.settings.json {
            return Ok(());
        }
        self.error_line(text).await.map_err(|error| output_error(&error))
    }

    /// A remark on a command that goes on; a program gets it as an object on stderr.
    pub async fn note(&mut self, progress: &str, text: &str) -> Result<(), CommandError> {
        if !self.settings.json {
            return self.remark(text).await;
        }
        let text = text.trim_start_matches("clawker: ");
        let json = serde_json::json!({"progress": progress, "text": text}).to_string();
        self.error_line(&plain_json(&json))
            .await
            .map_err(|error| output_error(&error))
    }

    /// Asks a person on stderr, and reads the line that is answered; `None` at the input's end.
    pub async fn question(&mut self, question: &str) -> Result<Option<String>, CommandError> {
        /// Bytes of an answer.
        const MAX: usize = 1024;
        let asked = async {
            self.stderr.write_all(question.as_bytes()).await?;
            self.stderr.flush().await
        };
        asked
            .await
            .map_err(|error| CommandError::io("asking on the terminal", &error))?;
        // Byte by byte: what follows the line is the next question's.
        let (mut line, mut byte) = (Vec::new(), [0]);
        while line.len() < MAX && line.last() != Some(&b'\n') {
            let read = self.stdin.read(&mut byte).await;
            match read.map_err(|error| CommandError::io("reading the answer", &error))? {
                0 if line.is_empty() => return Ok(None),
                0 => break,
                _ => line.extend(byte),
            }
        }
        Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// A line on stderr, come what may. It ends in CR too, in case the terminal is raw.
    pub async fn error_line(&mut self, text: &str) -> io::Result<()> {
        let end = if self.tty.stderr { "\r\n" } else { "\n" };
        self.stderr.write_all(format!("{text}{end}").as_bytes()).await?;
        self.stderr.flush().await
    }

    pub async fn flush(&mut self) -> Result<(), CommandError> {
        self.stdout.flush().await.map_err(|error| output_error(&error))?;
        // Nobody is told that stderr can't be written.
        let _ = self.stderr.flush().await;
        Ok(())
    }

    pub fn red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn yellow(&self, text: &str) -> String {
        self.paint("1;33", text)
    }

    pub fn cyan(&self, text: &str) -> String {
        self.paint("1;36", text)
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.settings.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

pub fn output_error(error: &io::Error) -> CommandError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::new(Kind::OutputClosed, "standard output was closed"),
        _ => CommandError::io("writing standard output", error),
    }
}

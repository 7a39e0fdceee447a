//! Programs that are run to their end within a deadline, and what they left.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::wait;

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub what: String,
    /// Exit code, or 128 + signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Itself, if the program succeeded.
    pub fn ok(self) -> Result<Self> {
        ensure!(
            self.code == 0,
            "`{}` ended with {}:\n{}{}",
            self.what,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Itself, if the program ended with `code` and said `word` somewhere.
    pub fn failed(self, code: i32, word: &str) -> Result<Self> {
        let said = self.stdout.contains(word) || self.stderr.contains(word);
        ensure!(
            self.code == code && said,
            "`{}` should end with {code} and say `{word}`, it ended with {}:\n{}{}",
            self.what,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// The JSON objects on stdout, one a line.
    pub fn objects(&self) -> Result<Vec<Value>> {
        self.stdout
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).with_context(|| format!("`{}` printed {line:?}", self.what)))
            .collect()
    }
}

/// A program that runs, its output read by threads so that it never blocks on a full pipe.
#[derive(Debug)]
pub struct Running {
    pub what: String,
    pub child: Child,
    readers: [Reader; 2],
}

/// Starts `command` without input.
pub fn start(command: &mut Command) -> Result<Running> {
    spawn(command.stdin(Stdio::null()))
}

/// Starts `command`, which is given `stdin` as it takes it.
pub fn start_fed(command: &mut Command, stdin: Vec<u8>) -> Result<Running> {
    let mut running = spawn(command.stdin(Stdio::piped()))?;
    let mut pipe = running.child.stdin.take().context("its stdin is piped")?;
    // One that ends without reading all leaves a broken pipe, which is its right.
    std::thread::spawn(move || pipe.write_all(&stdin));
    Ok(running)
}

fn spawn(command: &mut Command) -> Result<Running> {
    let what = describe(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{what}`"))?;
    let readers = [reader(child.stdout.take()), reader(child.stderr.take())];
    Ok(Running { what, child, readers })
}

/// Runs `command` to its end; one that takes longer than `patience` is killed and an error.
pub fn run(command: &mut Command, patience: Duration) -> Result<Ran> {
    start(command)?.finish(patience)
}

impl Running {
    /// What it has printed so far.
    pub fn printed(&self) -> String {
        self.readers[0].text()
    }

    /// Kills it, as a machine does that runs out of memory: it says nothing any more.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing `{}`", self.what))?;
        self.child
            .wait()
            .with_context(|| format!("waiting for `{}`", self.what))?;
        Ok(())
    }

    pub fn finish(mut self, patience: Duration) -> Result<Ran> {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + patience;
        let status = loop {
            match self
                .child
                .try_wait()
                .with_context(|| format!("waiting for `{}`", self.what))?
            {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline || wait::interrupted() => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if status.is_none() {
            // It may have ended in this moment; either way it is waited for.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let [stdout, stderr] = self.readers.map(Reader::finish);
        let Some(status) = status else {
            bail!(
                "`{}` did not end within {} s:\n{stdout}{stderr}",
                self.what,
                patience.as_secs()
            );
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Ran {
            what: self.what,
            code,
            stdout,
            stderr,
        })
    }
}

/// What a stream has said so far.
#[derive(Debug)]
struct Reader {
    said: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> Reader {
    let said = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&said);
    let thread = std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = [0; 64 * 1024];
        // What came before an error is still worth reading.
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            to.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&chunk[..n]);
        }
    });
    Reader { said, thread }
}

impl Reader {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn finish(self) -> String {
        let Reader { said, thread } = self;
        // One that panicked has said what it read.
        let _ = thread.join();
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&said).into_owned()
    }
}

fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str())];
    words.extend(command.get_args());
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

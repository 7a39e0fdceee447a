//! Compiling in a process that is ended after it: what a compiler is talked into stays there, and so does the memory
//! that it needed.
//!
//! The control plane never takes compiled code from anywhere else, because to run it is to trust it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clawker_proc::{fdpass, memfd};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::channel::{self, MAX_COMMAND, MAX_MESSAGE, receive_with};
use super::link::spawn;
use super::{COMPILER, sandbox};
use crate::LoadError;
use crate::limits::MAX_COMPONENT;

/// For the largest component, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Compiles a component that was validated. The bytes are this engine's alone.
pub(super) fn compile(program: &Path, component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let failed = |error: io::Error| {
        LoadError::Compile(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("it took longer than {} s", PATIENCE.as_secs())
            }
            io::ErrorKind::UnexpectedEof => "the compiler ended without a word".to_owned(),
            _ => error.to_string(),
        })
    };
    let (socket, theirs) = UnixStream::pair().map_err(failed)?;
    let mut child = spawn(program, COMPILER, theirs.into()).map_err(failed)?;
    let compiled = (|| {
        socket.set_read_timeout(Some(PATIENCE))?;
        let component = memfd::sealed("plugin-component", component)?;
        fdpass::send(socket.as_fd(), &channel::frame(&())?, &[component.as_fd()])?;
        channel::answer::<Result<Vec<u8>, String>>(&socket, MAX_MESSAGE)
    })();
    let _ = child.kill();
    let _ = child.wait();
    compiled.map_err(failed)?.map_err(LoadError::Compile)
}

/// The compiler's own side.
pub(super) fn serve(socket: UnixStream) -> Result<(), Box<dyn std::error::Error>> {
    let compiled = confined().and_then(|engine| {
        let Some(((), fds)) = receive_with(&socket, MAX_COMMAND, 1)? else {
            return Err("nothing was asked".into());
        };
        let fd = fds.first().ok_or("no component came")?;
        let bytes = memfd::read_sealed(fd.as_fd(), MAX_COMPONENT)?;
        engine
            .precompile_component(&bytes)
            .map_err(|error| format!("{error:#}").into())
    });
    Ok(channel::send(&socket, &compiled.map_err(|error| error.to_string()))?)
}

/// An engine in a process that can do nothing but compile.
fn confined() -> Result<Engine, Box<dyn std::error::Error>> {
    let engine = crate::engine::compiling()?;
    sandbox::leave_network();
    // Makes the threads that compile; none can be made later.
    Component::new(&engine, EMPTY)?;
    sandbox::confine(sandbox::For::Compiling)?;
    Ok(engine)
}

/// A component with nothing in it.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

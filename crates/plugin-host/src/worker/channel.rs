//! Messages on a socket: four bytes of length, then postcard.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use clawker_proc::fdpass;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one message. A step with all its effects, each of the largest file, stays below it.
pub const MAX_MESSAGE: usize = 80 << 20;

/// Bytes of a message on the control socket, which brings descriptors and no plugin's data.
pub const MAX_COMMAND: usize = (64 << 10) - 4;

/// Writes one message whole.
pub fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let bytes = frame(message)?;
    socket.write_all(&bytes)
}

/// One message with its length in front.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(invalid)?;
    let len = bytes.len().saturating_sub(4);
    if len > MAX_MESSAGE {
        return Err(invalid(format!("a message of {len} bytes, the limit is {MAX_MESSAGE}")));
    }
    if let Some(head) = bytes.first_chunk_mut() {
        *head = (len as u32).to_le_bytes();
    }
    Ok(bytes)
}

/// Reads one message whole; `None` at the end of the stream.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream, max: usize) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    let there = (&mut &*socket).read(&mut head)?;
    body(socket, head, there, max)
}

/// The same with the descriptors that came beside its first byte.
pub fn receive_with<T: DeserializeOwned>(
    socket: &UnixStream,
    max: usize,
    max_fds: usize,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0; 4];
    let (there, fds) = fdpass::recv(socket.as_fd(), &mut head, max_fds)?;
    Ok(body(socket, head, there, max)?.map(|message| (message, fds)))
}

/// The answer to a question: an end of the stream is none.
pub fn answer<T: DeserializeOwned>(socket: &UnixStream, max: usize) -> io::Result<T> {
    receive(socket, max)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// What follows the first bytes, of which so many are there.
fn body<T: DeserializeOwned>(
    mut socket: &UnixStream,
    mut head: [u8; 4],
    there: usize,
    max: usize,
) -> io::Result<Option<T>> {
    if there == 0 {
        return Ok(None);
    }
    socket.read_exact(head.get_mut(there..).unwrap_or_default())?;
    let len = u32::from_le_bytes(head) as usize;
    if len > max {
        return Err(invalid(format!("a message of {len} bytes, the limit is {max}")));
    }
    // Room grows with what comes, not with what was announced.
    let mut bytes = Vec::with_capacity(len.min(64 << 10));
    socket.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map(Some).map_err(invalid)
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_their_cap_holds() {
        let (a, b) = UnixStream::pair().expect("sockets");
        send(&a, &vec!["x".to_owned(); 3]).expect("sent");
        assert_eq!(
            receive::<Vec<String>>(&b, 64).expect("received"),
            Some(vec!["x".to_owned(); 3])
        );
        send(&a, &"x".repeat(64)).expect("sent");
        assert!(receive::<String>(&b, 64).is_err(), "65 bytes");
        drop(a);
    }

    #[test]
    fn a_cut_message_is_an_error_and_an_end_is_none() {
        let whole = frame(&"hello".to_owned()).expect("framed");
        for cut in 1..whole.len() {
            let (mut a, b) = UnixStream::pair().expect("sockets");
            a.write_all(&whole[..cut]).expect("written");
            drop(a);
            assert!(receive::<String>(&b, 64).is_err(), "{cut} bytes");
        }
        let (a, b) = UnixStream::pair().expect("sockets");
        drop(a);
        assert_eq!(receive::<String>(&b, 64).expect("the end"), None);
    }
}

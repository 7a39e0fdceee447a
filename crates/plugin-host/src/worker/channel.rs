//! Messages on a socket: four bytes of length, then postcard.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one message. A step with all its effects, each of the largest file, stays below it.
pub const MAX_MESSAGE: usize = 80 << 20;

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
pub fn receive<T: DeserializeOwned>(mut socket: &UnixStream, max: usize) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    match socket.read(&mut head)? {
        0 => return Ok(None),
        there => socket.read_exact(head.get_mut(there..).unwrap_or_default())?,
    }
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

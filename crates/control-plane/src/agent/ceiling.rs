//! The descriptor ceiling: sessions of one agent whose sockets were never closed.
//!
//! A session's socket is closed when everything that holds it is dropped. Whatever keeps it from that (a task that hangs,
//! a leak in a library) would take one descriptor more at each reconnect, for ever. So they are counted per agent, and
//! with too many unclosed ones the agent gets no further session until one of them is closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Unclosed sessions of one agent. The current one and the one that it replaced are normal.
const CEILING: usize = 8;

/// How many of an agent's sessions are unclosed.
#[derive(Debug, Clone, Default)]
pub struct Unclosed(Arc<AtomicUsize>);

/// One of them; dropping it is the close.
#[derive(Debug)]
pub struct Open(Unclosed);

impl Unclosed {
    /// Counts one more, or not, if that would be too many.
    pub fn open(&self) -> Option<Open> {
        let raised = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < CEILING).then_some(open + 1)
        });
        raised.is_ok().then(|| Open(self.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream that is counted until it is dropped.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    #[expect(dead_code, reason = "is there for its drop")]
    open: Open,
}

impl<S> Counted<S> {
    pub fn new(stream: S, open: Open) -> Self {
        Self { stream, open }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unclosed_sessions_reach_a_ceiling_and_a_clean_close_makes_room() {
        let unclosed = Unclosed::default();
        let mut open: Vec<Open> = (0..CEILING).map(|_| unclosed.open().expect("room")).collect();
        assert!(unclosed.open().is_none());
        open.pop();
        open.push(unclosed.open().expect("one was closed"));
        assert!(unclosed.open().is_none());
        open.clear();
        assert!((0..CEILING).all(|_| unclosed.open().is_some()), "closed at once");
    }
}

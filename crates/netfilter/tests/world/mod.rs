//! An agent's network namespace and the world outside, joined by a cable; made and unmade by the test.
//! Needs root and the `ip` command; without them a test prints a line and passes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::thread::{UnshareFlags, unshare_unsafe};

pub const AGENT: &str = "10.99.0.2";
pub const OUTSIDE: &str = "10.99.0.1";
pub const OUTSIDE_V6: &str = "fd99::1";
const PATIENCE: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which ends with it.
pub struct Netns {
    jobs: mpsc::Sender<Job>,
    tid: i32,
}

pub struct World {
    pub agent: Netns,
    pub outside: Netns,
}

impl Netns {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, readied) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: only this thread's network namespace changes.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a namespace");
            ready
                .send(rustix::thread::gettid().as_raw_nonzero().get())
                .expect("the test waits");
            queue.into_iter().for_each(|job| job());
        });
        Self {
            jobs,
            tid: readied.recv().expect("the thread is up"),
        }
    }

    /// Runs `job` inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.jobs
            .send(Box::new(move || drop(answer.send(job()))))
            .expect("the thread is up");
        answered.recv().expect("the job didn't panic")
    }

    pub fn descriptor(&self) -> OwnedFd {
        self.run(|| File::open("/proc/thread-self/ns/net").expect("namespace").into())
    }

    pub fn ip(&self, arguments: &str) {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let output = self.run(move || Command::new("ip").args(arguments).output().expect("ip runs"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A listener that answers `ok` to every connection.
    pub fn listens(&self, addr: &str, port: u16) {
        let addr = SocketAddr::new(addr.parse().expect("address"), port);
        self.run(move || {
            let listener = TcpListener::bind(addr).expect("bind");
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let _ = stream.and_then(|mut stream| stream.write_all(b"ok"));
                }
            });
        });
    }

    /// One attempt over TCP: `Ok` if `ok` comes back.
    pub fn tries_to_reach(&self, addr: &str, port: u16) -> io::Result<()> {
        let addr = SocketAddr::new(addr.parse::<IpAddr>().expect("address"), port);
        self.run(move || {
            // Long enough for a SYN that was lost to be sent again, which is after one second.
            let mut stream = TcpStream::connect_timeout(&addr, Duration::from_millis(1500))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer)
        })
    }

    /// One datagram, sent or refused by the kernel.
    pub fn sends_a_datagram_to(&self, addr: &str, port: u16) -> io::Result<usize> {
        let addr = SocketAddr::new(addr.parse::<IpAddr>().expect("address"), port);
        self.run(move || {
            let any: IpAddr = if addr.is_ipv4() {
                [0; 4].into()
            } else {
                [0u16; 8].into()
            };
            UdpSocket::bind((any, 0))?.send_to(b"out", addr)
        })
    }

    /// A broadcast frame of an experimental ethertype, past IP.
    pub fn sends_a_raw_frame_by(&self, interface: &'static str, content: &'static [u8]) -> io::Result<()> {
        self.run(move || {
            let (socket, mut to) = packet_socket(interface)?;
            to.sll_halen = 6;
            to.sll_addr[..6].fill(0xff);
            let mut frame = vec![0xff; 6];
            frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
            frame.extend(content);
            frame.resize(60, 0);
            // SAFETY: frame and address live over the call, with their lengths.
            let sent = unsafe {
                let (address, len) = ((&raw const to).cast(), size_of_val(&to) as u32);
                libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, address, len)
            };
            if sent < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        })
    }

    /// Listens for such frames from now on; the answer says whether `content` came within `patience`.
    pub fn expects_a_frame(&self, interface: &'static str) -> impl Fn(&[u8], Duration) -> bool + use<> {
        let socket = self.run(move || packet_socket(interface).expect("packet socket").0);
        move |content, patience| {
            let end = std::time::Instant::now() + patience;
            let mut socket = File::from(socket.try_clone().expect("dup"));
            let mut frame = [0; 256];
            while std::time::Instant::now() < end {
                if let Ok(n) = socket.read(&mut frame)
                    && n >= 14 + content.len()
                    && &frame[14..14 + content.len()] == content
                {
                    return true;
                }
            }
            false
        }
    }
}

impl World {
    /// `None`, with a printed line, where this can't be.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return None;
        }
        if Command::new("ip").arg("-V").output().is_err() {
            println!("skipped: no `ip` command");
            return None;
        }
        let world = Self {
            agent: Netns::new(),
            outside: Netns::new(),
        };
        world.agent.ip("link set lo up");
        world.outside.ip("link set lo up");
        world.plug("eth0");
        for (side, v4, v6) in [(&world.agent, AGENT, "fd99::2"), (&world.outside, OUTSIDE, OUTSIDE_V6)] {
            side.ip(&format!("addr add {v4}/24 dev eth0"));
            side.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        }
        Some(world)
    }

    /// One more cable.
    pub fn plug(&self, interface: &str) {
        let tid = self.outside.tid;
        self.agent.ip(&format!(
            "link add {interface} type veth peer name {interface} netns {tid}"
        ));
        self.outside.ip(&format!("link set {interface} up"));
        self.agent.ip(&format!("link set {interface} up"));
    }
}

fn packet_socket(interface: &str) -> io::Result<(OwnedFd, libc::sockaddr_ll)> {
    let ethertype = 0x88b5u16.to_be();
    let name = std::ffi::CString::new(interface).expect("a name");
    // SAFETY: plain calls whose pointers live over them; the descriptor is new and owned by nobody else;
    // all zero is a valid sockaddr_ll.
    unsafe {
        let socket = libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from(ethertype),
        );
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        if libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        ) < 0
        {
            return Err(io::Error::last_os_error());
        }
        let timeout = libc::timeval {
            tv_sec: 0,
            tv_usec: 20_000,
        };
        let (value, len) = ((&raw const timeout).cast(), size_of_val(&timeout) as u32);
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, len);
        Ok((socket, address))
    }
}

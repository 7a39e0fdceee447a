//! The thread that owns every socket. It enters a namespace only to open sockets there, and returns at once, so
//! that it doesn't keep a dead one alive.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::time::Instant;

use clawker_model::NetworkState;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::dump::{self, Seen};
use crate::netlink::{Buffer, Socket};
use crate::policy::{Family, Hook, plan};
use crate::ruleset::{Ruleset, Transaction};
use crate::{Error, MAX_RULES, NetnsKey, NetworkRead, ReadBack, probe, told};

pub(crate) type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// Attempts to cover an interface that came between the plan and the look.
const ATTEMPTS: u32 = 4;

pub(crate) struct Worker {
    own: OwnedFd,
    kept: HashMap<NetnsKey, Netns>,
    buffer: Buffer,
    reaper: mpsc::Sender<OwnedFd>,
}

/// The sockets of one namespace.
pub(crate) struct Netns {
    nft: Socket,
    route: Socket,
    /// What was counted when there was last something that counts.
    denied: u64,
}

/// Starts the thread, and a second one that only closes sockets: each close waits for the kernel's grace period.
pub(crate) fn spawn() -> Result<mpsc::Sender<Job>, Error> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let (reaper, dead) = mpsc::channel::<OwnedFd>();
    let (ready, readied) = mpsc::sync_channel(1);
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("netfilter-reaper")
        .spawn(move || dead.into_iter().for_each(drop))
        .map_err(Error::Thread)?;
    let run = move || {
        // The namespace of a thread is its own: the program's first thread may be elsewhere.
        let opened = File::open("/proc/thread-self/ns/net").map(|own| Worker {
            own: own.into(),
            kept: HashMap::new(),
            buffer: Buffer::new(),
            reaper,
        });
        let mut worker = match opened {
            Ok(worker) => worker,
            Err(e) => return drop(ready.send(Err(e))),
        };
        let _ = ready.send(Ok(()));
        while let Ok(job) = queue.recv() {
            job(&mut worker);
        }
    };
    thread("netfilter").spawn(run).map_err(Error::Thread)?;
    readied.recv().map_err(|_| Error::Gone)?.map_err(Error::Thread)?;
    Ok(jobs)
}

impl Worker {
    pub(crate) fn probe(&mut self) -> Result<(), Error> {
        // SAFETY: only the network namespace changes, and of this thread alone; no descriptor is shared or closed.
        let made = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
        let probed = made
            .map_err(|e| Error::Namespace {
                what: "making a",
                source: e.into(),
            })
            .and_then(|()| Netns::open())
            .and_then(|mut netns| {
                let probed = probe::all(&mut netns, &mut self.buffer);
                self.reap(netns);
                probed
            });
        self.go_home()?;
        probed
    }

    pub(crate) fn attach(&mut self, netns: &OwnedFd, start: u64) -> Result<NetnsKey, Error> {
        let inode = rustix::fs::fstat(netns)
            .map_err(|e| Error::Namespace {
                what: "looking at the",
                source: e.into(),
            })?
            .st_ino;
        let key = NetnsKey { inode, start };
        if self.kept.contains_key(&key) {
            return Ok(key);
        }
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| Error::Namespace {
            what: "entering the",
            source: e.into(),
        })?;
        let opened = Netns::open();
        self.go_home()?;
        self.kept.insert(key, opened?);
        Ok(key)
    }

    pub(crate) fn apply(&mut self, key: NetnsKey, state: &NetworkState) -> Result<ReadBack, Error> {
        // A container in the host's namespace would take the host's network with it. It is contained otherwise.
        if *state != NetworkState::Open && self.is_own(key)? {
            return Err(Error::OwnNamespace);
        }
        let (netns, buffer) = self.netns(key)?;
        netns.apply(state, buffer)
    }

    pub(crate) fn verify(&mut self, key: NetnsKey, state: &NetworkState) -> Result<ReadBack, Error> {
        let (netns, buffer) = self.netns(key)?;
        let started = Instant::now();
        let look = netns.look(buffer)?;
        netns.compare(state, look, started)
    }

    pub(crate) fn read(&mut self, key: NetnsKey) -> Result<ReadBack, Error> {
        let (netns, buffer) = self.netns(key)?;
        let started = Instant::now();
        let look = netns.look(buffer)?;
        Ok(netns.read_back(classify(&look), look, started))
    }

    /// Whatever state it is, it is compared as one that was asked for: what can't be told exactly isn't told.
    pub(crate) fn state(&mut self, key: NetnsKey) -> Result<NetworkState, Error> {
        let (netns, buffer) = self.netns(key)?;
        let started = Instant::now();
        let look = netns.look(buffer)?;
        let state = match classify(&look) {
            NetworkRead::Open => NetworkState::Open,
            NetworkRead::Locked => NetworkState::Locked,
            NetworkRead::Restricted { .. } | NetworkRead::Damaged { .. } => NetworkState::Restricted {
                allow: told::destinations(&look.seen.ruleset),
            },
        };
        netns.compare(&state, look, started)?;
        Ok(state)
    }

    pub(crate) fn denied(&mut self, key: NetnsKey) -> Result<u64, Error> {
        let (netns, buffer) = self.netns(key)?;
        let counted = dump::denied(&mut netns.nft, buffer)?;
        netns.denied = netns.denied.max(counted);
        Ok(netns.denied)
    }

    pub(crate) fn detach(&mut self, key: NetnsKey) {
        if let Some(netns) = self.kept.remove(&key) {
            self.reap(netns);
        }
    }

    fn is_own(&self, key: NetnsKey) -> Result<bool, Error> {
        // Every namespace's inode is of the one nsfs, so numbers are enough.
        let own = rustix::fs::fstat(&self.own).map_err(|e| Error::Namespace {
            what: "looking at the own",
            source: e.into(),
        })?;
        Ok(own.st_ino == key.inode)
    }

    fn netns(&mut self, key: NetnsKey) -> Result<(&mut Netns, &mut Buffer), Error> {
        let netns = self.kept.get_mut(&key).ok_or(Error::NotAttached(key))?;
        Ok((netns, &mut self.buffer))
    }

    fn go_home(&self) -> Result<(), Error> {
        move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| Error::Namespace {
            what: "returning to the own",
            source: e.into(),
        })
    }

    fn reap(&self, netns: Netns) {
        // Without a reaper the descriptors are closed here, slowly.
        let _ = self.reaper.send(netns.nft.into_fd());
        let _ = self.reaper.send(netns.route.into_fd());
    }
}

struct Look {
    interfaces: Vec<String>,
    seen: Seen,
}

impl Netns {
    /// In the namespace that the thread is in.
    fn open() -> Result<Self, Error> {
        let socket = |made: std::io::Result<Socket>| {
            made.map_err(|source| Error::Namespace {
                what: "opening a socket in the",
                source,
            })
        };
        Ok(Self {
            nft: socket(Socket::netfilter())?,
            route: socket(Socket::route())?,
            denied: 0,
        })
    }

    pub(crate) fn apply(&mut self, state: &NetworkState, buffer: &mut Buffer) -> Result<ReadBack, Error> {
        let started = Instant::now();
        if let NetworkState::Restricted { allow } = state
            && allow.len() > MAX_RULES
        {
            return Err(Error::TooMany {
                what: "destinations",
                n: allow.len(),
                max: MAX_RULES,
            });
        }
        let mut left = ATTEMPTS;
        loop {
            let interfaces = dump::interfaces(&mut self.route, buffer)?;
            self.denied = self.denied.max(dump::denied(&mut self.nft, buffer)?);
            let transaction = self.transaction(state, &interfaces)?;
            self.send("replacing the policy", &transaction, buffer)?;
            let look = self.look(buffer)?;
            left -= 1;
            if look.interfaces == interfaces || left == 0 {
                return self.compare(state, look, started);
            }
        }
    }

    pub(crate) fn send(&mut self, what: &'static str, batch: &Transaction, buffer: &mut Buffer) -> Result<(), Error> {
        self.nft.batch(what, &batch.bytes, batch.seqs.clone(), buffer)
    }

    fn transaction(&self, state: &NetworkState, interfaces: &[String]) -> Result<Transaction, Error> {
        Transaction::new(&plan(state, interfaces, self.denied)).ok_or_else(|| Error::Malformed {
            what: "listing interfaces",
            problem: "a name with a NUL".to_owned(),
        })
    }

    fn look(&mut self, buffer: &mut Buffer) -> Result<Look, Error> {
        let seen = dump::look(&mut self.nft, buffer)?;
        self.denied = self.denied.max(seen.denied);
        // After the rules: an interface that comes between the two is one that isn't covered.
        let interfaces = dump::interfaces(&mut self.route, buffer)?;
        Ok(Look { interfaces, seen })
    }

    fn compare(&self, state: &NetworkState, mut look: Look, started: Instant) -> Result<ReadBack, Error> {
        forget_chains_of_the_departed(&mut look);
        let asked = self.transaction(state, &look.interfaces)?.makes;
        if let Some(difference) = asked.difference(&look.seen.ruleset) {
            return Err(Error::NotAsAsked {
                asked: name(state).to_owned(),
                read: difference,
            });
        }
        let network = match state {
            NetworkState::Open => NetworkRead::Open,
            NetworkState::Restricted { .. } => NetworkRead::Restricted {
                rules: accepting(&look.seen.ruleset),
            },
            NetworkState::Locked => NetworkRead::Locked,
        };
        Ok(self.read_back(network, look, started))
    }

    fn read_back(&self, network: NetworkRead, look: Look, started: Instant) -> ReadBack {
        let interfaces = look.interfaces;
        let summary = match &network {
            NetworkRead::Open => "open: no table of clawker".to_owned(),
            NetworkRead::Restricted { rules } => {
                format!(
                    "restricted: input, forward, output drop; {rules} accepting rules; {} denied",
                    self.denied
                )
            }
            NetworkRead::Locked => {
                format!(
                    "locked: input, forward, output drop; egress drop on {}",
                    interfaces.join(", ")
                )
            }
            NetworkRead::Damaged { what } => format!("damaged: {what}"),
        };
        let micros = started.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        ReadBack {
            network,
            interfaces,
            summary,
            denied: self.denied,
            micros,
        }
    }
}

fn name(state: &NetworkState) -> &'static str {
    match state {
        NetworkState::Open => "open",
        NetworkState::Restricted { .. } => "restricted",
        NetworkState::Locked => "locked",
    }
}

/// From Linux 6.16 a chain outlives its device. It does no harm, and no good either.
fn forget_chains_of_the_departed(look: &mut Look) {
    let interfaces = &look.interfaces;
    look.seen.ruleset.chains.retain(|(family, name), _| {
        *family != Family::Netdev
            || name
                .strip_prefix("egress-")
                .is_none_or(|device| interfaces.iter().any(|i| i == device))
    });
}

fn accepting(ruleset: &Ruleset) -> usize {
    let output = ruleset.chains.get(&(Family::Inet, "output".to_owned()));
    output.map_or(0, |chain| {
        chain.rules.iter().filter(|rule| rule.ends_with("accept")).count()
    })
}

/// What a look shows when nobody says what was asked.
fn classify(look: &Look) -> NetworkRead {
    let read = &look.seen.ruleset;
    if read.tables.is_empty() {
        return NetworkRead::Open;
    }
    let Some(locked) = Transaction::new(&plan(&NetworkState::Locked, &look.interfaces, 0)) else {
        return NetworkRead::Damaged {
            what: "an interface with a NUL in its name".to_owned(),
        };
    };
    let Some(difference) = locked.makes.difference(read) else {
        return NetworkRead::Locked;
    };
    let drops = |name: &str, hook: Hook| {
        let chain = read.chains.get(&(Family::Inet, name.to_owned()));
        chain.is_some_and(|chain| chain.hook == hook.number() && chain.policy == libc::NF_DROP as u32)
    };
    let restricted = read.tables.get(&Family::Inet) == Some(&0)
        && !read.tables.contains_key(&Family::Netdev)
        && [
            ("input", Hook::Input),
            ("forward", Hook::Forward),
            ("output", Hook::Output),
        ]
        .iter()
        .all(|(name, hook)| drops(name, *hook))
        && accepting(read) > 0;
    match restricted {
        true => NetworkRead::Restricted { rules: accepting(read) },
        false => NetworkRead::Damaged { what: difference },
    }
}

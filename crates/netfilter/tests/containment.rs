//! Real packets in namespaces that the test makes: what a state promises is tried from inside.

mod world;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use clawker_model::{EgressRule, NetworkState};
use clawker_netfilter::{Error, Netfilter, NetnsKey, NetworkRead};
use world::{AGENT, Netns, OUTSIDE, OUTSIDE_V6, World};

const A: u16 = 4000;
const B: u16 = 4001;
const SOON: Duration = Duration::from_secs(5);

struct Host {
    netfilter: Netfilter,
    world: World,
    key: NetnsKey,
}

/// Listeners A and B outside, one on the agent's own loopback; nothing restricted yet.
fn host() -> Option<Host> {
    let world = World::new()?;
    for addr in [OUTSIDE, OUTSIDE_V6] {
        world.outside.listens(addr, A);
        world.outside.listens(addr, B);
    }
    world.agent.listens("127.0.0.1", A);
    let netfilter = Netfilter::start().expect("this kernel can");
    let key = netfilter.attach(world.agent.descriptor(), 1).expect("attached");
    Some(Host { netfilter, world, key })
}

impl Host {
    fn apply(&self, state: &NetworkState) -> NetworkRead {
        self.netfilter.apply(&self.key, state).expect("in force").network
    }
}

fn only(rules: &[(&str, u16)]) -> NetworkState {
    let rule = |(addr, port): &(&str, u16)| EgressRule {
        addr: addr.parse().expect("address"),
        port: *port,
    };
    NetworkState::Restricted {
        allow: rules.iter().map(rule).collect(),
    }
}

fn is_denied<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.expect_err("it got through");
    assert!(
        matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::TimedOut),
        "{error:?}"
    );
}

/// A control plane that knows nothing any more tells from the kernel what was asked for, or that it can't.
#[test]
fn the_state_in_force_is_told_from_the_kernel_alone() {
    let Some(host) = host() else { return };
    let told = || host.netfilter.state(&host.key);
    for state in [
        NetworkState::Open,
        NetworkState::Locked,
        only(&[]),
        only(&[(OUTSIDE, A), (OUTSIDE, B), (OUTSIDE_V6, A)]),
    ] {
        host.apply(&state);
        let read = told().expect("told");
        let sorted = |state: NetworkState| match state {
            NetworkState::Restricted { mut allow } => {
                allow.sort();
                NetworkState::Restricted { allow }
            }
            other => other,
        };
        assert_eq!(read, sorted(state));
    }
    host.apply(&NetworkState::Locked);
    host.world.plug("eth7");
    assert!(
        matches!(told(), Err(Error::NotAsAsked { .. })),
        "an interface isn't covered: it is no lock"
    );
}

#[test]
fn a_locked_agent_reaches_nobody_not_even_itself() {
    let Some(host) = host() else { return };
    let agent = &host.world.agent;
    agent.tries_to_reach(OUTSIDE, A).expect("open at first");
    agent.tries_to_reach(OUTSIDE_V6, A).expect("open at first");
    agent.tries_to_reach("127.0.0.1", A).expect("open at first");
    assert_eq!(host.apply(&NetworkState::Locked), NetworkRead::Locked);
    for addr in [OUTSIDE, OUTSIDE_V6, "127.0.0.1", "127.0.0.11", AGENT] {
        is_denied(agent.tries_to_reach(addr, A));
        let error = agent.sends_a_datagram_to(addr, 53).expect_err("it got out");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{addr}");
    }
    is_denied(host.world.outside.tries_to_reach(AGENT, A));
    let read = host.netfilter.read(&host.key).expect("read");
    assert_eq!(
        (read.network, read.interfaces),
        (NetworkRead::Locked, vec!["eth0".into(), "lo".into()])
    );
    assert_eq!(host.apply(&NetworkState::Open), NetworkRead::Open);
    agent.tries_to_reach(OUTSIDE, A).expect("open again");
    agent.tries_to_reach("127.0.0.1", A).expect("open again");
    assert_eq!(host.netfilter.read(&host.key).expect("read").network, NetworkRead::Open);
}

#[test]
fn a_connection_from_before_the_lock_carries_nothing() {
    use std::io::{Read, Write};
    let Some(host) = host() else { return };
    let mut stream = host
        .world
        .agent
        .run(|| std::net::TcpStream::connect((OUTSIDE, A)).expect("open"));
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("answered");
    host.apply(&NetworkState::Locked);
    let before = host.netfilter.denied(&host.key).expect("read");
    let _ = stream.write_all(b"out");
    let deadline = Instant::now() + SOON;
    while host.netfilter.denied(&host.key).expect("read") == before {
        assert!(Instant::now() < deadline, "nothing was dropped");
        std::thread::yield_now();
    }
}

#[test]
fn a_restricted_agent_reaches_what_it_may_and_the_rest_is_counted() {
    let Some(host) = host() else { return };
    let agent = &host.world.agent;
    let state = only(&[(OUTSIDE, A), (OUTSIDE_V6, B)]);
    assert!(matches!(host.apply(&state), NetworkRead::Restricted { .. }));
    assert_eq!(host.netfilter.denied(&host.key).expect("read"), 0);
    agent.tries_to_reach(OUTSIDE, A).expect("allowed");
    agent.tries_to_reach(OUTSIDE_V6, B).expect("allowed");
    agent.tries_to_reach("127.0.0.1", A).expect("its own loopback");
    assert_eq!(
        host.netfilter.denied(&host.key).expect("read"),
        0,
        "nothing allowed is counted"
    );
    is_denied(agent.tries_to_reach(OUTSIDE, B));
    is_denied(agent.tries_to_reach(OUTSIDE_V6, A));
    let denied = host.netfilter.denied(&host.key).expect("read");
    assert!(denied >= 2, "{denied}");
    // Coming in is closed too, but isn't egress.
    is_denied(host.world.outside.tries_to_reach(AGENT, A));
    assert_eq!(host.netfilter.denied(&host.key).expect("read"), denied);
    // The count goes on over a change of policy.
    host.apply(&only(&[(OUTSIDE, B)]));
    assert_eq!(host.netfilter.denied(&host.key).expect("read"), denied);
    is_denied(agent.tries_to_reach(OUTSIDE, A));
    assert!(host.netfilter.denied(&host.key).expect("read") > denied);
}

#[test]
fn no_loopback_resolver_but_ours_is_a_way_out() {
    let Some(host) = host() else { return };
    let agent = &host.world.agent;
    host.apply(&only(&[(OUTSIDE, A)]));
    let mut denied = 0;
    for (addr, port) in [
        ("127.0.0.11", 53),
        ("127.0.0.11", 41234),
        ("127.0.0.1", 53),
        ("::1", 53),
        (AGENT, 53),
    ] {
        let error = agent.sends_a_datagram_to(addr, port).expect_err(addr);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{addr}:{port}");
        denied += 1;
        assert_eq!(host.netfilter.denied(&host.key).expect("read"), denied, "{addr}:{port}");
    }
    for (addr, port) in [("127.0.0.53", 53), ("127.0.0.1", 5353), ("::1", 5353)] {
        agent.sends_a_datagram_to(addr, port).expect(addr);
    }
}

#[test]
fn what_the_kernel_says_by_itself_is_not_the_agents_attempt() {
    let Some(host) = host() else { return };
    host.apply(&only(&[]));
    // A group joined and a new interface: membership reports and router solicitations.
    let _member = host.world.agent.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket
            .join_multicast_v4(&[239, 1, 1, 1].into(), &AGENT.parse().expect("address"))
            .expect("join");
        let six = std::net::UdpSocket::bind("[::]:0").expect("bind");
        six.join_multicast_v6(&"ff02::1234".parse().expect("address"), 0)
            .expect("join");
        (socket, six)
    });
    host.world.plug("eth1");
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        assert_eq!(host.netfilter.denied(&host.key).expect("read"), 0);
        std::thread::yield_now();
    }
}

#[test]
fn raw_frames_are_dropped_on_every_interface() {
    let Some(host) = host() else { return };
    let (agent, outside) = (&host.world.agent, &host.world.outside);
    let seen = outside.expects_a_frame("eth0");
    agent.sends_a_raw_frame_by("eth0", b"before").expect("sent");
    assert!(seen(b"before", SOON), "the test sees no frames");
    host.apply(&NetworkState::Locked);
    // The kernel may refuse it or swallow it; what counts is that nobody sees it.
    let _ = agent.sends_a_raw_frame_by("eth0", b"after!");
    assert!(!seen(b"after!", Duration::from_millis(300)), "a raw frame left");
    host.apply(&NetworkState::Open);
    agent.sends_a_raw_frame_by("eth0", b"again!").expect("sent");
    assert!(seen(b"again!", SOON), "unlocking opened it again");
}

#[test]
fn an_interface_added_later_is_missed_until_the_lock_is_applied_again() {
    let Some(host) = host() else { return };
    let (agent, outside) = (&host.world.agent, &host.world.outside);
    host.apply(&NetworkState::Locked);
    host.world.plug("eth1");
    let seen = outside.expects_a_frame("eth1");
    agent.sends_a_raw_frame_by("eth1", b"leak").expect("sent");
    assert!(seen(b"leak", SOON), "the hole that this test is about");
    let read = host.netfilter.read(&host.key).expect("read").network;
    assert!(
        matches!(&read, NetworkRead::Damaged { what } if what.contains("eth1")),
        "{read:?}"
    );
    let error = host
        .netfilter
        .verify(&host.key, &NetworkState::Locked)
        .expect_err("not as asked");
    assert!(
        matches!(&error, Error::NotAsAsked { read, .. } if read.contains("eth1")),
        "{error}"
    );
    assert_eq!(host.apply(&NetworkState::Locked), NetworkRead::Locked);
    let _ = agent.sends_a_raw_frame_by("eth1", b"leak again");
    assert!(!seen(b"leak again", Duration::from_millis(300)), "still a hole");
    // One that goes away leaves the lock whole.
    agent.ip("link del eth1");
    host.netfilter
        .verify(&host.key, &NetworkState::Locked)
        .expect("still locked");
}

#[test]
fn a_table_that_somebody_changed_is_noticed() {
    let Some(host) = host() else { return };
    let nft = |arguments: &'static str| {
        host.world
            .agent
            .run(move || std::process::Command::new("nft").args(arguments.split(' ')).output())
    };
    if nft("--version").is_err() {
        return println!("skipped: no `nft` command");
    }
    for (state, change) in [
        (NetworkState::Locked, "insert rule inet clawker output accept"),
        (NetworkState::Locked, "delete table netdev clawker"),
        (NetworkState::Locked, "chain inet clawker input { policy accept ; }"),
        (NetworkState::Locked, "add table inet clawker { flags dormant ; }"),
        (
            only(&[(OUTSIDE, A)]),
            "insert rule inet clawker output ip daddr 10.99.0.1 accept",
        ),
        (only(&[(OUTSIDE, A)]), "delete table inet clawker"),
        (NetworkState::Open, "add table inet clawker"),
    ] {
        host.apply(&state);
        host.netfilter.verify(&host.key, &state).expect("as asked");
        let output = nft(change).expect("nft runs");
        assert!(
            output.status.success(),
            "{change}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let verified = host.netfilter.verify(&host.key, &state);
        assert!(
            matches!(verified, Err(Error::NotAsAsked { .. })),
            "{change}: {verified:?}"
        );
        host.apply(&state);
    }
}

#[test]
fn a_restart_is_another_namespace_and_another_key() {
    let Some(host) = host() else { return };
    let again = host
        .netfilter
        .attach(host.world.agent.descriptor(), 1)
        .expect("the same");
    assert_eq!(again, host.key);
    host.apply(&NetworkState::Locked);
    let next = Netns::new();
    let key = host.netfilter.attach(next.descriptor(), 2).expect("attached");
    assert_ne!(key, host.key);
    assert_eq!(
        host.netfilter.read(&key).expect("read").network,
        NetworkRead::Open,
        "a ghost was locked"
    );
    host.netfilter.detach(&host.key);
    let error = host.netfilter.read(&host.key).expect_err("let go");
    assert!(matches!(error, Error::NotAttached(_)), "{error}");
    // The policy outlives whoever applied it.
    is_denied(host.world.agent.tries_to_reach(OUTSIDE, A));
}

#[test]
fn too_many_destinations_are_refused_and_the_most_are_taken() {
    let Some(host) = host() else { return };
    let rules = |n: u32| NetworkState::Restricted {
        allow: (0..n)
            .map(|i| EgressRule {
                addr: std::net::Ipv4Addr::from(0x0a00_0000 + i).into(),
                port: 443,
            })
            .collect(),
    };
    host.apply(&rules(256));
    let error = host.netfilter.apply(&host.key, &rules(257)).expect_err("too many");
    assert!(matches!(error, Error::TooMany { n: 257, max: 256, .. }), "{error}");
    host.netfilter
        .verify(&host.key, &rules(256))
        .expect("what was there stays");
}

/// Prints; asserts nothing about time.
#[test]
fn how_long_a_lock_takes() {
    let Some(host) = host() else { return };
    for (name, state) in [("restrict", only(&[(OUTSIDE, A)])), ("lock", NetworkState::Locked)] {
        let mut micros: Vec<u64> = (0..200)
            .map(|_| {
                host.apply(&NetworkState::Open);
                host.netfilter.apply(&host.key, &state).expect("in force").micros
            })
            .collect();
        micros.sort_unstable();
        println!("{name} and read back: p50 {} us, p99 {} us", micros[100], micros[197]);
        let mut micros: Vec<u64> = (0..200)
            .map(|_| host.netfilter.verify(&host.key, &state).expect("in force").micros)
            .collect();
        micros.sort_unstable();
        println!(
            "{name}, read back alone: p50 {} us, p99 {} us",
            micros[100], micros[197]
        );
    }
}

/// A container in the host's namespace would take everybody's network with it.
#[test]
fn the_control_planes_own_namespace_is_never_locked() {
    let Some(world) = World::new() else { return };
    // A thread's children are in its namespace: to this one, the agent's is its own.
    let netfilter = world.agent.run(Netfilter::start).expect("this kernel can");
    world.outside.listens(OUTSIDE, A);
    let key = netfilter.attach(world.agent.descriptor(), 1).expect("attached");
    for state in [NetworkState::Locked, only(&[])] {
        let refused = netfilter.apply(&key, &state);
        assert!(matches!(refused, Err(Error::OwnNamespace)), "{refused:?}");
        assert_eq!(netfilter.read(&key).expect("read").network, NetworkRead::Open);
    }
    netfilter.apply(&key, &NetworkState::Open).expect("changes nothing");
    world.agent.tries_to_reach(OUTSIDE, A).expect("the network is whole");
}

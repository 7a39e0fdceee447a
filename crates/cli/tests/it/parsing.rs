//! What people type, as tables.

use std::time::Duration;

use clap::Parser;
use clawker_cli::Cli;
use clawker_cli::parse::{self, EnvArg, ParseError, SecretArg, SecretFor, Since, Volume};

#[test]
fn memory() {
    for (text, bytes) in [
        ("1", 1),
        ("512b", 512),
        ("4k", 4096),
        ("512m", 536_870_912),
        ("512MiB", 536_870_912),
        ("1.5g", 1_610_612_736),
        ("2T", 2_199_023_255_552),
    ] {
        assert_eq!(parse::memory(text), Ok(bytes), "{text}");
    }
    for bad in [
        "",
        "m",
        "-1m",
        "1x",
        "1 m",
        "1.m",
        ".5m",
        "1e3",
        "0x10",
        "99999999999t",
        "1.0000000001g",
        "1,5g",
        "٣m",
    ] {
        assert_eq!(parse::memory(bad), Err(ParseError::Size), "{bad}");
    }
    assert_eq!(parse::memory("0m"), Err(ParseError::Zero));
}

#[test]
fn cpus() {
    for (text, nano) in [
        ("1", 1_000_000_000),
        ("1.5", 1_500_000_000),
        ("0.000000001", 1),
        ("64", 64_000_000_000),
    ] {
        assert_eq!(parse::cpus(text), Ok(nano), "{text}");
    }
    for bad in ["", "1.5.0", "one", "-1", "1/2", "0.0000000001", "99999999999999999999"] {
        assert_eq!(parse::cpus(bad), Err(ParseError::Cpus), "{bad}");
    }
    assert_eq!(parse::cpus("0"), Err(ParseError::Zero));
}

#[test]
fn volumes() {
    let volume = |source: &str, target: &str, read_only| Volume {
        source: source.into(),
        target: target.into(),
        read_only,
    };
    for (text, expected) in [
        ("/a:/b", volume("/a", "/b", false)),
        ("data:/b:ro", volume("data", "/b", true)),
        ("./x:/b:rw", volume("./x", "/b", false)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for bad in ["", "/b", ":/b", "/a:", "/a:/b:z", "/a:/b:ro:ro"] {
        assert_eq!(bad.parse::<Volume>(), Err(ParseError::Volume), "{bad}");
    }
    assert_eq!("/a:b".parse::<Volume>(), Err(ParseError::VolumeTarget("b".into())));
}

#[test]
fn secrets() {
    let secret = |name: &str, file: &str, kind| SecretArg {
        name: name.into(),
        file: file.into(),
        kind,
    };
    for (text, expected) in [
        ("TOKEN=./t", secret("TOKEN", "./t", SecretFor::Env)),
        ("_a1=/x=y,as=file", secret("_a1", "/x=y", SecretFor::File)),
        ("T=f,g,as=env", secret("T", "f,g", SecretFor::Env)),
        ("T=f,as=step", secret("T", "f", SecretFor::Step)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for bad in ["", "TOKEN", "T=", "T=,as=env", "T=f,as=both"] {
        assert_eq!(bad.parse::<SecretArg>(), Err(ParseError::Secret), "{bad}");
    }
    for name in ["", "1a", "a-b", "../a", "a b", "ä", &"x".repeat(129)] {
        assert_eq!(
            format!("{name}=f").parse::<SecretArg>(),
            Err(ParseError::SecretName(name.into())),
            "{name}"
        );
    }
}

#[test]
fn environment() {
    let env = |name: &str, value: Option<&str>| EnvArg {
        name: name.into(),
        value: value.map(Into::into),
    };
    for (text, expected) in [
        ("A=b=c", env("A", Some("b=c"))),
        ("A=", env("A", Some(""))),
        ("A", env("A", None)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for bad in ["", "=a", "A B=c", "A=\0"] {
        assert_eq!(bad.parse::<EnvArg>(), Err(ParseError::Env), "{bad:?}");
    }
    let file = "# a remark\n\nA=1 2\n  B\n";
    assert_eq!(parse::env_file(file), Ok(vec![env("A", Some("1 2")), env("B", None)]));
    assert_eq!(parse::env_file("A=1\n=2\n"), Err((2, ParseError::Env)));
}

#[test]
fn egress() {
    for (text, wire) in [
        ("open", "open"),
        ("192.0.2.7:443", "192.0.2.7:443"),
        ("[2001:db8::0:1]:443", "[2001:db8::1]:443"),
    ] {
        assert_eq!(parse::egress(text).as_deref(), Ok(wire), "{text}");
    }
    for bad in [
        "",
        "192.0.2.7",
        "192.0.2.7:0",
        "192.0.2.7:65536",
        "example.org:443",
        "2001:db8::1:443",
        "[fe80::1%2]:1",
        "OPEN",
    ] {
        assert_eq!(parse::egress(bad), Err(ParseError::Egress), "{bad}");
    }
    assert!(parse::destination("open").is_err());
}

#[test]
fn published_ports() {
    for good in [
        "80",
        "8080:80",
        "127.0.0.1:8080:80/tcp",
        "127.0.0.1::80",
        "[::1]:8080:80",
        "53:53/udp",
    ] {
        assert_eq!(parse::publish(good).as_deref(), Ok(good));
    }
    for bad in ["", "0", "80/sctp", "a:80", "1.2.3:80:80", "80:", "65536", "host:80:80"] {
        assert_eq!(parse::publish(bad), Err(ParseError::Publish), "{bad}");
    }
}

#[test]
fn since() {
    for (text, expected) in [
        ("1041", Since::Seq(1041)),
        ("90s", Since::Ago(Duration::from_secs(90))),
        ("2h30m", Since::Ago(Duration::from_secs(9000))),
        ("1d", Since::Ago(Duration::from_secs(86_400))),
        ("2026-01-31T09:00:00Z", Since::At(1_769_850_000_000)),
        ("2026-01-31T10:00:00.5+01:00", Since::At(1_769_850_000_500)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for bad in [
        "",
        "m",
        "10x",
        "-10m",
        "yesterday",
        "2026-01-31",
        "1969-12-31T00:00:00Z",
        "99999999999999999999s",
    ] {
        assert_eq!(bad.parse::<Since>(), Err(ParseError::Since), "{bad}");
    }
}

/// A command line that clap itself refuses: exit code 2, naming the argument.
#[test]
fn bad_values_name_their_option() {
    for (line, named) in [
        (vec!["run", "--memory", "lots", "i"], "--memory <SIZE>"),
        (vec!["run", "--name", "A", "i"], "--name <NAME>"),
        (
            vec!["run", "--egress", "example.org:443", "i"],
            "--egress <ADDR:PORT|open>",
        ),
        (vec!["run"], "<IMAGE>"),
        (vec!["exec", "a"], "<COMMAND>"),
        (vec!["contain", "a", "detonate"], "detonate"),
        (vec!["down", "--agents", "kill"], "--agents <WHAT>"),
        (
            vec!["run", "--on-absent", "defaults", "i"],
            "--on-absent <await[:SECONDS]|defaults:SECONDS>",
        ),
        (
            vec!["run", "--on-orphan", "freeze:1", "i"],
            "--on-orphan <WHAT[:SECONDS]>",
        ),
        (vec!["run", "--restart", "never", "i"], "--restart <WHEN[:TIMES]>"),
        (vec!["events", "--since", "yesterday"], "--since <WHEN>"),
    ] {
        let error = Cli::try_parse_from([vec!["clawker"], line].concat()).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(named), "{error}");
    }
}

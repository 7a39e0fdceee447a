//! The values that people type: sizes, places, addresses, times. Pure; each refusal names the value.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clawker_model::EgressRule;

/// Why a value on the command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("not a size: give a number with b, k, m, g or t, like 512m")]
    Size,
    #[error("not a number of CPUs: give one like 2 or 1.5, with nine decimals at most")]
    Cpus,
    #[error("must be more than 0")]
    Zero,
    #[error("not a volume: give SRC:DST or SRC:DST:ro")]
    Volume,
    #[error("the container's side of a volume must be an absolute path, not `{0}`")]
    VolumeTarget(String),
    #[error("not a secret: give NAME=FILE, NAME=FILE,as=env, NAME=FILE,as=file or NAME=FILE,as=step")]
    Secret,
    #[error("`{0}` is no name for a secret: letters, digits and `_`, no digit first, 128 at most")]
    SecretName(String),
    #[error("not an environment variable: give NAME=VALUE, or NAME to take it from here")]
    Env,
    #[error(
        "not a destination: give ADDR:PORT with a numeric address, like 192.0.2.7:443 or [2001:db8::1]:443, or open"
    )]
    Egress,
    #[error("not a port to publish: give [[ADDR:]PORT:]PORT[/tcp|udp]")]
    Publish,
    #[error(
        "not an id: give 1 to {} letters, digits, `-`, `_` or `.`",
        clawker_model::MAX_EXEC_WORD
    )]
    ExecId,
    #[error("not a point in time: give 10m, 2h30m, an RFC 3339 time, or an event's number")]
    Since,
}

/// Bytes: `512m`, `1.5g`, `1073741824`; units are powers of 1024, as Docker has it.
pub fn memory(text: &str) -> Result<u64, ParseError> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(ParseError::Size),
    };
    nonzero(fixed(digits, 1 << shift).ok_or(ParseError::Size)?)
}

/// Billionths of a CPU.
pub fn cpus(text: &str) -> Result<u64, ParseError> {
    nonzero(fixed(text, 1_000_000_000).ok_or(ParseError::Cpus)?)
}

/// A number of processes.
pub fn pids(text: &str) -> Result<u32, ParseError> {
    match text.parse() {
        Ok(0) => Err(ParseError::Zero),
        Ok(pids) => Ok(pids),
        Err(_) => Err(ParseError::Size),
    }
}

fn nonzero(value: u64) -> Result<u64, ParseError> {
    if value == 0 { Err(ParseError::Zero) } else { Ok(value) }
}

/// A decimal number times `unit`, exact; nine decimals at most.
fn fixed(text: &str, unit: u128) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole, 20) || !digits(fraction, 9) {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let value = whole.parse::<u128>().ok()?.checked_mul(unit)? + fraction.parse::<u128>().ok()? * unit / scale;
    u64::try_from(value).ok()
}

/// `SRC:DST[:ro|rw]`. SRC is a path or the name of a volume, and stays as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts.as_slice() {
            [source, target] | [source, target, "rw"] => (*source, *target, false),
            [source, target, "ro"] => (*source, *target, true),
            _ => return Err(ParseError::Volume),
        };
        if source.is_empty() || target.is_empty() {
            return Err(ParseError::Volume);
        }
        if !target.starts_with('/') {
            return Err(ParseError::VolumeTarget(target.to_owned()));
        }
        Ok(Self {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only,
        })
    }
}

/// `NAME=FILE[,as=env|file|step]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretArg {
    pub name: String,
    pub file: String,
    pub kind: SecretFor,
}

/// Who gets a secret, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFor {
    /// The command, in its environment.
    Env,
    /// The command, as a file.
    File,
    /// Steps that name it, and not the command.
    Step,
}

impl FromStr for SecretArg {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, rest) = text.split_once('=').ok_or(ParseError::Secret)?;
        let (file, kind) = match rest.rsplit_once(",as=") {
            Some((file, "env")) => (file, SecretFor::Env),
            Some((file, "file")) => (file, SecretFor::File),
            Some((file, "step")) => (file, SecretFor::Step),
            Some(_) => return Err(ParseError::Secret),
            None => (rest, SecretFor::Env),
        };
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let named = (1..=128).contains(&name.len())
            && name.bytes().all(letters)
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !named {
            return Err(ParseError::SecretName(name.to_owned()));
        }
        if file.is_empty() {
            return Err(ParseError::Secret);
        }
        Ok(Self {
            name: name.to_owned(),
            file: file.to_owned(),
            kind,
        })
    }
}

/// `NAME=VALUE`, or `NAME` for the caller's own value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvArg {
    pub name: String,
    pub value: Option<String>,
}

impl FromStr for EnvArg {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        if name.is_empty() || text.contains('\0') || name.contains(char::is_whitespace) {
            return Err(ParseError::Env);
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        })
    }
}

/// The lines of an env file: as `--env`, with empty lines and those that begin with `#` left out.
/// An error carries the number of its line.
pub fn env_file(text: &str) -> Result<Vec<EnvArg>, (usize, ParseError)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(index, line)| line.trim_start().parse().map_err(|error| (index + 1, error)))
        .collect()
}

/// One destination, with a numeric address: names aren't looked up, whoever answers could lie.
pub fn destination(text: &str) -> Result<EgressRule, ParseError> {
    match text.parse::<SocketAddr>() {
        Ok(SocketAddr::V6(to)) if to.scope_id() != 0 => Err(ParseError::Egress),
        Ok(to) if to.port() != 0 => Ok(EgressRule {
            addr: to.ip(),
            port: to.port(),
        }),
        _ => Err(ParseError::Egress),
    }
}

/// `open`, or one destination; in the spelling of the wire.
pub fn egress(text: &str) -> Result<String, ParseError> {
    match text {
        "open" => Ok("open".to_owned()),
        _ => destination(text).map(|rule| rule.to_string()),
    }
}

/// What a person may call an exec.
pub fn exec_id(text: &str) -> Result<String, ParseError> {
    match clawker_model::is_exec_word(text) {
        true => Ok(text.to_owned()),
        false => Err(ParseError::ExecId),
    }
}

/// `[[ADDR:]PORT:]PORT[/tcp|udp]`, as it was typed.
pub fn publish(text: &str) -> Result<String, ParseError> {
    let ports = match text.split_once('/') {
        Some((ports, "tcp" | "udp")) => ports,
        Some(_) => return Err(ParseError::Publish),
        None => text,
    };
    let port = |text: &str| text.parse::<u16>().is_ok_and(|port| port != 0);
    let good = match ports.rsplit_once(':') {
        None => port(ports),
        Some((host, inside)) => {
            port(inside)
                && (port(host)
                    || host.parse::<SocketAddr>().is_ok_and(|addr| addr.port() != 0)
                    || host
                        .strip_suffix(':')
                        .is_some_and(|addr| addr.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()))
        }
    };
    if good {
        Ok(text.to_owned())
    } else {
        Err(ParseError::Publish)
    }
}

/// From where a listing of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After this event.
    Seq(u64),
    /// So long ago.
    Ago(Duration),
    /// Milliseconds since the Unix epoch.
    At(u64),
}

impl FromStr for Since {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Since::Seq).map_err(|_| ParseError::Since);
        }
        if let Some(ago) = duration(text) {
            return Ok(Since::Ago(ago));
        }
        let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
            .map_err(|_| ParseError::Since)?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000)
            .map(Since::At)
            .map_err(|_| ParseError::Since)
    }
}

/// `90s`, `2h30m`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(Duration::from_secs(seconds))
}

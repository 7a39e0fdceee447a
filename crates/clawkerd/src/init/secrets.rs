//! Secrets of AgentReady: into the command's environment, or into a file on the container's own tmpfs.
//!
//! PID 1 has no right to mount, so files stand in `/dev/shm`, the tmpfs that every container has: in
//! `/dev/shm/clawker-secrets/<NAME>`, mode 0400, owned by the command's user, and `<NAME>_FILE` in the environment
//! says where. They are in memory only and gone with the container. A trailing newline of a secret for the
//! environment is taken off, as a shell's `$(…)` does.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use zeroize::Zeroizing;

use crate::halves::Secret;
use crate::user::Identity;

const DIRECTORY: &str = "clawker-secrets";
/// Most secrets of one agent.
const MAX: usize = 128;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("`{0}` is not a secret's name (1 to 128 of A-Z, a-z, 0-9, `_`, not beginning with a digit)")]
    Name(String),
    #[error("{0} secrets, the limit is {MAX}")]
    TooMany(usize),
    #[error("secret {name} holds a zero byte and can't be in the environment")]
    Zero { name: String },
    #[error("writing secret {name} to /dev/shm: {source}")]
    Write { name: String, source: io::Error },
}

/// Writes the files; entries for the command's environment.
pub fn place(secrets: &[Secret], owner: &Identity) -> Result<Vec<Vec<u8>>, SecretError> {
    if secrets.len() > MAX {
        return Err(SecretError::TooMany(secrets.len()));
    }
    if let Some(bad) = secrets.iter().find(|secret| !is_name(&secret.name)) {
        return Err(SecretError::Name(bad.name.chars().take(80).collect()));
    }
    let mut env = Vec::new();
    let mut directory = None;
    for secret in secrets {
        let name = &secret.name;
        if secret.as_file {
            let write = || -> io::Result<()> {
                if directory.is_none() {
                    directory = Some(fresh_directory()?);
                }
                directory.as_ref().map_or(Ok(()), |dir| write(dir, secret, owner))
            };
            let mut write = write;
            write().map_err(|source| SecretError::Write {
                name: name.clone(),
                source,
            })?;
            env.push(format!("{name}_FILE=/dev/shm/{DIRECTORY}/{name}").into_bytes());
        } else {
            env.push(entry(name, &secret.content)?);
        }
    }
    Ok(env)
}

fn entry(name: &str, content: &[u8]) -> Result<Vec<u8>, SecretError> {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    if content.contains(&0) {
        return Err(SecretError::Zero { name: name.to_owned() });
    }
    Ok([name.as_bytes(), b"=", content].concat())
}

fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The tmpfs is new at each start, and nothing of the user's has run: whatever stands there isn't ours.
fn fresh_directory() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let shm = rustix::fs::open("/dev/shm", flags, Mode::empty())?;
    match rustix::fs::mkdirat(&shm, DIRECTORY, Mode::from_raw_mode(0o711)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let dir = rustix::fs::openat(
        &shm,
        DIRECTORY,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::fchown(&dir, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o711))?;
    Ok(dir)
}

fn write(dir: &OwnedFd, secret: &Secret, owner: &Identity) -> io::Result<()> {
    let _ = rustix::fs::unlinkat(dir, &secret.name, AtFlags::empty());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, &secret.name, flags, Mode::from_raw_mode(0o400))?;
    let content = Zeroizing::new(secret.content.clone());
    io::Write::write_all(&mut std::fs::File::from(file.try_clone()?), &content)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, content: &[u8]) -> Secret {
        Secret {
            name: name.to_owned(),
            as_file: false,
            content: content.to_vec(),
        }
    }

    fn nobody() -> Identity {
        Identity {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
            home: "/".to_owned(),
        }
    }

    #[test]
    fn an_environment_secret_loses_one_newline_and_nothing_else() {
        let placed = |content: &[u8]| place(&[secret("KEY", content)], &nobody()).expect("placed");
        assert_eq!(placed(b"s3cret\n"), [b"KEY=s3cret".to_vec()]);
        assert_eq!(placed(b"two\n\n"), [b"KEY=two\n".to_vec()]);
        assert_eq!(placed(b""), [b"KEY=".to_vec()]);
    }

    #[test]
    fn names_that_could_be_something_else_are_refused() {
        for name in ["", "a/b", "..", "A=B", "1A", "A B", "é", &"x".repeat(129)] {
            let error = place(&[secret(name, b"")], &nobody()).expect_err(name);
            assert!(matches!(error, SecretError::Name(_)), "{error}");
        }
        assert!(matches!(
            place(&[secret("KEY", b"a\0b")], &nobody()),
            Err(SecretError::Zero { .. })
        ));
        let many: Vec<Secret> = (0..=MAX).map(|n| secret(&format!("S{n}"), b"")).collect();
        assert!(matches!(place(&many, &nobody()), Err(SecretError::TooMany(_))));
    }

    #[test]
    fn no_error_shows_a_secrets_content() {
        let error = place(&[secret("KEY", b"hunter2\0")], &nobody()).expect_err("zero byte");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

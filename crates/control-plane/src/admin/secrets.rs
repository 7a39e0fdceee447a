//! Secrets: checked at create, kept as files of root's, out of store, journal, log and error.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clawker_model::{SecretKind, SecretRef};
use clawker_wire::admin::Secret;

use super::error::Fault;
use super::limits;

pub const MAX_SECRETS: usize = 64;
pub const MAX_SECRET: usize = 64 * 1024;
/// All of an agent's together: they go to PID 1 in one message.
pub const MAX_TOTAL: usize = 2 * 1024 * 1024;
const MAX_NAME: usize = 128;

/// What the agent's definition keeps of them.
pub fn references(secrets: &[Secret]) -> Result<Vec<SecretRef>, Fault> {
    limits::count("secrets", secrets.len(), MAX_SECRETS)?;
    limits::bytes(
        "secrets in all",
        secrets.iter().map(|secret| secret.content.len()).sum(),
        MAX_TOTAL,
    )?;
    let mut names = BTreeSet::new();
    for secret in secrets {
        let name = &secret.name;
        if !is_name(name) {
            let shown: String = name.chars().take(80).collect();
            return Err(Fault::usage(
                format!("secret name `{shown}` is malformed"),
                "a name is 1 to 128 letters, digits and `_`, and begins with no digit",
            ));
        }
        if !names.insert(name) {
            return Err(Fault::usage(format!("secret `{name}` is given twice"), "leave one out"));
        }
        if secret.content.len() > MAX_SECRET {
            let len = secret.content.len();
            return Err(Fault::usage(
                format!("secret `{name}` has {len} bytes, the limit is {MAX_SECRET}"),
                "mount larger files",
            ));
        }
        if !secret.as_file && !secret.step_only && secret.content.contains(&0) {
            return Err(Fault::usage(
                format!("secret `{name}` holds a zero byte, which no environment can"),
                format!("give it as a file: `--secret {name}=PATH,as=file`"),
            ));
        }
    }
    let kind = |secret: &Secret| match (secret.step_only, secret.as_file) {
        (true, _) => SecretKind::Step,
        (false, true) => SecretKind::File,
        (false, false) => SecretKind::Env,
    };
    Ok(secrets
        .iter()
        .map(|secret| SecretRef {
            name: secret.name.clone(),
            kind: kind(secret),
        })
        .collect())
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Writes them below `dir` (0700), a file (0600) each. Nothing is written without secrets.
pub async fn store(dir: PathBuf, secrets: Vec<Secret>) -> Result<(), Fault> {
    if secrets.is_empty() {
        return Ok(());
    }
    let shown = dir.display().to_string();
    let written = tokio::task::spawn_blocking(move || write_all(&dir, &secrets)).await;
    let failed = |why: String| Fault::internal(format!("keeping secrets in {shown}: {why}"));
    written
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}

fn write_all(dir: &Path, secrets: &[Secret]) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for secret in secrets {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.join(&secret.name))?;
        io::Write::write_all(&mut file, &secret.content)?;
    }
    Ok(())
}

/// Removes what [`store`] wrote.
pub async fn discard(dir: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(dir).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "secrets of an agent that wasn't made are left");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn secret(name: &str, content: &[u8]) -> Secret {
        Secret {
            name: name.into(),
            as_file: false,
            step_only: false,
            content: content.to_vec().into(),
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_content() {
        let big = vec![b'k'; MAX_SECRET + 1];
        let total = MAX_TOTAL / MAX_SECRET + 1;
        let cases = [
            vec![secret("", b"hunter2")],
            vec![secret("1A", b"hunter2")],
            vec![secret("A-B", b"hunter2")],
            vec![secret("../A", b"hunter2")],
            vec![secret(&"A".repeat(MAX_NAME + 1), b"hunter2")],
            vec![secret("A", b"hunter2"), secret("A", b"hunter2")],
            vec![secret("A", &big)],
            vec![secret("A", b"hunter2\0")],
            (0..=MAX_SECRETS)
                .map(|n| secret(&format!("A{n}"), b"hunter2"))
                .collect(),
            (0..total).map(|n| secret(&format!("A{n}"), &big[1..])).collect(),
        ];
        for secrets in cases {
            let fault = references(&secrets).expect_err("beyond what is allowed");
            let said = format!("{} {}", fault.message, fault.hint);
            assert!(
                fault.exit == 2 && !said.contains("hunter2") && !said.contains("kkk"),
                "{said}"
            );
        }
        let good = references(&[
            secret("API_KEY", b"x"),
            Secret {
                as_file: true,
                ..secret("_f2", b"\0")
            },
        ]);
        assert_eq!(good.expect("good")[1].kind, SecretKind::File);
    }

    #[tokio::test]
    async fn they_are_roots_files() {
        let state = tempfile::tempdir().expect("tempdir");
        let dir = state.path().join("secrets/abc");
        store(dir.clone(), vec![secret("A", b"hunter2")]).await.expect("stored");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("A"))), (0o700, 0o600));
        assert_eq!(std::fs::read(dir.join("A")).expect("read"), b"hunter2");
        discard(&dir).await;
        discard(&dir).await;
        assert!(!dir.exists());
        store(dir.clone(), vec![]).await.expect("nothing to do");
        assert!(!dir.exists());
    }
}

//! How much a request may hold. Each limit names what it is about.

use clawker_model::{MAX_EXEC_WORD, OPERATOR_EXEC, is_exec_word};
use clawker_wire::admin::CreateAgentRequest;

use super::error::Fault;

pub const MAX_ARGV: usize = 4096;
pub const MAX_ARGV_BYTES: usize = 512 * 1024;
pub const MAX_ENV: usize = 4096;
pub const MAX_ENV_BYTES: usize = 1024 * 1024;
pub const MAX_MOUNTS: usize = 64;
pub const MAX_PUBLISH: usize = 64;
pub const MAX_UNSAFE: usize = 16;
pub const MAX_USER: usize = 256;
pub const MAX_PATH: usize = 4096;
/// Most bytes of a reason that an operator gives.
pub const MAX_REASON: usize = 1024;

/// What can be said of a request before anybody else is asked.
pub fn check(request: &CreateAgentRequest) -> Result<(), Fault> {
    argv("command", &request.command)?;
    argv("entrypoint", &request.entrypoint)?;
    env(&request.env)?;
    count("mounts", request.mounts.len(), MAX_MOUNTS)?;
    count("published ports", request.publish.len(), MAX_PUBLISH)?;
    count("unsafe options", request.unsafe_options.len(), MAX_UNSAFE)?;
    for mount in &request.mounts {
        text("mount source", &mount.source, MAX_PATH)?;
        text("mount target", &mount.target, MAX_PATH)?;
    }
    if let Some(user) = &request.user {
        self::user(user)?;
    }
    if let Some(cwd) = &request.cwd {
        self::cwd(cwd)?;
    }
    Ok(())
}

pub fn argv(what: &'static str, argv: &[String]) -> Result<(), Fault> {
    count(what, argv.len(), MAX_ARGV)?;
    bytes(what, argv.iter().map(|arg| arg.len() + 1).sum(), MAX_ARGV_BYTES)?;
    no_nul(what, argv)
}

pub fn env(env: &[String]) -> Result<(), Fault> {
    count("environment", env.len(), MAX_ENV)?;
    bytes("environment", env.iter().map(|var| var.len() + 1).sum(), MAX_ENV_BYTES)?;
    no_nul("environment", env)?;
    match env.iter().find(|var| var.is_empty() || var.starts_with('=')) {
        None => Ok(()),
        // The value stays out of the message: it may be anything.
        Some(_) => Err(Fault::usage(
            "an environment variable without a name",
            "write `NAME=value`",
        )),
    }
}

pub fn user(user: &str) -> Result<(), Fault> {
    text("user", user, MAX_USER)?;
    if user.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Fault::usage(
            "user with blanks or control characters",
            "write `NAME`, `UID`, `NAME:GROUP` or `UID:GID`",
        ));
    }
    Ok(())
}

/// An id that a client chose for its exec: in the operators' part of all ids, whatever it is.
pub fn exec_id(id: &str) -> Result<(), Fault> {
    match id.strip_prefix(OPERATOR_EXEC).is_some_and(is_exec_word) {
        true => Ok(()),
        false => Err(Fault::usage(
            format!("the exec id is malformed, {} bytes", id.len()),
            format!("write {OPERATOR_EXEC} and 1 to {MAX_EXEC_WORD} letters, digits, `-`, `_` or `.`"),
        )),
    }
}

pub fn cwd(cwd: &str) -> Result<(), Fault> {
    text("working folder", cwd, MAX_PATH)?;
    if !cwd.starts_with('/') {
        return Err(Fault::usage(
            format!("working folder `{cwd}` isn't an absolute path"),
            "begin it with `/`",
        ));
    }
    Ok(())
}

pub fn text(what: &'static str, text: &str, max: usize) -> Result<(), Fault> {
    bytes(what, text.len(), max)?;
    if text.contains('\0') {
        return Err(Fault::usage(format!("{what} holds a zero byte"), "leave it out"));
    }
    Ok(())
}

fn no_nul(what: &'static str, texts: &[String]) -> Result<(), Fault> {
    match texts.iter().any(|text| text.contains('\0')) {
        true => Err(Fault::usage(format!("{what} holds a zero byte"), "leave it out")),
        false => Ok(()),
    }
}

pub fn count(what: &'static str, count: usize, max: usize) -> Result<(), Fault> {
    match count > max {
        true => Err(Fault::usage(
            format!("{what}: {count} items, the limit is {max}"),
            "give fewer",
        )),
        false => Ok(()),
    }
}

pub fn bytes(what: &'static str, bytes: usize, max: usize) -> Result<(), Fault> {
    match bytes > max {
        true => Err(Fault::usage(
            format!("{what}: {bytes} bytes, the limit is {max}"),
            "put it into a file and mount that",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clawker_wire::admin::Mount;

    use super::*;

    fn refused(change: impl FnOnce(&mut CreateAgentRequest)) -> String {
        let mut request = CreateAgentRequest::default();
        check(&request).expect("nothing is within every limit");
        change(&mut request);
        check(&request).expect_err("beyond a limit").message
    }

    #[test]
    fn every_limit_holds_and_names_itself() {
        let long = |n: usize| "x".repeat(n);
        assert!(refused(|r| r.command = vec![String::new(); MAX_ARGV + 1]).contains("command"));
        assert!(refused(|r| r.entrypoint = vec![long(MAX_ARGV_BYTES)]).contains("entrypoint"));
        assert!(refused(|r| r.command = vec!["a\0b".into()]).contains("command"));
        assert!(refused(|r| r.env = vec!["A=1".into(); MAX_ENV + 1]).contains("environment"));
        assert!(refused(|r| r.env = vec![format!("A={}", long(MAX_ENV_BYTES))]).contains("environment"));
        assert!(refused(|r| r.env = vec!["=secret".into()]).contains("environment"));
        assert!(!refused(|r| r.env = vec!["=secret".into()]).contains("secret"));
        assert!(refused(|r| r.mounts = vec![Mount::default(); MAX_MOUNTS + 1]).contains("mounts"));
        let mount = |source: &str| Mount {
            source: source.into(),
            ..Default::default()
        };
        assert!(refused(|r| r.mounts = vec![mount(&long(MAX_PATH + 1))]).contains("mount source"));
        assert!(refused(|r| r.publish = vec![String::new(); MAX_PUBLISH + 1]).contains("published"));
        assert!(refused(|r| r.unsafe_options = vec![String::new(); MAX_UNSAFE + 1]).contains("unsafe"));
        assert!(refused(|r| r.user = Some(long(MAX_USER + 1))).contains("user"));
        assert!(refused(|r| r.user = Some("a b".into())).contains("user"));
        assert!(refused(|r| r.cwd = Some("work".into())).contains("working folder"));
        assert!(refused(|r| r.cwd = Some(format!("/{}", long(MAX_PATH)))).contains("working folder"));
    }

    #[test]
    fn an_exec_id_is_an_operators_and_short() {
        let longest = format!("{OPERATOR_EXEC}{}", "x".repeat(MAX_EXEC_WORD));
        for good in ["operator/a", "operator/A.b-c_9", &longest] {
            exec_id(good).expect("fine");
        }
        for bad in [
            "",
            "main",
            "operator/",
            "operator/a/b",
            "operator/ä",
            "step/1",
            &format!("{longest}x"),
        ] {
            assert!(exec_id(bad).is_err(), "{bad:?} was accepted");
        }
    }
}

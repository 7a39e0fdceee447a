//! What clawkerd is asked to run for an operator.

use clawker_model::OPERATOR_EXEC;
use clawker_wire::admin::{ExecStart, Resize, WhenLeft};
use clawker_wire::session as proto;

use super::error::Fault;
use super::limits;
use crate::core::random_word;

/// How long nobody may be attached, in seconds, before PID 1 hangs up: more than a restart of the control plane takes.
const DESERTED: u32 = 60;

/// In the agent's user, environment and folder, as far as nothing else is said.
pub fn spec(start: &ExecStart, user: &str, env: &[String], cwd: &str) -> Result<proto::Exec, Fault> {
    limits::argv("command", &start.argv)?;
    limits::env(&start.env)?;
    if start.argv.iter().all(String::is_empty) {
        return Err(Fault::usage("no command was given", "`clawker exec AGENT -- COMMAND`"));
    }
    if let Some(user) = &start.user {
        limits::user(user)?;
    }
    if let Some(cwd) = &start.cwd {
        limits::cwd(cwd)?;
    }
    let exec_id = match start.exec_id.as_str() {
        "" => {
            let word = random_word(22).map_err(|error| Fault::internal(format!("randomness: {error}")))?;
            format!("{OPERATOR_EXEC}{word}")
        }
        chosen => {
            limits::exec_id(chosen)?;
            chosen.to_owned()
        }
    };
    let mut env = env.to_vec();
    if start.tty && !env.iter().any(|var| var.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    // Of two values of a name the later one counts, for our own parser as for execve's readers.
    for var in &start.env {
        let name = var.split('=').next().unwrap_or_default().to_owned() + "=";
        env.retain(|known| !known.starts_with(&name));
        if var.contains('=') {
            env.push(var.clone());
        }
    }
    let size = start.size.unwrap_or(Resize { rows: 24, cols: 80 });
    Ok(proto::Exec {
        exec_id,
        stages: vec![proto::Stage {
            argv: start.argv.clone(),
            user: start.user.clone().unwrap_or_else(|| user.to_owned()),
            env,
            cwd: start.cwd.clone().unwrap_or_else(|| cwd.to_owned()),
        }],
        timeout: 0,
        on_full: proto::OnFull::Block.into(),
        stdin: start.stdin || start.tty,
        tty: start.tty.then_some(proto::Tty {
            rows: size.rows.min(4096),
            cols: size.cols.min(4096),
        }),
        on_disconnect: (start.when_left() == WhenLeft::Hangup).then_some(proto::OnDisconnect {
            goodbye: proto::Goodbye::Hangup.into(),
            after_seconds: DESERTED,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(argv: &[&str]) -> ExecStart {
        ExecStart {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn an_exec_is_the_agents_unless_it_says_otherwise() {
        let env = ["PATH=/bin".to_owned(), "A=1".to_owned()];
        let plain = spec(&start(&["ls"]), "1000", &env, "/app").expect("plain");
        let stage = &plain.stages[0];
        assert_eq!(
            (stage.user.as_str(), stage.cwd.as_str(), stage.env.as_slice()),
            ("1000", "/app", env.as_slice())
        );
        assert!(!plain.stdin && plain.tty.is_none());
        assert!(
            clawker_model::ExecId::parse(&plain.exec_id).is_ok(),
            "{}",
            plain.exec_id
        );

        let mut own = start(&["sh"]);
        own.user = Some("root".into());
        own.cwd = Some("/".into());
        own.tty = true;
        own.env = vec!["A=2".into(), "PATH".into()];
        let own = spec(&own, "1000", &env, "/app").expect("own");
        let stage = &own.stages[0];
        assert_eq!((stage.user.as_str(), stage.cwd.as_str()), ("root", "/"));
        assert_eq!(stage.env, ["TERM=xterm", "A=2"]);
        assert!(own.stdin && own.tty.is_some());
    }

    #[test]
    fn what_cannot_be_run_is_refused_first() {
        let refuse = |change: fn(&mut ExecStart)| {
            let mut start = start(&["ls"]);
            change(&mut start);
            spec(&start, "", &[], "").expect_err("malformed").message
        };
        assert!(refuse(|s| s.argv = vec![]).contains("no command"));
        assert!(refuse(|s| s.argv = vec![String::new()]).contains("no command"));
        assert!(refuse(|s| s.argv = vec!["x".repeat(limits::MAX_ARGV_BYTES)]).contains("command"));
        assert!(refuse(|s| s.env = vec!["=x".into()]).contains("environment"));
        assert!(refuse(|s| s.cwd = Some("x".into())).contains("working folder"));
        assert!(refuse(|s| s.user = Some("a\nb".into())).contains("user"));
    }
}

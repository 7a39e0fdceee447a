//! What an agent's creator wants of it without a control plane and at its end: read, checked together, and told to
//! clawkerd in its arguments.

use clawker_docker::AGENT_DIR;
use clawker_model::absence::BadWord;
use clawker_model::{Absence, AgentSpec, OnAbsent, OnOrphan, Orphan, Restart};
use clawker_wire::admin::CreateAgentRequest;
use clawker_wire::defaults;
use clawker_wire::join::JOIN_FILE;

use super::error::Fault;
use crate::agent::without_secrets;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub on_orphan: OnOrphan,
    pub absence: Absence,
    pub restart: Restart,
}

impl Wanted {
    pub fn read(request: &CreateAgentRequest) -> Result<Self, Fault> {
        let on_absent: OnAbsent = word("on-absent", &request.on_absent)?;
        let Orphan {
            action: on_orphan,
            lease_s,
        } = word("on-orphan", &request.on_orphan)?;
        let restart: Restart = word("restart", &request.restart)?;
        let unverified_network = request.unverified_network;
        match (on_absent, unverified_network) {
            (OnAbsent::Defaults { .. }, false) => {
                return Err(Fault::usage(
                    "without a control plane nobody puts the network policy in force, so `--on-absent defaults` needs \
                     your word for that",
                    "add `--unverified-network`, or use `--on-absent await`",
                ));
            }
            (OnAbsent::Await { .. }, true) => {
                return Err(Fault::usage(
                    "`--unverified-network` says something of `--on-absent defaults` alone",
                    "leave it out: what awaits the control plane never runs on an unverified network",
                ));
            }
            _ => {}
        }
        if matches!(on_absent, OnAbsent::Defaults { .. }) && !request.secrets.is_empty() {
            return Err(Fault::usage(
                "secrets come with a control plane alone, so `--on-absent defaults` would run the command without them",
                "leave the secrets out, or use `--on-absent await`",
            ));
        }
        if request.remove && restart != Restart::No {
            return Err(Fault::usage(
                format!("`--rm` removes what `--restart {restart}` would start again"),
                "choose one of them",
            ));
        }
        Ok(Self {
            on_orphan,
            absence: Absence {
                on_absent,
                unverified_network,
                lease_s,
            },
            restart,
        })
    }
}

/// An empty word is the default.
fn word<T: std::str::FromStr<Err = BadWord> + Default>(option: &str, text: &str) -> Result<T, Fault> {
    if text.is_empty() {
        return Ok(T::default());
    }
    text.parse().map_err(|error: BadWord| {
        let expected = error.expected;
        Fault::usage(format!("{option} {error}"), format!("write {expected}"))
    })
}

/// clawkerd, and what it must know before anybody talks to it. It reads nothing but its arguments.
pub fn entrypoint(spec: &AgentSpec, elsewhere: bool) -> Result<Vec<String>, Fault> {
    let orphan = Orphan {
        action: spec.on_orphan,
        lease_s: spec.absence.lease_s,
    };
    let mut argv = vec![
        format!("{AGENT_DIR}/clawkerd"),
        "init".to_owned(),
        format!("--on-absent={}", spec.absence.on_absent),
        format!("--on-orphan={orphan}"),
    ];
    if matches!(spec.absence.on_absent, OnAbsent::Defaults { .. }) {
        let text = defaults::encode(&without_secrets(spec)).map_err(|error| {
            Fault::usage(
                format!("`--on-absent defaults`: {error}"),
                "make the command or its environment smaller, or use `--on-absent await`",
            )
        })?;
        argv.push(format!("--defaults={text}"));
    }
    if elsewhere {
        argv.push(format!("--join={JOIN_FILE}"));
    }
    argv.push("--".to_owned());
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containment::tests::kernel::spec;
    use clawker_model::FullName;
    use clawker_wire::admin::Secret;

    fn read(change: impl FnOnce(&mut CreateAgentRequest)) -> Result<Wanted, Fault> {
        let mut request = CreateAgentRequest::default();
        change(&mut request);
        Wanted::read(&request)
    }

    fn defaults(request: &mut CreateAgentRequest) {
        request.on_absent = "defaults:10".into();
        request.unverified_network = true;
    }

    #[test]
    fn what_is_not_said_is_the_default_and_what_is_said_is_kept() {
        assert_eq!(read(|_| {}).expect("nothing said"), Wanted::default());
        let all = read(|r| {
            defaults(r);
            r.on_orphan = "stop:300".into();
            r.restart = "on-failure:3".into();
        });
        assert_eq!(
            all.expect("all"),
            Wanted {
                on_orphan: OnOrphan::Stop,
                absence: Absence {
                    on_absent: OnAbsent::Defaults { after_s: 10 },
                    unverified_network: true,
                    lease_s: Some(300),
                },
                restart: Restart::OnFailure { max: Some(3) },
            }
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_way_out() {
        for (change, named, hint) in [
            (
                (|r| r.on_absent = "defaults:10".into()) as fn(&mut CreateAgentRequest),
                "network policy",
                "--unverified-network",
            ),
            (|r| r.unverified_network = true, "--on-absent defaults", "leave it out"),
            (
                |r| {
                    defaults(r);
                    r.secrets = vec![Secret::default()];
                },
                "secrets",
                "await",
            ),
            (
                |r| {
                    r.remove = true;
                    r.restart = "always".into();
                },
                "--rm",
                "one of them",
            ),
            (|r| r.on_absent = "hope".into(), "on-absent `hope`", "await:SECONDS"),
            (
                |r| r.on_orphan = "freeze:1".into(),
                "on-orphan `freeze:1`",
                "4 to 86400",
            ),
            (|r| r.restart = "never".into(), "restart `never`", "unless-stopped"),
        ] {
            let fault = read(change).expect_err(named);
            assert_eq!(fault.exit, 2, "{fault}");
            assert!(fault.message.contains(named) && fault.hint.contains(hint), "{fault:?}");
        }
        let plain = read(|r| {
            r.remove = true;
            r.restart = "no".into();
        });
        assert!(plain.is_ok());
    }

    #[test]
    fn clawkerd_is_told_by_arguments_alone() {
        let mut spec = spec(&FullName::parse("clawker.a").expect("name"));
        spec.on_orphan = OnOrphan::Stop;
        assert_eq!(
            entrypoint(&spec, false).expect("plain"),
            [
                "/.clawker/clawkerd",
                "init",
                "--on-absent=await",
                "--on-orphan=stop",
                "--"
            ]
        );
        spec.absence = Absence {
            on_absent: OnAbsent::Defaults { after_s: 10 },
            unverified_network: true,
            lease_s: Some(300),
        };
        let argv = entrypoint(&spec, false).expect("defaults");
        assert_eq!(argv[2..4], ["--on-absent=defaults:10", "--on-orphan=stop:300"]);
        let text = argv[4].strip_prefix("--defaults=").expect("the command");
        assert_eq!(defaults::decode(text).expect("whole"), without_secrets(&spec));
        spec.main.env = vec![format!("A={}", "x".repeat(defaults::MAX_DEFAULTS))];
        let fault = entrypoint(&spec, false).expect_err("too long");
        assert!(fault.message.contains("the limit is"), "{fault}");
    }
}

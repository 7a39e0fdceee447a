//! An agent's name: given or made up, and claimed while the agent is being made.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use clawker_model::{AgentName, FullName, ProjectName, exit};
use tonic::Code;

use super::error::Fault;
use crate::core::random_word;

/// Names that are being made right now.
#[derive(Debug, Default)]
pub struct Creating(Mutex<BTreeSet<FullName>>);

/// Gives the name back when it is dropped.
pub struct Claim<'a>(&'a Creating, FullName);

impl Creating {
    pub fn claim(&self, name: &FullName) -> Result<Claim<'_>, Fault> {
        match self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone())
        {
            true => Ok(Claim(self, name.clone())),
            false => Err(taken(name)),
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

pub fn taken(name: &FullName) -> Fault {
    Fault::new(
        Code::AlreadyExists,
        exit::CANT_CREATE,
        format!("there is an agent `{name}` already"),
        format!("choose another `--name`, or remove it with `clawker rm {name}`"),
    )
}

/// `project` and `agent` as the request has them; empty is none.
pub fn name(project: &str, agent: &str) -> Result<FullName, Fault> {
    let project = match project {
        "" => None,
        project => Some(ProjectName::parse(project)?),
    };
    let agent = match agent {
        "" => {
            let word = random_word(6).map_err(|error| Fault::internal(format!("randomness: {error}")))?;
            AgentName::parse(&format!("agent-{}", word.to_ascii_lowercase()))?
        }
        agent => AgentName::parse(agent)?,
    };
    Ok(FullName::new(project, agent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_up_only_when_none_is_given() {
        assert_eq!(name("p", "a").expect("given").to_string(), "clawker.p.a");
        let made = name("", "").expect("made up").to_string();
        assert!(
            made.starts_with("clawker.agent-") && made.len() == "clawker.agent-".len() + 6,
            "{made}"
        );
        for (project, agent) in [
            ("P", "a"),
            ("p", "-a"),
            ("p.q", "a"),
            ("p", "a b"),
            (&"x".repeat(25), "a"),
        ] {
            assert_eq!(
                name(project, agent).expect_err("malformed").exit,
                2,
                "{project:?} {agent:?}"
            );
        }
    }

    #[test]
    fn one_name_is_made_once_at_a_time() {
        let creating = Creating::default();
        let name = FullName::parse("clawker.a").expect("name");
        let claim = creating.claim(&name).expect("first");
        let Err(fault) = creating.claim(&name) else {
            panic!("claimed twice")
        };
        assert_eq!(fault.exit, 73);
        drop(claim);
        assert!(creating.claim(&name).is_ok());
    }
}

//! The verbs, one file each. The doc comment of a verb's `Args` is its help.

pub mod apply;
pub mod audit;
pub mod backup;
pub mod ca;
pub mod check;
pub mod contain;
pub mod down;
pub mod events;
pub mod exec;
pub mod inspect;
pub mod logs;
pub mod plugin;
pub mod ps;
pub mod release;
pub mod restart;
pub mod restore;
pub mod rm;
pub mod run;
pub mod start;
pub mod status;
pub mod stop;
pub mod up;
pub mod wait;
pub mod why;

use crate::error::CommandError;
use crate::term::Term;

/// Does `work` for each agent; one that fails doesn't keep the others from their turn, the first failure counts.
async fn each<W>(term: &mut Term, agents: Vec<String>, mut work: W) -> Result<u8, CommandError>
where
    W: AsyncFnMut(&mut Term, String) -> Result<(), CommandError>,
{
    let mut failure: Option<CommandError> = None;
    for agent in agents {
        if let Err(error) = work(term, agent).await {
            match failure {
                None => failure = Some(error),
                Some(_) => error.report(term).await,
            }
        }
    }
    failure.map_or(Ok(0), Err)
}

/// The result of a verb that did something to an agent: its name, or an object with what was done.
async fn did(term: &mut Term, agent: &str, done: &str) -> Result<(), CommandError> {
    if term.settings.json {
        return term.object(&serde_json::json!({"agent": agent, "done": done})).await;
    }
    term.line(&crate::text::plain(agent)).await
}

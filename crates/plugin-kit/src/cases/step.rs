//! A step's case.

use std::sync::Arc;

use clawker_model::{Effect, EffectResult, FullName, Piece};
use clawker_plugin_host::limits::MAX_EFFECTS;
use clawker_plugin_host::{StepCall, StepContext, StepTurn, check_settings, note, note_result, secrets_named};

use super::file::{Answered, Outcome, Problem, StepCase};
use super::{Line, Report};
use crate::{Error, Sandbox};

pub(super) fn run(sandbox: &Sandbox, case: &StepCase) -> Result<Report, Error> {
    let plugin = &sandbox.plugin;
    let settings = serde_json::to_string(&case.settings).map_err(|error| Error::Unusable(error.to_string()))?;
    check_settings(plugin, &settings).map_err(|error| Error::Unusable(format!("settings: {error}")))?;
    let agent = FullName::parse(&case.context.agent);
    let mut call = StepCall {
        plugin: plugin.clone(),
        secrets: secrets_named(plugin, &settings),
        settings,
        context: StepContext {
            agent: agent.map_err(|error| Error::Unusable(format!("context.agent: {error}")))?,
            start: case.context.start,
            first_start: case.context.first_start,
            image: case.context.image.clone(),
        },
        history: Arc::default(),
    };
    let mut report = Report {
        name: case.name.clone(),
        ..Report::default()
    };
    // One turn for each effect and one for the end.
    for number in 0..=MAX_EFFECTS {
        let effect = match sandbox.host.step(&call) {
            StepTurn::Effect(effect) => effect,
            end => {
                finish(&mut report, case, number, &end);
                return Ok(report);
            }
        };
        report.lines.push(Line {
            what: say(&effect),
            ..Line::default()
        });
        let Some(answered) = case.effect.get(number) else {
            let asks = say(&effect);
            report
                .failures
                .push(format!("effect {}: the case has no answer to {asks}", number + 1));
            return Ok(report);
        };
        if let Some(problem) = unlike(answered, &effect) {
            report.failures.push(format!("effect {}: {problem}", number + 1));
            return Ok(report);
        }
        let result = answer(answered);
        if let Some(line) = report.lines.last_mut() {
            line.said.push(note_result(&result).what);
        }
        Arc::make_mut(&mut call.history).push((note(&effect), result));
    }
    Ok(report)
}

fn finish(report: &mut Report, case: &StepCase, asked: usize, end: &StepTurn) {
    let (word, message) = match end {
        StepTurn::Completed { message } => ("completed", message.clone()),
        StepTurn::Failed { message } => ("failed", message.clone()),
        StepTurn::Denied { what } => ("denied", what.clone()),
        StepTurn::NonDeterministic { n, recorded, asked } => (
            "not deterministic",
            format!("effect {} was {recorded}, then {asked}", n + 1),
        ),
        StepTurn::Unavailable(why) => ("unavailable", why.to_string()),
        StepTurn::Effect(_) => return,
    };
    report.lines.push(Line {
        what: word.into(),
        said: vec![message.clone()],
        ..Line::default()
    });
    if asked < case.effect.len() {
        let never = case.effect.len() - asked;
        report.failures.push(format!(
            "it {word} without asking for the last {never} effects: {message}"
        ));
    }
    let as_expected = match &case.expect {
        None => word == "completed",
        Some(Outcome::Completed(part)) => word == "completed" && message.contains(part),
        Some(Outcome::Failed(part)) => word == "failed" && message.contains(part),
        Some(Outcome::Denied(part)) => word == "denied" && message.contains(part),
    };
    if !as_expected {
        let expected = match &case.expect {
            None => "that it completes".to_owned(),
            Some(expected) => format!("{expected:?}"),
        };
        report
            .failures
            .push(format!("expected {expected}; it {word}: {message}"));
    }
}

fn answer(answered: &Answered) -> EffectResult {
    let failed = |problem: &Problem| EffectResult::Failed {
        code: problem.code.clone(),
        message: problem.message.clone(),
    };
    match answered {
        Answered::Exec { error: Some(error), .. }
        | Answered::WriteFile { error: Some(error), .. }
        | Answered::ReadFile { error: Some(error), .. } => failed(error),
        Answered::Exec {
            code, stdout, stderr, ..
        } => EffectResult::Exec {
            code: *code,
            stdout: stdout.clone().into_bytes(),
            stderr: stderr.clone().into_bytes(),
        },
        Answered::WriteFile { written, .. } => EffectResult::WriteFile {
            written: written.unwrap_or(true),
        },
        Answered::ReadFile { content, .. } => EffectResult::ReadFile {
            content: content.clone().into_bytes(),
        },
    }
}

fn unlike(answered: &Answered, effect: &Effect) -> Option<String> {
    let like = match (answered, effect) {
        (
            Answered::Exec { argv, stdin, .. },
            Effect::Exec {
                argv: asked,
                stdin: given,
                ..
            },
        ) => {
            let word = |(expected, asked): (&String, &String)| expected == "*" || expected == asked;
            argv.len() == asked.len() && argv.iter().zip(asked).all(word) && holds(stdin.as_ref(), given)
        }
        (
            Answered::WriteFile {
                path, mode, content, ..
            },
            Effect::WriteFile {
                path: asked,
                mode: with,
                content: given,
                ..
            },
        ) => path == asked && mode.is_none_or(|mode| mode == *with) && holds(content.as_ref(), given),
        (Answered::ReadFile { path, .. }, Effect::ReadFile { path: asked, .. }) => path == asked,
        _ => false,
    };
    (!like).then(|| format!("it asks for {}, the case expects {answered:?}", say(effect)))
}

fn holds(expected: Option<&String>, pieces: &[Piece]) -> bool {
    expected.is_none_or(|expected| *expected == text(pieces))
}

fn text(pieces: &[Piece]) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Bytes { bytes } => String::from_utf8_lossy(bytes).into_owned(),
        Piece::Secret { name, .. } => format!("{{{name}}}"),
    };
    pieces.iter().map(piece).collect()
}

fn say(effect: &Effect) -> String {
    match effect {
        Effect::Exec { argv, stdin, .. } if stdin.is_empty() => format!("exec {argv:?}"),
        Effect::Exec { argv, stdin, .. } => format!("exec {argv:?} with the input {:?}", text(stdin)),
        Effect::WriteFile {
            path, mode, content, ..
        } => format!("write-file {path:?}, mode {mode:o}: {:?}", text(content)),
        Effect::ReadFile { path, max, .. } => format!("read-file {path:?}, {max} bytes at most"),
    }
}

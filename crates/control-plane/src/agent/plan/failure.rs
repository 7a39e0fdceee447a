//! Why a step failed: one of the reasons that the journal knows, and a detail of code, message and end of stderr.

use clawker_model::event::InitFailure;
use clawker_model::{EffectNote, EffectResult};

/// Most bytes of stderr's end in a detail.
const MAX_STDERR: usize = 1024;

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailed {
    pub reason: InitFailure,
    pub detail: String,
}

impl StepFailed {
    pub fn new(reason: InitFailure, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    /// A step gave up with `message`; what its last effect came to says why.
    pub fn gave_up(message: &str, last: Option<&(EffectNote, EffectResult)>) -> Self {
        match last {
            Some((_, EffectResult::Exec { code, stderr, .. })) if *code != 0 => {
                Self::new(InitFailure::ExitNonzero, format!("{code}: {message}{}", end_of(stderr)))
            }
            Some((effect, EffectResult::Failed { code, .. })) => {
                let reason = match code.as_str() {
                    "timeout" => InitFailure::Timeout,
                    "denied" => InitFailure::PluginDenied,
                    _ if effect.is_exec() => InitFailure::StartFailed,
                    _ => InitFailure::PluginFailed,
                };
                Self::new(reason, format!("{code}: {message}"))
            }
            _ => Self::new(InitFailure::PluginFailed, message),
        }
    }

    pub fn timeout(seconds: u32) -> Self {
        Self::new(InitFailure::Timeout, format!("not done after {seconds} s"))
    }
}

/// The end of stderr, as far as it is text.
pub fn end_of(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim_end();
    let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_STDERR));
    match &text[from..] {
        "" => String::new(),
        end => format!("; stderr: {end}"),
    }
}

#[cfg(test)]
mod tests {
    use clawker_model::Effect;
    use clawker_plugin_host::note;

    use super::*;

    #[test]
    fn each_end_has_its_reason() {
        let exec = note(&Effect::Exec {
            argv: vec!["x".into()],
            env: vec![],
            cwd: None,
            user: None,
            timeout_s: 1,
            stdin: vec![],
        });
        let read = note(&Effect::ReadFile {
            path: "/x".into(),
            max: 1,
            user: None,
        });
        let ended = |code| EffectResult::Exec {
            code,
            stdout: vec![],
            stderr: b"why\n".to_vec(),
        };
        let failed = |code: &str| EffectResult::Failed {
            code: code.into(),
            message: "m".into(),
        };
        for (last, reason, detail) in [
            (None, InitFailure::PluginFailed, "no"),
            (Some((&exec, ended(4))), InitFailure::ExitNonzero, "4: no; stderr: why"),
            (Some((&exec, ended(0))), InitFailure::PluginFailed, "no"),
            (
                Some((&exec, failed("not_found"))),
                InitFailure::StartFailed,
                "not_found: no",
            ),
            (Some((&exec, failed("timeout"))), InitFailure::Timeout, "timeout: no"),
            (Some((&read, failed("timeout"))), InitFailure::Timeout, "timeout: no"),
            (
                Some((&read, failed("not_found"))),
                InitFailure::PluginFailed,
                "not_found: no",
            ),
            (Some((&read, failed("denied"))), InitFailure::PluginDenied, "denied: no"),
        ] {
            let last = last.map(|(effect, result)| (effect.clone(), result));
            assert_eq!(
                StepFailed::gave_up("no", last.as_ref()),
                StepFailed::new(reason, detail),
                "{last:?}"
            );
        }
    }

    #[test]
    fn only_the_end_of_stderr_is_kept() {
        let long = format!("ä{}end\n", "x".repeat(MAX_STDERR));
        let kept = end_of(long.as_bytes());
        assert!(
            kept.len() <= MAX_STDERR + "; stderr: ".len() && kept.ends_with("xend"),
            "{kept}"
        );
        assert_eq!(end_of(b" \n"), "");
    }
}

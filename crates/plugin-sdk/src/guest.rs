//! The component's half: generated bindings and what stands between them and the traits. WebAssembly only.

use std::marker::PhantomData;
use std::sync::Once;

use crate::policy::{Containment, Event, Facts, Policy, WindowCount};
use crate::step::{Command, Container, Context, EffectError, File, Form, Output, Piece, Secret, Step, WriteWhen};

pub mod gate;

#[expect(missing_docs, reason = "generated; the WIT files are the documentation")]
pub mod policy {
    wit_bindgen::generate!({
        path: "wit",
        world: "policy",
        pub_export_macro: true,
        default_bindings_module: "clawker_plugin_sdk::guest::policy",
    });
}

#[expect(missing_docs, reason = "generated; the WIT files are the documentation")]
pub mod step {
    wit_bindgen::generate!({
        path: "wit",
        world: "step",
        pub_export_macro: true,
        default_bindings_module: "clawker_plugin_sdk::guest::step",
        with: {
            "clawker:plugin/types@0.1.0": super::policy::clawker::plugin::types,
            "clawker:plugin/log@0.1.0": super::policy::clawker::plugin::log,
            "clawker:plugin/settings@0.1.0": super::policy::clawker::plugin::settings,
        },
    });
}

use policy::clawker::plugin::{policy_types, settings, types};
use step::clawker::plugin::{exec, read_file, secrets, step_types, write_file};

/// Exports a [`Policy`].
pub struct PolicyGuest<P>(PhantomData<P>);

impl<P: Policy> policy::Guest for PolicyGuest<P> {
    fn describe() -> types::Description {
        types::Description {
            name: P::NAME.into(),
            version: P::VERSION.into(),
            kind: types::Kind::Policy,
            settings_schema: P::settings_schema(),
            events: P::EVENTS.iter().map(|&kind| kind.into()).collect(),
            windows: P::WINDOWS
                .iter()
                .map(|w| types::Window {
                    kind: w.kind.into(),
                    seconds: w.seconds,
                })
                .collect(),
        }
    }

    fn evaluate(event: policy_types::Event, facts: policy_types::Facts, state: String) -> policy_types::Decision {
        explain_panics();
        let policy_types::Event {
            kind,
            seq,
            at,
            agent,
            body,
        } = event;
        let event = Event {
            kind,
            seq,
            at,
            agent,
            body,
        };
        let containment: Containment = crate::read("containment", &facts.containment).unwrap_or_else(|why| trap(&why));
        let count = |w: policy_types::WindowCount| WindowCount {
            kind: w.kind,
            seconds: w.seconds,
            count: w.count,
        };
        let facts = Facts {
            counts: facts.counts.into_iter().map(count).collect(),
            containment,
        };
        let decided = crate::policy::decide::<P>(&event, &facts, &settings::get(), &state);
        let (verdicts, state) = decided.unwrap_or_else(|fault| trap(&fault.to_string()));
        let verdict = |v: crate::policy::Verdict| policy_types::Verdict {
            action: v.action.into(),
            allow: v.allow,
            reason: v.reason,
        };
        policy_types::Decision {
            verdicts: verdicts.into_iter().map(verdict).collect(),
            state,
        }
    }
}

/// Exports a [`Step`].
pub struct StepGuest<S>(PhantomData<S>);

impl<S: Step> step::Guest for StepGuest<S> {
    fn describe() -> types::Description {
        types::Description {
            name: S::NAME.into(),
            version: S::VERSION.into(),
            kind: types::Kind::Step,
            settings_schema: S::settings_schema(),
            events: Vec::new(),
            windows: Vec::new(),
        }
    }

    fn run(context: step_types::Context) -> Result<step_types::Outcome, step_types::Failure> {
        explain_panics();
        let step_types::Context {
            agent,
            project,
            start,
            first_start,
            image,
        } = context;
        let context = Context {
            agent,
            project,
            start,
            first_start,
            image,
        };
        match crate::step::run::<S>(&context, &settings::get(), &mut Imports) {
            Ok(message) => Ok(step_types::Outcome { message }),
            Err(failure) => Err(step_types::Failure {
                message: failure.message,
            }),
        }
    }
}

/// The container behind the world's imports.
struct Imports;

impl Container for Imports {
    fn exec(&mut self, command: Command) -> Result<Output, EffectError> {
        let Command {
            argv,
            env,
            cwd,
            user,
            timeout,
            stdin,
        } = command;
        let output = exec::run(&exec::Command {
            argv,
            env,
            cwd,
            user,
            timeout,
            stdin: pieces(stdin),
        })
        .map_err(error)?;
        Ok(Output {
            code: output.code,
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    fn write_file(&mut self, file: File) -> Result<bool, EffectError> {
        let File {
            path,
            mode,
            owner,
            when,
            content,
        } = file;
        let when = match when {
            WriteWhen::Always => write_file::When::Always,
            WriteWhen::IfAbsent => write_file::When::IfAbsent,
            WriteWhen::IfChanged => write_file::When::IfChanged,
        };
        write_file::write(&write_file::File {
            path,
            mode,
            owner,
            when,
            content: pieces(content),
        })
        .map_err(error)
    }

    fn read_file_of(&mut self, path: &str, max: u32, user: Option<&str>) -> Result<Vec<u8>, EffectError> {
        read_file::read(path, max, user).map_err(error)
    }

    fn secret(&mut self, name: &str, form: Form) -> Secret {
        let form = match form {
            Form::Plain => secrets::Form::Plain,
            Form::Percent => secrets::Form::Percent,
        };
        Secret(secrets::take(name, form))
    }
}

fn pieces(pieces: Vec<Piece>) -> Vec<step_types::Piece> {
    let piece = |piece| match piece {
        Piece::Bytes(bytes) => step_types::Piece::Bytes(bytes),
        Piece::Secret(Secret(number)) => step_types::Piece::Secret(number),
    };
    pieces.into_iter().map(piece).collect()
}

fn error(error: step_types::EffectError) -> EffectError {
    EffectError {
        code: error.code,
        message: error.message,
    }
}

/// Ends the call; the host shows the line as the reason.
fn trap(why: &str) -> ! {
    crate::log::error(why);
    std::process::abort()
}

/// A panic's message would be lost without WASI's stderr.
fn explain_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string()))));
}

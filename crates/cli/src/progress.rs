//! What is being done, while it is being done: a spinner on a terminal, plain lines elsewhere.

use std::time::Duration;

use clawker_wire::admin::PlanProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::CommandError;
use crate::term::Term;
use crate::text::{plain, plain_json};

pub struct Progress {
    style: Style,
    /// Steps of the plan, as far as they were told.
    steps: u32,
}

enum Style {
    Off,
    Lines,
    Json,
    Spinner(ProgressBar),
}

impl Progress {
    pub fn new(term: &Term) -> Self {
        let style = match term.settings {
            settings if settings.json => Style::Json,
            settings if settings.quiet => Style::Off,
            settings if term.tty.stderr => Style::Spinner(spinner(settings.colour)),
            _ => Style::Lines,
        };
        Self { style, steps: 0 }
    }

    pub async fn doing(&mut self, term: &mut Term, text: &str) -> Result<(), CommandError> {
        let text = plain(text).into_owned();
        match &self.style {
            Style::Off => {}
            Style::Spinner(bar) => bar.set_message(text),
            Style::Lines => term.remark(&format!("clawker: {text}")).await?,
            Style::Json => object(term, &serde_json::json!({"progress": "doing", "text": text})).await,
        }
        Ok(())
    }

    pub async fn step(&mut self, term: &mut Term, step: &PlanProgress) -> Result<(), CommandError> {
        // The end of a step doesn't always say how many there are.
        self.steps = self.steps.max(step.count).max(step.index);
        let (index, count) = (step.index, self.steps);
        let name = plain(&step.name).into_owned();
        match &self.style {
            Style::Off => {}
            Style::Spinner(bar) if step.completed => bar.suspend(|| eprintln!("  done {index}/{count} {name}")),
            Style::Spinner(bar) => bar.set_message(format!("step {index}/{count} {name}")),
            Style::Lines => {
                let state = if step.completed { "done" } else { "begins" };
                term.remark(&format!("clawker: step {index}/{count} {name} {state}"))
                    .await?;
            }
            Style::Json => {
                let progress = serde_json::json!({
                    "progress": "step", "name": name, "index": index, "count": count, "completed": step.completed,
                });
                object(term, &progress).await;
            }
        }
        Ok(())
    }

    /// The command runs; a program may want to know.
    pub async fn running(&mut self, term: &mut Term) {
        self.make_way();
        if matches!(self.style, Style::Json) {
            object(term, &serde_json::json!({"progress": "running"})).await;
        }
    }

    /// Clears the line before anything else is written to the terminal; what follows are plain lines.
    pub fn make_way(&mut self) {
        if let Style::Spinner(bar) = &self.style {
            bar.finish_and_clear();
            self.style = Style::Lines;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.make_way();
    }
}

/// Progress that can't be written is no reason to fail.
async fn object(term: &mut Term, object: &serde_json::Value) {
    let _ = term.error_line(&plain_json(&object.to_string())).await;
}

fn spinner(colour: bool) -> ProgressBar {
    let template = if colour {
        "{spinner:.cyan} {wide_msg}"
    } else {
        "{spinner} {wide_msg}"
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

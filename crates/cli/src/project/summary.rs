//! An agent of a project's file in plain words.

use clawker_wire::admin::{CreateAgentRequest, Step};

use super::request::Wanted;

/// A line each; the first names the agent.
pub fn lines(wanted: &Wanted) -> Vec<String> {
    let r = &wanted.request;
    let name = match r.project.as_str() {
        "" => wanted.name.clone(),
        project => format!("{project}.{}", wanted.name),
    };
    let mut lines = vec![format!("{name}: {}", runs(r))];
    let mut say = |line: String| lines.push(format!("  {line}"));
    say(match r.egress.as_slice() {
        _ if r.network == "none" => "has no network".into(),
        [] => "may connect to what this host lets agents connect to".into(),
        [open] if open == "open" => "may connect to anything".into(),
        only => format!("may connect to {} alone", only.join(", ")),
    });
    for mount in &r.mounts {
        let may = if mount.read_only { "reads" } else { "reads and writes" };
        say(format!("{may} {} as {}", mount.source, mount.target));
    }
    if !r.publish.is_empty() {
        say(format!("can be reached at {}", r.publish.join(", ")));
    }
    for (secret, file) in r.secrets.iter().zip(&wanted.secret_files) {
        let whom = match (secret.step_only, secret.as_file) {
            (true, _) => "its steps get",
            (false, true) => "its command gets, as a file,",
            (false, false) => "its command gets, as a variable,",
        };
        say(format!("{whom} the secret {} from {}", secret.name, file.display()));
    }
    let mut steps: Vec<&Step> = r.steps.iter().collect();
    steps.sort_by_key(|step| !once(step));
    for step in steps {
        let often = if once(step) { "once" } else { "at each start" };
        let else_ = if step.on_failure == "continue" {
            ""
        } else {
            ", or its command doesn't run"
        };
        say(format!("is prepared by {}, {often}{else_}", step.plugin));
    }
    lines
}

fn runs(r: &CreateAgentRequest) -> String {
    let mut text = match r.command.as_slice() {
        [] => format!("runs the command of {}", r.image),
        command => format!("runs `{}` in {}", command.join(" "), r.image),
    };
    if let Some(user) = &r.user {
        text.push_str(&format!(" as {user}"));
    }
    text
}

/// As the control plane has it for a step that doesn't say.
fn once(step: &Step) -> bool {
    match step.when.as_str() {
        "" => matches!(
            step.plugin.as_str(),
            "config" | "git" | "git-credentials" | "ssh" | "post-init"
        ),
        when => when == "once",
    }
}

//! How an image's defaults and a caller's wishes become one command, as Docker has it.
//! (Docker's reference: `docker run`, "Overriding image defaults".)

use clawker_docker::Image;
use clawker_model::MainSpec;
use clawker_wire::admin::CreateAgentRequest;

use super::error::Fault;
use super::limits;

/// What Docker sets where neither image nor caller says anything.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The agent's command, complete.
pub fn main_spec(image: &Image, request: &CreateAgentRequest, hostname: &str) -> Result<MainSpec, Fault> {
    let argv = argv(image, &request.entrypoint, &request.command);
    if argv.iter().all(String::is_empty) {
        return Err(Fault::usage(
            format!(
                "image `{}` has no command of its own, and none was given",
                request.image
            ),
            "give one: `clawker run IMAGE -- COMMAND`",
        ));
    }
    limits::argv("command", &argv)?;
    let env = env(&image.env, &request.env, hostname, request.tty);
    limits::env(&env)?;
    Ok(MainSpec {
        argv,
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        env,
        cwd: request.cwd.clone().unwrap_or_else(|| image.workdir.clone()),
        tty: request.tty,
        open_stdin: request.stdin,
        stop_signal: image.stop_signal.clone(),
        no_new_privs: !request.allow_sudo,
    })
}

/// Entrypoint and command, joined. A caller's entrypoint drops the image's command too; a command that begins with
/// a flag goes to the image's whole default command.
fn argv(image: &Image, entrypoint: &[String], command: &[String]) -> Vec<String> {
    let flags = command.first().is_some_and(|first| first.starts_with('-'));
    let parts: [&[String]; 3] = match (entrypoint, command) {
        // `--entrypoint ""` takes the image's away.
        ([one], command) if one.is_empty() => [command, &[], &[]],
        ([], []) => [&image.entrypoint, &image.cmd, &[]],
        ([], command) if flags => [&image.entrypoint, &image.cmd, command],
        ([], command) => [&image.entrypoint, command, &[]],
        (entrypoint, command) => [entrypoint, command, &[]],
    };
    parts.concat()
}

/// The image's variables with the caller's in their place or after them. A bare `NAME` takes one away.
fn env(image: &[String], caller: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let name = |var: &str| var.split('=').next().unwrap_or_default().to_owned();
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".into());
    }
    for var in image.iter().chain(caller) {
        let at = env.iter().position(|known| name(known) == name(var));
        match (at, var.contains('=')) {
            (Some(at), true) => env[at].clone_from(var),
            (None, true) => env.push(var.clone()),
            (Some(at), false) => {
                env.remove(at);
            }
            (None, false) => {}
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_command_join_as_docker_joins_them() {
        // image entrypoint, image cmd, caller entrypoint, caller command, what runs
        let cases = [
            ("", "sh", "", "", "sh"),
            ("", "sh", "", "ls -l", "ls -l"),
            ("tini --", "app serve", "", "", "tini -- app serve"),
            ("tini --", "app serve", "", "ls", "tini -- ls"),
            ("tini --", "app serve", "", "--debug x", "tini -- app serve --debug x"),
            ("", "claude", "", "-p hello", "claude -p hello"),
            ("tini --", "app serve", "bash", "", "bash"),
            ("tini --", "app serve", "bash", "-c ls", "bash -c ls"),
            ("tini --", "", "", "-x", "tini -- -x"),
        ];
        for (image_entrypoint, image_cmd, entrypoint, command, expected) in cases {
            let image = Image {
                entrypoint: words(image_entrypoint),
                cmd: words(image_cmd),
                ..Default::default()
            };
            let got = argv(&image, &words(entrypoint), &words(command));
            assert_eq!(
                got,
                words(expected),
                "{image_entrypoint:?} {image_cmd:?} {entrypoint:?} {command:?}"
            );
        }
        let image = Image {
            entrypoint: words("tini"),
            cmd: words("app"),
            ..Default::default()
        };
        assert_eq!(argv(&image, &[String::new()], &words("ls")), words("ls"));
    }

    #[test]
    fn the_callers_variables_win_in_place() {
        let image = ["A=1", "B=2", "PATH=/opt"].map(str::to_owned);
        let caller = ["B=3", "C=x=y", "A", "NOT_THERE"].map(str::to_owned);
        assert_eq!(
            env(&image, &caller, "clawker.a", false),
            ["PATH=/opt", "HOSTNAME=clawker.a", "B=3", "C=x=y"]
        );
        let bare = env(&[], &[], "h", true);
        assert_eq!(bare, [PATH, "HOSTNAME=h", "TERM=xterm"]);
        assert_eq!(env(&[], &["TERM=vt100".into()], "h", true)[2], "TERM=vt100");
    }

    #[test]
    fn the_callers_wishes_stand_over_the_images() {
        let image = Image {
            cmd: words("sh"),
            user: "1000".into(),
            workdir: "/app".into(),
            stop_signal: Some("SIGQUIT".into()),
            ..Default::default()
        };
        let mut request = CreateAgentRequest::default();
        let plain = main_spec(&image, &request, "h").expect("plain");
        assert_eq!(
            (plain.user.as_str(), plain.cwd.as_str(), plain.no_new_privs),
            ("1000", "/app", true)
        );
        assert_eq!(plain.stop_signal.as_deref(), Some("SIGQUIT"));
        request.user = Some(String::new());
        request.cwd = Some("/work".into());
        request.allow_sudo = true;
        let wished = main_spec(&image, &request, "h").expect("wished");
        assert_eq!(
            (wished.user.as_str(), wished.cwd.as_str(), wished.no_new_privs),
            ("", "/work", false)
        );
    }

    #[test]
    fn an_image_without_a_command_needs_one() {
        let fault = main_spec(&Image::default(), &CreateAgentRequest::default(), "h").expect_err("nothing to run");
        assert_eq!(fault.exit, 2);
        assert!(fault.message.contains("no command"), "{fault}");
    }
}

//! No place for another process: by a limit that the engine set, or because a fork bomb takes every one.

use std::path::PathBuf;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use super::{refused, still_serves, with_argv};
use crate::host::{Container, can_run, eventually};
use crate::plane::Plane;
use crate::session::{Session, exec};

/// What limits the processes of a container, as an engine would: PID 1 and its half count too.
struct Places(PathBuf);

impl Places {
    /// Nothing, with a printed line, where there is no such controller to write to.
    fn of(container: &Container, name: &str) -> Option<Self> {
        let name = format!("clawkerd-test-{name}-{}", std::process::id());
        let made = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .into_iter()
            .find_map(|hierarchy| {
                let path = PathBuf::from(hierarchy).join(&name);
                std::fs::create_dir(&path).ok()?;
                let places = Self(path);
                places.0.join("pids.max").exists().then_some(places)
            });
        let Some(places) = made else {
            println!("skipped: no pids controller here");
            return None;
        };
        for (pid, _) in container.processes() {
            places.write("cgroup.procs", &pid.to_string());
        }
        Some(places)
    }

    fn write(&self, file: &str, value: &str) {
        std::fs::write(self.0.join(file), value).expect("written");
    }

    fn limit(&self, most: &str) {
        self.write("pids.max", most);
    }

    fn used(&self) -> usize {
        let text = std::fs::read_to_string(self.0.join("pids.current")).expect("readable");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // The container is dropped after it: what it held moves up.
        let procs = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let _ = std::fs::write(self.0.join("pids.max"), "max");
        for pid in procs.lines() {
            if let Some(above) = self.0.parent() {
                let _ = std::fs::write(above.join("cgroup.procs"), pid);
            }
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

async fn kill(session: &mut Session, id: &str) -> u32 {
    let signal = Command::Signal(pb::Signal {
        exec_id: id.to_owned(),
        signo: 9,
    });
    match session.ask(signal).await {
        Body::Signalled(reached) => reached.processes,
        other => panic!("{other:?} instead of Signalled"),
    }
}

#[tokio::test]
async fn without_a_place_for_another_process_an_exec_says_so_and_leaves_none_of_its_stages() {
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let Some(places) = Places::of(&container, "full") else {
        return;
    };
    places.limit("2");
    let no_place = ("spawn".to_owned(), libc::EAGAIN);
    assert_eq!(refused(&mut session, exec("none", "true")).await, no_place);
    places.limit("4");
    let mut pipeline = exec("pipeline", "exec sleep 300");
    pipeline.stages = vec![pipeline.stages[0].clone(); 5];
    assert_eq!(refused(&mut session, pipeline).await, no_place);
    eventually("its first stages are gone", || (places.used() == 2).then_some(()));
    still_serves(&container, &mut session).await;

    // A half that dies then is started when there is a place again; PID 1 has waited.
    places.limit("1");
    let half = container.half().expect("it lives");
    clawker_proc::signal::kill(half, libc::SIGKILL).expect("ours");
    container.expect_said("starting the session half: Resource temporarily unavailable");
    places.limit("max");
    let mut session = plane.session().await;
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn a_fork_bomb_that_takes_every_place_is_killed_to_its_last_process() {
    const MOST: usize = 48;
    if !can_run() {
        return;
    }
    let plane = Plane::new();
    let container = Container::start(plane.dir(), &[]);
    let mut session = plane.session().await;
    let Some(places) = Places::of(&container, "bomb") else {
        return;
    };
    places.limit(&MOST.to_string());
    let bomb = with_argv("bomb", [env!("CARGO_BIN_EXE_clawkerd-witness"), "bomb"]);
    assert!(matches!(session.ask(Command::Exec(bomb)).await, Body::Started(_)));
    eventually("every place is taken", || (places.used() == MOST).then_some(()));
    assert_eq!(
        refused(&mut session, exec("none", "true")).await,
        ("spawn".to_owned(), libc::EAGAIN)
    );
    let reached = kill(&mut session, "bomb").await;
    assert!(reached as usize >= MOST - 3, "only {reached} were reached");
    eventually("all of it is gone", || (places.used() == 2).then_some(()));
    still_serves(&container, &mut session).await;
}

//! Lines for the person who waits. All of them go to stderr: stdout belongs to the program that is run in the end.

use std::time::Instant;

/// `setup: docker.io is there`
pub fn say(topic: &str, line: impl AsRef<str>) {
    eprintln!("{topic}: {}", line.as_ref());
}

/// Announces a piece of work and, when it is over, says how long it took.
pub fn timed<T, E>(topic: &str, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    say(topic, format!("{what} …"));
    let since = Instant::now();
    let outcome = work();
    let ended = if outcome.is_ok() { "done" } else { "failed" };
    say(
        topic,
        format!("{what}: {ended} in {:.1} s", since.elapsed().as_secs_f64()),
    );
    outcome
}

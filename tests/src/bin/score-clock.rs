//! `score-clock`: prints CLOCK_MONOTONIC in nanoseconds, as early as a program can. The scorecard's containers run it.

fn main() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = i128::from(now.tv_sec);
    println!("{}", seconds * 1_000_000_000 + i128::from(now.tv_nsec));
}

//! A process that appends, ended by force or by the limits of its files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command as Process, Stdio};

use super::*;

const DIR: &str = "CLAWKER_STORE_CRASH_DIR";

/// The process that is killed: says which rows were acknowledged as durable. Run by itself, without the folder that
/// the tests below give it, it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Store::open(Path::new(&dir), "child").expect("open");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for i in 0.. {
                match store.append_synced(Some(&name(n)), sized(100 + i % 900)).await {
                    Ok(row) => say(&format!("acked {}", row.seq)),
                    Err(e) => return say(&format!("refused {e}")),
                }
            }
        });
    }
    tasks.join_all().await;
    // With its limit reached it still answers, and what it has is whole.
    let bad = store.verify_chain(0).await.expect("verify");
    say(&format!("ended {bad:?}"));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).expect("stdout");
    out.flush().expect("stdout");
}

fn child_command() -> String {
    let exe = std::env::current_exe().expect("exe");
    format!("{} tests::crash::child --exact --nocapture", exe.display())
}

fn acked(line: &str) -> Option<u64> {
    line.strip_prefix("acked ")?.parse().ok()
}

/// Returns how many rows there are beyond the last acknowledged one.
async fn expect_whole(dir: &Path, acked: &[u64]) -> u64 {
    let store = open(dir);
    let last = *acked.iter().max().expect("some were acknowledged");
    assert!(
        store.last_seq() >= last,
        "row {last} was acknowledged, the journal ends at {}",
        store.last_seq()
    );
    assert_eq!(store.verify_chain(0).await.expect("verify"), None);
    assert_eq!(store.report().rebuilt, None);
    let more = store.last_seq() - last;
    store.close().await;
    more
}

#[tokio::test]
async fn killed_at_any_moment_no_acknowledged_row_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    for round in 0..5 {
        let mut child = Process::new("sh")
            .args(["-c", &format!("exec {}", child_command())])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("child");
        let mut out = BufReader::new(child.stdout.take().expect("stdout"))
            .lines()
            .map_while(Result::ok);
        let mut seen: Vec<u64> = out.by_ref().filter_map(|l| acked(&l)).take(50 + 70 * round).collect();
        child.kill().expect("kill");
        seen.extend(out.filter_map(|l| acked(&l)));
        child.wait().expect("wait");
        expect_whole(dir.path(), &seen).await;
    }
}

#[tokio::test]
async fn files_that_cannot_grow_are_a_typed_error_and_nothing_half_done() {
    let dir = tempfile::tempdir().expect("dir");
    // Blocks of 512 bytes; without the signal a write beyond them fails with EFBIG.
    let script = format!("trap '' XFSZ; ulimit -f 400; exec {}", child_command());
    let output = Process::new("sh")
        .args(["-c", &script])
        .env(DIR, dir.path())
        .output()
        .expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    let seen: Vec<u64> = text.lines().filter_map(acked).collect();
    assert!(text.contains("refused ") && text.contains("ended None"), "{text}");
    // Every row that there is was acknowledged: a refused one is nowhere.
    assert_eq!(expect_whole(dir.path(), &seen).await, 0);
}

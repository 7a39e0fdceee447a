//! P7: bytes of an exec between a process in an agent and an operator, each way.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clawker_tests::Host;

use crate::admin::Operator;
use crate::figure::{Bound, Figure};
use crate::plain::{self, Plain};
use crate::relay::{CHUNK, Relay, pieces};
use crate::stats::Samples;
use crate::{Bench, ROUNDS, doing};

/// 256 MiB: starting what carries them is a small part.
const LEN: u64 = 4096 * CHUNK as u64;
const WRITES: [&str; 4] = ["dd", "if=/dev/zero", "bs=64k", "count=4096"];
/// Only of whole blocks it says how much they were.
const READS: [&str; 4] = ["dd", "of=/dev/null", "bs=64k", "iflag=fullblock"];

#[derive(Clone, Copy)]
enum Way {
    Out,
    In,
}

/// Rates of one way, in MB/s.
#[derive(Default)]
struct Rates {
    own: Vec<f64>,
    relay: Vec<f64>,
    cli: Vec<f64>,
}

pub fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let host = bench.host()?;
    let agent = host
        .agent("carry")
        .image(bench.image()?)
        .command(["sleep", "100000"])
        .run()?;
    let peer = Plain::start(bench, "p7-peer", &["sleep", "100000"])?;
    let relay = bench.runtime.block_on(Relay::start())?;
    let mut figures = Vec::new();
    for way in [Way::Out, Way::In] {
        let rates = measured(bench, &host, &agent.full(), &peer, &relay, way)?;
        figures.extend(judged(rates, way));
    }
    Ok(figures)
}

fn measured(bench: &Bench, host: &Host, agent: &str, peer: &Plain, relay: &Relay, way: Way) -> Result<Rates> {
    let mut operator = bench.runtime.block_on(Operator::connect(&host.socket()))?;
    let with_cli = plain::has_cli();
    let mut rates = Rates::default();
    let what = match way {
        Way::Out => "output",
        Way::In => "input",
    };
    for round in 0..=ROUNDS {
        doing(&format!("P7, {what}, round {round} of {ROUNDS}"))?;
        let own = rate(|| bench.runtime.block_on(ours(&mut operator, agent, way)))?;
        let bare = rate(|| {
            bench.runtime.block_on(async {
                match way {
                    Way::Out => relay.give(LEN).await,
                    Way::In => relay.take(LEN).await,
                }
            })
        })?;
        let cli = with_cli.then(|| rate(|| docker_exec(peer, way))).transpose()?;
        if round > 0 {
            rates.own.push(own);
            rates.relay.push(bare);
            rates.cli.extend(cli);
        }
    }
    Ok(rates)
}

/// What carries all of them, in MB/s.
fn rate(carry: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let began = Instant::now();
    let carried = carry()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(carried == LEN, "{carried} bytes of {LEN} arrived");
    Ok(LEN as f64 / seconds / 1e6)
}

async fn ours(operator: &mut Operator, agent: &str, way: Way) -> Result<u64> {
    match way {
        Way::Out => {
            let nothing = None::<std::iter::Empty<_>>;
            Ok(operator.exec_with(agent, &WRITES, nothing).await?.0)
        }
        Way::In => {
            let (_, said) = operator.exec_with(agent, &READS, Some(pieces(LEN))).await?;
            copied(&said)
        }
    }
}

/// What `dd` says that it has copied: all dds count blocks, not all of them bytes.
fn copied(said: &str) -> Result<u64> {
    let blocks = said.lines().find_map(|line| line.strip_suffix("+0 records out"));
    let blocks = blocks.and_then(|number| number.parse::<u64>().ok());
    Ok(blocks.with_context(|| format!("dd said `{said}`"))? * CHUNK as u64)
}

fn docker_exec(peer: &Plain, way: Way) -> Result<u64> {
    let mut command = Command::new("docker");
    command.arg("exec");
    match way {
        Way::Out => command.arg(&peer.id).args(WRITES).stdin(Stdio::null()),
        Way::In => command.args(["-i", &peer.id]).args(READS).stdin(Stdio::piped()),
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("docker exec")?;
    if let Some(mut stdin) = child.stdin.take() {
        for piece in pieces(LEN) {
            stdin.write_all(&piece).context("writing to docker exec")?;
        }
    }
    let mut came = 0;
    let mut stdout = child.stdout.take().context("its output")?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match stdout.read(&mut buffer)? {
            0 => break,
            n => came += n as u64,
        }
    }
    let ended = child.wait_with_output()?;
    ensure!(ended.status.success(), "docker exec ended with {}", ended.status);
    match way {
        Way::Out => Ok(came),
        Way::In => copied(&String::from_utf8_lossy(&ended.stderr)),
    }
}

/// The targets are of output; beside input there is none.
fn judged(rates: Rates, way: Way) -> Vec<Figure> {
    let own = Samples::of(rates.own);
    let with_cli = !rates.cli.is_empty();
    let relay = ("bare two-hop tonic relay", Samples::of(rates.relay));
    let cli = ("docker exec, CLI", Samples::of(rates.cli));
    let target = |limit: f64| move |f: &Figure| vec![Bound::times(f.ratio, limit)];
    let mut figures = match way {
        Way::Out => vec![
            Figure::rates(
                "P7",
                "output of an exec, clawkerd to operator",
                "MB/s",
                own.clone(),
                relay,
            )
            .bounds(target(0.7))
            .note(
                "256 MiB of `dd` with blocks of 64 KiB, request to exit code; the relay begins with bytes in memory, \
                     and both its hops, its client and ours are in the measuring process",
            ),
            Figure::rates("P7", "the same, against the command line", "MB/s", own, cli)
                .bounds(target(1.2))
                .note("ours has no program to start; `clawker exec` is not measured"),
        ],
        Way::In => vec![
            Figure::rates(
                "P7",
                "input of an exec, operator to clawkerd",
                "MB/s",
                own.clone(),
                relay,
            )
            .note("256 MiB into `dd` with blocks of 64 KiB, request to exit code"),
            Figure::rates("P7", "the same, against the command line", "MB/s", own, cli).note("`docker exec -i`"),
        ],
    };
    if !with_cli {
        figures.truncate(1);
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dd_has_copied_is_read_off_its_blocks() {
        let said = "4096+0 records in\n4096+0 records out\n268435456 bytes (256.0MB) copied, 0.5 seconds\n";
        assert_eq!(copied(said).expect("read"), LEN);
        assert!(copied("4096+0 records in\n4095+1 records out\n").is_err());
    }
}

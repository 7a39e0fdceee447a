use std::path::{Path, PathBuf};

use clawker_wire::admin::{AuditExportRequest, AuditHeadRequest, AuditReport, AuditVerifyRequest, SignedHead};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::client::{Client, answer};
use crate::error::{CommandError, Kind};
use crate::term::Term;
use crate::text::{count, plain};

/// Prove the journal: verify it, sign its end, export it
///
/// Each row of the journal has the hash of the one before it, and the host key signs its end every 10 seconds. Whoever
/// owns this machine can write another history; a head that was kept elsewhere finds that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clawker audit head > head-of-today.json     (keep it on another machine)
  clawker audit verify --head head-of-today.json
  clawker audit export > journal.jsonl")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check every row, every signed head and the checkpoint; fails if one isn't what was written
    Verify {
        /// Signed heads that were kept: what `audit head` or `audit export` wrote
        #[arg(long = "head", value_name = "FILE")]
        heads: Vec<PathBuf>,
    },
    /// Sign the journal's end and print it, as one JSON object
    Head,
    /// Print the rows as they are stored and the signed heads, one JSON object a line
    Export {
        /// Only what comes after a row that was exported before
        #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
        cursor: String,
    },
}

pub async fn run(args: Args, client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    match args.what {
        What::Verify { heads } => verify(&heads, client, term).await,
        What::Head => {
            let head = answer(client.rpc.audit_head(AuditHeadRequest {})).await?;
            term.object(&Head::from(head)).await?;
            Ok(0)
        }
        What::Export { cursor } => {
            let request = AuditExportRequest { cursor };
            let mut lines = client.rpc.audit_export(request).await?.into_inner();
            while let Some(line) = lines.message().await? {
                term.line(&crate::text::plain_json(&line.json)).await?;
            }
            Ok(0)
        }
    }
}

/// A signed head as a file has it.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    journal: String,
    seq: u64,
    hash: String,
    at_ms: u64,
    key: String,
    signature: String,
}

/// A line of an export.
#[derive(Debug, Deserialize)]
struct Exported {
    head: Head,
}

impl From<SignedHead> for Head {
    fn from(head: SignedHead) -> Self {
        Self {
            journal: head.journal,
            seq: head.seq,
            hash: head.hash,
            at_ms: head.at_ms,
            key: head.key,
            signature: head.signature,
        }
    }
}

impl From<Head> for SignedHead {
    fn from(head: Head) -> Self {
        Self {
            journal: head.journal,
            seq: head.seq,
            hash: head.hash,
            at_ms: head.at_ms,
            key: head.key,
            signature: head.signature,
        }
    }
}

/// The control plane takes no more at once; the newest say most.
const MAX_HEADS: usize = 1000;

async fn verify(files: &[PathBuf], client: &mut Client, term: &mut Term) -> Result<u8, CommandError> {
    let mut heads = Vec::new();
    for file in files {
        heads.extend(read(file).await?);
    }
    heads.sort_by_key(|head| std::cmp::Reverse(head.seq));
    heads.truncate(MAX_HEADS);
    let report = client
        .rpc
        .audit_verify(AuditVerifyRequest { heads })
        .await?
        .into_inner();
    show(term, &report).await?;
    if report.sound {
        return Ok(0);
    }
    let error = format!("the journal isn't what was written: {}", count(report.found, "finding"));
    Err(CommandError::new(Kind::Failed, error)
        .hint("keep a copy of the state folder as evidence; `clawker restore` puts a backup in its place"))
}

/// The heads in a file; an export's rows are passed over.
async fn read(file: &Path) -> Result<Vec<SignedHead>, CommandError> {
    let failed = |error: std::io::Error| CommandError::io(format_args!("reading {}", file.display()), &error);
    let open = tokio::fs::File::open(file).await.map_err(failed)?;
    let mut lines = BufReader::new(open).lines();
    let mut heads = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let exported = serde_json::from_str(&line).map(|line: Exported| line.head);
        if let Ok(head) = exported.or_else(|_| serde_json::from_str::<Head>(&line)) {
            heads.push(head.into());
        }
    }
    if heads.is_empty() {
        let error = format!("{} has no signed head", file.display());
        return Err(CommandError::new(Kind::NoInput, error).hint("`clawker audit head` prints one"));
    }
    Ok(heads)
}

async fn show(term: &mut Term, report: &AuditReport) -> Result<(), CommandError> {
    if term.settings.json {
        let findings = report
            .findings
            .iter()
            .map(|f| serde_json::json!({"seq": f.seq, "text": f.text}));
        let object = serde_json::json!({
            "sound": report.sound, "journal": report.journal, "key": report.key, "from": report.from,
            "last": report.last, "heads": report.heads, "too_old": report.too_old, "found": report.found,
            "findings": findings.collect::<Vec<_>>(),
        });
        return term.object(&object).await;
    }
    for finding in &report.findings {
        term.line(&plain(&finding.text)).await?;
    }
    if report.too_old > 0 {
        let old = count(report.too_old, "head");
        term.remark(&format!("too old for the rows that are kept, and not compared: {old}"))
            .await?;
    }
    if report.sound {
        let rows = count(report.last.saturating_sub(report.from), "row");
        let checked = format!(
            "{rows} up to {} and {} are what was written",
            report.last,
            count(report.heads, "head")
        );
        term.line(&checked).await?;
        term.line(&format!(
            "journal {}, host key {}",
            plain(&report.journal),
            plain(&report.key)
        ))
        .await?;
    }
    Ok(())
}

//! A configuration file of ours, and the line in `~/.gitconfig` through which git reads it. So what the image or the
//! user has in `~/.gitconfig` stays as it is.

use clawker_plugin_sdk::step::{Container, Failure, File, WriteWhen};

const GITCONFIG: &str = "~/.gitconfig";
const MAX_FILE: u32 = 1 << 20;

/// Writes `~/.config/clawker/<name>` and has `~/.gitconfig` include it. Whether anything was written.
pub fn include(name: &str, text: String, container: &mut impl Container) -> Result<bool, Failure> {
    let path = format!("~/.config/clawker/{name}");
    let ours = container.write_file(File::new(&path, text).mode(0o644).when(WriteWhen::IfChanged))?;
    let there = match container.read_file(GITCONFIG, MAX_FILE) {
        Ok(there) => there,
        Err(error) if error.code == "not_found" => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let line = format!("path = {path}");
    let known = there
        .split(|byte| *byte == b'\n')
        .any(|there| there.trim_ascii() == line.as_bytes());
    if known {
        return Ok(ours);
    }
    let mut after = there;
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    after.extend_from_slice(format!("[include]\n\t{line}\n").as_bytes());
    container.write_file(File::new(GITCONFIG, after))?;
    Ok(true)
}

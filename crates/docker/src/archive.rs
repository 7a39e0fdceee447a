//! Files that are put into a container, running or not, by Docker's archive API.
//!
//! What stands at a path gives way, a symlink of the image's too: Docker unpacks the names as they are, below the
//! container's root.

use bollard::query_parameters::UploadToContainerOptions;
use bytes::Bytes;
use clawker_model::ContainerId;

use crate::{Docker, Error};

const BLOCK: usize = 512;
/// ustar's first name field.
const MAX_NAME: usize = 100;

/// One file of root's, in a folder that is made with it.
#[derive(Clone)]
pub struct PutFile {
    /// Below the container's root, without a slash in front.
    pub path: String,
    pub mode: u32,
    pub content: Bytes,
}

impl std::fmt::Debug for PutFile {
    /// The content may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// Puts files into `folder` (one part, 0755, root's), which is made unless it is there.
    pub async fn put(&self, id: &ContainerId, folder: &str, files: &[PutFile]) -> Result<(), Error> {
        let call = format!("put files into container {}", id.short());
        let tar = archive(folder, files).map_err(|message| Error::Malformed {
            call: call.clone(),
            message,
        })?;
        let options = UploadToContainerOptions {
            path: "/".to_owned(),
            ..Default::default()
        };
        self.change(&call, async move |docker| {
            docker
                .upload_to_container(id.as_str(), Some(options), bollard::body_full(tar.into()))
                .await
        })
        .await
        .map_err(|error| match error {
            Error::Engine { status: 404, .. } => Error::NoSuchContainer {
                id: id.short().to_owned(),
            },
            other => other,
        })
    }
}

fn archive(folder: &str, files: &[PutFile]) -> Result<Vec<u8>, String> {
    let mut tar = header(&format!("{folder}/"), 0o755, 0, b'5')?.to_vec();
    for file in files {
        tar.extend_from_slice(&header(
            &format!("{folder}/{}", file.path),
            file.mode,
            file.content.len(),
            b'0',
        )?);
        tar.extend_from_slice(&file.content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    Ok(tar)
}

/// A header in POSIX's ustar format; owner and group are root.
fn header(name: &str, mode: u32, bytes: usize, kind: u8) -> Result<[u8; BLOCK], String> {
    if name.len() > MAX_NAME {
        return Err(format!("`{name}` is longer than {MAX_NAME} bytes"));
    }
    let mut block = [0; BLOCK];
    let mut field = |at: usize, text: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(text) {
            *to = *from;
        }
    };
    field(0, name.as_bytes());
    field(100, format!("{mode:07o}\0").as_bytes());
    field(108, b"0000000\0");
    field(116, b"0000000\0");
    field(124, format!("{bytes:011o}\0").as_bytes());
    field(136, b"00000000000\0");
    // The checksum counts its own field as spaces.
    field(148, b"        ");
    field(156, &[kind]);
    field(257, b"ustar\x0000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    for (to, from) in block.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").as_bytes()) {
        *to = *from;
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_a_folder_and_its_files_in_whole_blocks() {
        let file = |path: &str, bytes: &'static [u8]| PutFile {
            path: path.into(),
            mode: 0o400,
            content: Bytes::from_static(bytes),
        };
        let tar = archive(".clawker", &[file("join", b"secret"), file("empty", b"")]).expect("short names");
        assert_eq!(tar.len(), 6 * BLOCK);
        assert!(tar.starts_with(b".clawker/\0"));
        assert_eq!(&tar[BLOCK..BLOCK + 13], b".clawker/join");
        assert_eq!(&tar[BLOCK + 100..BLOCK + 107], b"0000400");
        assert_eq!(&tar[2 * BLOCK..2 * BLOCK + 6], b"secret");
        assert!(archive(&"x".repeat(MAX_NAME), &[file("join", b"")]).is_err());
        assert!(!format!("{:?}", file("join", b"secret")).contains("secret"));
    }
}

//! An artifact in an OCI layout: a folder with `oci-layout`, `index.json` and `blobs/sha256/<hex>`.

use std::fs::File;
use std::path::{Path, PathBuf};

use clawker_model::PluginDigest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

use crate::answers::{self, Artifact, Blob, Entry, Unfit};
use crate::error::plain;
use crate::file::{aside, read_opened, regular};
use crate::options::{expect_digest, fetched};
use crate::reference::{LayoutReference, Pick};
use crate::{Fetched, MAX_MANIFEST, SourceError};

pub(crate) async fn fetch(reference: &LayoutReference) -> Result<Fetched, SourceError> {
    let reference = reference.clone();
    aside(reference.dir.clone(), move |_| fetch_now(&reference)).await
}

fn fetch_now(reference: &LayoutReference) -> Result<Fetched, SourceError> {
    let what = reference.to_string();
    let layout = Layout::open(&reference.dir)?;
    let digest = match &reference.pick {
        Pick::Digest(digest) => digest.clone(),
        pick => pick_from(layout.index()?, pick, &what)?,
    };
    let manifest = layout.blob(&digest, MAX_MANIFEST)?;
    let artifact = artifact(&what, &manifest)?;
    let sized = |blob: &Blob| layout.blob(&blob.digest, blob.size);
    let component = sized(&artifact.component)?;
    let signature = artifact.signature.as_ref().map(sized).transpose()?;
    let pinned = LayoutReference {
        dir: layout.dir,
        pick: Pick::Digest(digest),
    };
    fetched(&what, component, signature, |_| pinned.to_string())
}

/// Reads a manifest as a plugin's.
pub(crate) fn artifact(what: &str, manifest: &[u8]) -> Result<Artifact, SourceError> {
    answers::artifact(manifest).map_err(|unfit| match unfit {
        Unfit::Malformed(problem) => SourceError::malformed(what, format!("its manifest: {problem}")),
        Unfit::NotAPlugin(problem) => SourceError::NotAPlugin {
            what: what.to_owned(),
            problem: plain(problem),
        },
        Unfit::TooLarge(layer, len, max) => SourceError::TooLarge {
            what: format!("the {layer} of {what}"),
            len,
            max,
        },
    })
}

fn pick_from(entries: Vec<Entry>, pick: &Pick, what: &str) -> Result<PluginDigest, SourceError> {
    let fits = |entry: &&Entry| match pick {
        Pick::Tag(tag) => entry.tag.as_ref() == Some(tag),
        _ => true,
    };
    let mut found: Vec<&PluginDigest> = entries.iter().filter(fits).map(|entry| &entry.digest).collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [digest] => Ok((*digest).clone()),
        [] => Err(SourceError::NotFound { what: what.to_owned() }),
        _ => Err(SourceError::Several {
            what: what.to_owned(),
            found: entries
                .iter()
                .filter(fits)
                .take(20)
                .map(|entry| match (&entry.tag, pick) {
                    (Some(tag), Pick::Only) => plain(format!(":{tag:.128}")),
                    _ => format!("@sha256:{}", entry.digest),
                })
                .collect(),
        }),
    }
}

/// A layout's folder. Whoever made it may have put anything in it, so no symlink of it is followed.
struct Layout {
    dir: PathBuf,
    opened: File,
}

impl Layout {
    fn open(dir: &Path) -> Result<Self, SourceError> {
        let io = |source| SourceError::Io {
            doing: "opening the OCI layout",
            path: dir.to_owned(),
            source,
        };
        let found = dir.canonicalize().map_err(io)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&found, flags, Mode::empty()).map_err(|errno| io(errno.into()))?;
        let layout = Self {
            dir: found,
            opened: opened.into(),
        };
        let marker = layout.read(&["oci-layout"], MAX_MANIFEST)?;
        answers::layout(&marker)
            .map_err(|problem| SourceError::malformed(&dir.join("oci-layout").display().to_string(), problem))?;
        Ok(layout)
    }

    fn index(&self) -> Result<Vec<Entry>, SourceError> {
        let json = self.read(&["index.json"], MAX_MANIFEST)?;
        let path = self.dir.join("index.json");
        answers::index(&json).map_err(|problem| SourceError::malformed(&path.display().to_string(), problem))
    }

    /// The blob of this digest, which is a name of hex digits alone.
    fn blob(&self, digest: &PluginDigest, max: u64) -> Result<Vec<u8>, SourceError> {
        let bytes = self.read(&["blobs", "sha256", digest.as_str()], max)?;
        let path = self.dir.join("blobs/sha256").join(digest.as_str());
        expect_digest(&path.display().to_string(), &bytes, digest)?;
        Ok(bytes)
    }

    fn read(&self, names: &[&str], max: u64) -> Result<Vec<u8>, SourceError> {
        let doing = "reading the OCI layout's";
        let path = names.iter().fold(self.dir.clone(), |path, name| path.join(name));
        let io = |source| SourceError::Io {
            doing,
            path: path.clone(),
            source,
        };
        let mut at = self.opened.try_clone().map_err(io)?;
        for (depth, name) in names.iter().enumerate() {
            // Before it is opened: opening a device may already do something.
            let found = statat(&at, *name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| io(errno.into()))?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                return Err(SourceError::NotAFile {
                    path,
                    kind: "behind a symlink",
                });
            }
            let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if depth + 1 < names.len() {
                flags |= OFlags::DIRECTORY;
            } else {
                regular(&path, FileType::from_raw_mode(found.st_mode))?;
            }
            at = openat(&at, *name, flags, Mode::empty())
                .map_err(|errno| io(errno.into()))?
                .into();
        }
        read_opened(doing, &path, at, max)
    }
}

//! What can go wrong for an author, with the next step.

use std::io;
use std::path::{Path, PathBuf};

/// Why a verb of the kit didn't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}: {error}")]
    Io {
        doing: String,
        #[source]
        error: io::Error,
    },
    #[error("{} has {len} bytes, the limit is {max}", path.display())]
    TooLarge { path: PathBuf, len: u64, max: u64 },
    #[error("{}: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    #[error("{} is no plugin project: it has no {file} (`clawker plugin new NAME` makes one)", dir.display())]
    NoProject { dir: PathBuf, file: &'static str },
    #[error(
        "componentize-py isn't here: `cd {} && python3 -m venv .venv && .venv/bin/pip install componentize-py=={}`",
        dir.display(), crate::python::COMPONENTIZE_PY
    )]
    NoPython { dir: PathBuf },
    #[error("{0}")]
    Project(String),
    #[error(transparent)]
    Build(#[from] clawker_plugin_build::Error),
    #[error("`{what}` ended with {how}; what it said is above")]
    Cargo { what: String, how: String },
    #[error("setting the sandbox up: {0}")]
    Sandbox(#[from] clawker_plugin_host::Error),
    #[error("loading the component: {0}")]
    Load(#[from] clawker_plugin_host::LoadError),
    #[error(transparent)]
    Key(#[from] clawker_plugin_package::KeyError),
    #[error(transparent)]
    Manifest(#[from] clawker_plugin_package::ManifestError),
    #[error(transparent)]
    Signature(#[from] clawker_plugin_package::SignatureError),
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |error| Self::Io { doing, error }
    }

    pub(crate) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            problem: problem.to_string().trim_end().to_owned(),
        }
    }
}

/// A file as text, of `max` bytes at most.
pub(crate) fn read_text(path: &Path, max: u64) -> Result<String, Error> {
    let bytes = read_bytes(path, max)?;
    String::from_utf8(bytes).map_err(|_| Error::malformed(path, "this is not UTF-8"))
}

/// A file of `max` bytes at most.
pub(crate) fn read_bytes(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(Error::io("reading", path))?;
    let mut bytes = Vec::new();
    // One byte more than is allowed tells that there is more, whatever the file's metadata say.
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("reading", path))?;
    if bytes.len() as u64 > max {
        let len = std::fs::metadata(path).map_or(bytes.len() as u64, |there| there.len());
        return Err(Error::TooLarge {
            path: path.to_owned(),
            len,
            max,
        });
    }
    Ok(bytes)
}

/// Whole or not at all.
pub(crate) fn place(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let beside = path.with_added_extension("new");
    std::fs::write(&beside, bytes).map_err(Error::io("writing", &beside))?;
    std::fs::rename(&beside, path).map_err(Error::io("renaming into", path))
}

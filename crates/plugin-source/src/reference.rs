//! The forms of a reference: text that a person typed, read once.

use std::fmt;
use std::path::{Path, PathBuf};

use clawker_model::PluginDigest;
use reqwest::Url;

use crate::SourceError;
use crate::http::is_loopback;

/// Bytes of a reference.
const MAX_REFERENCE: usize = 4 << 10;
const MAX_HOST: usize = 255;
/// As the distribution specification has it.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// Where a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `./oom-alert.wasm`, `.`, `/nix/store/…`
    Local(LocalReference),
    /// `oci-layout:<dir>`, `oci-layout:<dir>:<tag>`, `oci-layout:<dir>@sha256:<hex>`
    Layout(LayoutReference),
    /// `oci://host[:port]/repository[:tag][@sha256:<hex>]`
    Oci(OciReference),
    /// `https://host/path.wasm[#sha256=<hex>]`
    Url(UrlReference),
}

/// A file or a folder, and the component's digest if it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReference {
    pub path: PathBuf,
    pub sha256: Option<PluginDigest>,
}

/// An OCI layout in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutReference {
    pub dir: PathBuf,
    pub pick: Pick,
}

/// Which of a layout's manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The only one.
    Only,
    Tag(String),
    /// The manifest's digest.
    Digest(PluginDigest),
}

/// An artifact of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciReference {
    /// With the port, if it is said.
    pub registry: String,
    pub repository: String,
    /// `None` with a digest beside it, or for `latest`.
    pub tag: Option<String>,
    /// The manifest's. Where it is said the tag is for people alone.
    pub digest: Option<PluginDigest>,
}

/// A component that a web server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlReference {
    /// Without a fragment; `https`, or `http` of a loopback host.
    pub(crate) url: Url,
    pub sha256: Option<PluginDigest>,
}

impl Source {
    /// Reads a reference. Asks nobody: neither the file system nor a server.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        parse(text).map_err(|problem| SourceError::Reference {
            text: text.to_owned(),
            problem,
        })
    }
}

fn parse(text: &str) -> Result<Source, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > MAX_REFERENCE {
        return Err(format!("it has more than {MAX_REFERENCE} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters in it".to_owned());
    }
    if let Some(rest) = text.strip_prefix("oci://") {
        return oci(rest).map(Source::Oci);
    }
    if let Some(rest) = text.strip_prefix("oci-layout:") {
        return layout(rest).map(Source::Layout);
    }
    if text.starts_with("https://") || text.starts_with("http://") {
        return url(text).map(Source::Url);
    }
    match text.split_once("://") {
        Some((scheme, _)) if !scheme.contains('/') => Err(format!(
            "`{scheme:.40}` is none of oci, https; an OCI layout is oci-layout:DIR, a file is its path"
        )),
        _ => local(text).map(Source::Local),
    }
}

fn local(text: &str) -> Result<LocalReference, String> {
    let (path, sha256) = match text.rsplit_once("#sha256=") {
        Some((path, hex)) => (path, Some(digest(hex)?)),
        None => (text, None),
    };
    if path.is_empty() {
        return Err("there is no path".to_owned());
    }
    Ok(LocalReference {
        path: path.into(),
        sha256,
    })
}

fn layout(rest: &str) -> Result<LayoutReference, String> {
    let (dir, pick) = if let Some((dir, hex)) = rest.rsplit_once("@sha256:") {
        (dir, Pick::Digest(digest(hex)?))
    } else {
        let name = rest.rfind('/').map_or(0, |slash| slash + 1);
        match rest.split_at_checked(name) {
            Some((folder, last)) if last.contains(':') => {
                let (last, tag) = last.rsplit_once(':').unwrap_or((last, ""));
                let dir = rest.get(..folder.len() + last.len()).unwrap_or(rest);
                (dir, Pick::Tag(checked_tag(tag)?))
            }
            _ => (rest, Pick::Only),
        }
    };
    if dir.is_empty() {
        return Err("there is no folder; the form is oci-layout:DIR[:TAG] or oci-layout:DIR@sha256:HEX".to_owned());
    }
    Ok(LayoutReference { dir: dir.into(), pick })
}

fn oci(rest: &str) -> Result<OciReference, String> {
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, said)) => {
            let hex = said.strip_prefix("sha256:").ok_or("only digests of sha256 are known")?;
            (rest, Some(digest(hex)?))
        }
        None => (rest, None),
    };
    let (registry, path) = rest
        .split_once('/')
        .ok_or("there is no repository; the form is oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:HEX]")?;
    let (repository, tag) = match path.split_once(':') {
        Some((repository, tag)) => (repository, Some(checked_tag(tag)?)),
        None => (path, None),
    };
    checked_registry(registry)?;
    checked_repository(repository)?;
    Ok(OciReference {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        tag,
        digest,
    })
}

fn url(text: &str) -> Result<UrlReference, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials don't belong in a URL".to_owned());
    }
    if url.scheme() != "https" && !is_loopback(&url) {
        return Err("it isn't https, and the host isn't this machine".to_owned());
    }
    if !url.path().ends_with(".wasm") {
        return Err("its path doesn't end in .wasm".to_owned());
    }
    let sha256 = match url.fragment() {
        None => None,
        Some(said) => {
            let hex = said.strip_prefix("sha256=").ok_or("after `#` comes sha256=<hex>")?;
            Some(digest(hex)?)
        }
    };
    url.set_fragment(None);
    Ok(UrlReference { url, sha256 })
}

fn digest(hex: &str) -> Result<PluginDigest, String> {
    PluginDigest::parse(hex).map_err(|_| "a digest of sha256 is 64 of 0-9 and a-f".to_owned())
}

fn checked_tag(tag: &str) -> Result<String, String> {
    let mut bytes = tag.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && tag.len() <= MAX_TAG {
        Ok(tag.to_owned())
    } else {
        Err(format!(
            "a tag is 1 to {MAX_TAG} letters, digits, `_`, `.`, `-`, and begins with none of the last two"
        ))
    }
}

/// `host`, `host:port`, `[::1]:port`
fn checked_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("`[` without `]`")?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| "in `[]` is an IPv6 address")?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or("after `]` comes `:PORT`")?),
            };
            (address.to_string(), port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (registry.to_owned(), None),
        },
    };
    let in_brackets = registry.starts_with('[');
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !in_brackets && (host.len() > MAX_HOST || !host.split('.').all(label)) {
        return Err("the registry isn't a host's name or address".to_owned());
    }
    let good = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    if port.is_some_and(|port| !good(port)) {
        return Err("the registry's port isn't 1 to 65535".to_owned());
    }
    // What the specification of URLs takes for a number may be a host of another name.
    match Url::parse(&format!("https://{registry}/")) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the registry: {error}")),
    }
}

/// Components of lower-case letters and digits, with `.`, `_`, `__` or `-`s between them.
fn checked_repository(repository: &str) -> Result<(), String> {
    let part = |part: &str| {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(alnum) && part.bytes().next_back().is_some_and(alnum);
        let between = part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-'));
        ends && between
    };
    if repository.len() <= MAX_REPOSITORY && repository.split('/').all(part) {
        Ok(())
    } else {
        Err(
            "a repository is words of a-z and 0-9, with `.`, `_`, `__` or `-` within and `/` between them, \
            255 bytes at most"
                .to_owned(),
        )
    }
}

impl LocalReference {
    pub(crate) fn pinned(path: &Path, digest: &PluginDigest) -> String {
        format!("{}#sha256={digest}", path.display())
    }
}

impl OciReference {
    /// What is asked for in the manifest's address.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(local) => local.fmt(f),
            Self::Layout(layout) => layout.fmt(f),
            Self::Oci(oci) => oci.fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for LocalReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match &self.sha256 {
            Some(digest) => write!(f, "#sha256={digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci-layout:{}", self.dir.display())?;
        match &self.pick {
            Pick::Only => Ok(()),
            Pick::Tag(tag) => write!(f, ":{tag}"),
            Pick::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UrlReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())?;
        match &self.sha256 {
            Some(digest) => write!(f, "#sha256={digest}"),
            None => Ok(()),
        }
    }
}

//! Docker's USER rules over the image's own passwd and group files.
//!
//! No name service is asked: an image could bring its own, and with it code that would run inside PID 1. The files
//! are the agent's to change, so they are read with a cap and nothing in them is trusted further than the agent is.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most bytes that are read of a passwd or group file.
pub const MAX_FILE: u64 = 1024 * 1024;
/// Highest id that Docker takes.
const MAX_ID: u32 = i32::MAX as u32;

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub home: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    #[error("user `{0}` is not in the image's /etc/passwd")]
    NoUser(String),
    #[error("group `{0}` is not in the image's /etc/group")]
    NoGroup(String),
    #[error("id `{0}` is over {MAX_ID}")]
    Range(String),
}

/// The text of the image's passwd and group files; a missing one is empty.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub passwd: String,
    pub group: String,
}

impl Files {
    /// Of the image that is our root.
    pub fn read() -> Self {
        Self {
            passwd: read(Path::new("/etc/passwd")),
            group: read(Path::new("/etc/group")),
        }
    }

    /// `user`, `uid`, `user:group`, `uid:gid` and mixtures; empty is root.
    pub fn resolve(&self, spec: &str) -> Result<Identity, UserError> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, group),
            None => (spec, ""),
        };
        let found = self.user(user)?;
        let mut identity = Identity {
            uid: found.uid,
            gid: found.gid,
            groups: Vec::new(),
            home: found.home,
        };
        if !group.is_empty() {
            identity.gid = self.gid(group)?;
        } else if let Some(name) = found.name {
            identity.groups = self.groups_of(&name);
        }
        Ok(identity)
    }

    fn user(&self, user: &str) -> Result<Found, UserError> {
        let number = if user.is_empty() { Some(0) } else { number(user)? };
        let entry = entries(&self.passwd, 6).find(|entry| match number {
            // A name that is all digits is always an id.
            Some(uid) => entry.id == uid,
            None => entry.name == user,
        });
        match (entry, number) {
            (Some(entry), _) => Ok(Found {
                name: Some(entry.name.to_owned()),
                uid: entry.id,
                gid: entry.field(3).and_then(id).unwrap_or(0),
                home: entry.field(5).unwrap_or_default().to_owned(),
            }),
            (None, Some(uid)) => Ok(Found {
                name: None,
                uid,
                gid: 0,
                home: "/".to_owned(),
            }),
            (None, None) => Err(UserError::NoUser(user.to_owned())),
        }
    }

    fn gid(&self, group: &str) -> Result<u32, UserError> {
        let number = number(group)?;
        let entry = entries(&self.group, 3).find(|entry| match number {
            Some(gid) => entry.id == gid,
            None => entry.name == group,
        });
        match (entry, number) {
            (Some(entry), _) => Ok(entry.id),
            (None, Some(gid)) => Ok(gid),
            (None, None) => Err(UserError::NoGroup(group.to_owned())),
        }
    }

    fn groups_of(&self, name: &str) -> Vec<u32> {
        entries(&self.group, 4)
            .filter(|entry| {
                entry
                    .field(3)
                    .is_some_and(|list| list.split(',').any(|member| member == name))
            })
            .map(|entry| entry.id)
            .collect()
    }
}

struct Found {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

/// A line of passwd or group.
struct Entry<'a> {
    name: &'a str,
    id: u32,
    line: &'a str,
}

impl<'a> Entry<'a> {
    fn field(&self, number: usize) -> Option<&'a str> {
        self.line.split(':').nth(number)
    }
}

/// Lines with at least `fields` fields and ids that are ids; others don't exist for us.
fn entries(text: &str, fields: usize) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(move |line| {
        let line = line.trim();
        let mut parts = line.split(':');
        let name = parts.next().filter(|name| !name.starts_with('#'))?;
        let entry = Entry {
            name,
            id: parts.nth(1).and_then(id)?,
            line,
        };
        entry.field(fields.checked_sub(1)?)?;
        // In passwd the group is a number too.
        let group = fields < 6 || entry.field(3).is_some_and(|gid| id(gid).is_some());
        group.then_some(entry)
    })
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

/// `Some` for what Docker takes as a number.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    id(text).map(Some).ok_or_else(|| UserError::Range(text.to_owned()))
}

/// A plain file's beginning; what can't be read, or isn't one, is empty: a FIFO must not stop PID 1.
fn read(path: &Path) -> String {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path);
    let Ok(file) = open else { return String::new() };
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    match file.take(MAX_FILE).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# comment:x:7:7::/:\nagent:x:1000:1001:A:/home/agent:/bin/sh\n\
                     1234:x:77:77::/digits:\nbroken:x:abc:0::/:\nshort:x:5\nagent:x:9:9::/second:\nbig:x:4294967295:0::/:\n"
                .to_owned(),
            group: "root:x:0:\nagent:x:1001:\nwheel:x:10:root,agent\ndocker:x:998:agent\nbad:x:zz:agent\n".to_owned(),
        }
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        }
    }

    #[test]
    fn dockers_user_rules() {
        let image = image();
        for (spec, expected) in [
            ("", identity(0, 0, &[10], "/root")),
            ("root", identity(0, 0, &[10], "/root")),
            ("0", identity(0, 0, &[10], "/root")),
            // The first of two entries wins.
            ("agent", identity(1000, 1001, &[10, 998], "/home/agent")),
            ("1000", identity(1000, 1001, &[10, 998], "/home/agent")),
            // An explicit group takes the supplementary ones away.
            ("agent:wheel", identity(1000, 10, &[], "/home/agent")),
            ("agent:10", identity(1000, 10, &[], "/home/agent")),
            ("agent:4242", identity(1000, 4242, &[], "/home/agent")),
            ("1000:docker", identity(1000, 998, &[], "/home/agent")),
            (":wheel", identity(0, 10, &[], "/root")),
            ("agent:", identity(1000, 1001, &[10, 998], "/home/agent")),
            // A number that the file doesn't know.
            ("4000", identity(4000, 0, &[], "/")),
            ("4000:50", identity(4000, 50, &[], "/")),
            // A number is an id even if somebody has it for a name.
            ("1234", identity(1234, 0, &[], "/")),
            ("2147483647", identity(2_147_483_647, 0, &[], "/")),
        ] {
            assert_eq!(image.resolve(spec), Ok(expected), "{spec:?}");
        }
    }

    #[test]
    fn what_the_image_does_not_know_is_refused() {
        let image = image();
        for (spec, expected) in [
            ("nobody", UserError::NoUser("nobody".to_owned())),
            ("broken", UserError::NoUser("broken".to_owned())),
            ("short", UserError::NoUser("short".to_owned())),
            ("big", UserError::NoUser("big".to_owned())),
            ("# comment", UserError::NoUser("# comment".to_owned())),
            ("-1", UserError::NoUser("-1".to_owned())),
            ("agent:nogroup", UserError::NoGroup("nogroup".to_owned())),
            ("agent:bad", UserError::NoGroup("bad".to_owned())),
            ("2147483648", UserError::Range("2147483648".to_owned())),
            ("0:99999999999", UserError::Range("99999999999".to_owned())),
        ] {
            assert_eq!(image.resolve(spec), Err(expected), "{spec:?}");
        }
    }

    #[test]
    fn an_image_without_files_knows_numbers_and_root() {
        let scratch = Files::default();
        assert_eq!(scratch.resolve(""), Ok(identity(0, 0, &[], "/")));
        assert_eq!(scratch.resolve("1000:1000"), Ok(identity(1000, 1000, &[], "/")));
        assert!(scratch.resolve("root").is_err());
    }

    #[test]
    fn only_plain_files_are_read_and_only_their_beginning() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(read(&dir.path().join("missing")), "");
        assert_eq!(read(dir.path()), "");
        assert_eq!(read(Path::new("/dev/zero")), "");
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'x'; MAX_FILE as usize + 1]).expect("written");
        assert_eq!(read(&large).len(), MAX_FILE as usize);
    }
}

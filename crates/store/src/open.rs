//! Opening: the lock, the two files, and what is done about what is found.
//!
//! ```text
//!   folder? ─no→ NoDir      can be written? ─no→ ReadOnly      lock? ─no→ Locked
//!   host.key:   damaged → HostKey (never touched)   missing → made
//!   sync what an earlier life left in the page cache
//!   journal.db: damaged, emptied → JournalCorrupt (never touched)   newer → Newer   older → migrate
//!   state.db:   missing, damaged, older schema, ahead of the journal, behind its checkpoint → delete
//!               newer schema → put aside
//!                 └─▶ make anew: the checkpoint's state, then replay what follows
//!               behind the journal → replay the rest
//! ```

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::chain::{GENESIS, Head};
use crate::checkpoint::{self, Checkpoint};
use crate::db::{Db, Which};
use crate::faults::{Faults, Point};
use crate::key::HostKey;
use crate::record::Rebuilt;
use crate::{Error, head, journal, projection, replay};

const JOURNAL: &[&str] = &[
    include_str!("../schema/journal-001.sql"),
    include_str!("../schema/journal-002.sql"),
    include_str!("../schema/journal-003.sql"),
];
const STATE: &str = include_str!("../schema/state.sql");
pub(crate) const STATE_VERSION: i64 = 6;

pub(crate) struct Files {
    pub lock: File,
    pub journal: Db,
    pub state: Db,
    pub wal: File,
    pub wal_path: PathBuf,
    pub head: Head,
    pub id: String,
    pub key: HostKey,
    pub key_lost: bool,
    /// The head written last, as far as it is one of this history.
    pub sealed: Option<u64>,
    pub cut: Option<u64>,
    pub base: u64,
    pub begun: bool,
    pub rebuilt: Option<Rebuilt>,
    pub replayed: u64,
}

pub(crate) fn open(dir: &Path, faults: &Faults) -> Result<Files, Error> {
    if !dir.is_dir() {
        return Err(Error::NoDir { dir: dir.to_owned() });
    }
    let lock = lock(dir)?;
    let (key, key_made) = HostKey::open(dir)?;
    let wal_path = dir.join("journal.db-wal");
    // Rows of a killed process may be in the page cache only; from here on all that is found is durable.
    // Before SQLite opens them: closing a descriptor later would drop its locks.
    for file in [dir.join("journal.db"), wal_path.clone()] {
        match File::open(&file) {
            Ok(found) => found.sync_data().map_err(|e| io("syncing", &file, &e))?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(io("syncing", &file, &e)),
        }
    }

    let journal = open_journal(dir)?;
    let reading = journal.error("reading the journal's end");
    let head = journal::head(&journal.conn).map_err(reading)?;
    let base = checkpoint::base(&journal.conn).map_err(reading)?.seq;
    let id = journal::id(&journal.conn).map_err(reading)?;
    let last_sealed = head::last(&journal.conn, &id)
        .map_err(reading)?
        .map(|sealed| sealed.seq);
    let highest = head::highest(&journal.conn).map_err(reading)?;
    let signed_before = last_sealed.is_some() || base > 0;

    let (state, rebuilt, replayed) = open_state(dir, &journal, &head, faults)?;

    let wal = File::open(&wal_path).map_err(|e| io("opening", &wal_path, &e))?;
    wal.sync_data().map_err(|e| io("syncing", &wal_path, &e))?;
    // The names of new files, too.
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| io("syncing", dir, &e))?;
    Ok(Files {
        lock,
        journal,
        state,
        wal,
        wal_path,
        head,
        id,
        key,
        key_lost: key_made && signed_before,
        sealed: last_sealed.filter(|sealed| *sealed <= head.seq),
        cut: (highest > head.seq).then_some(highest),
        base,
        // Rows that were signed and are gone were cut: that is no new journal.
        begun: head.seq == 0 && base == 0 && highest == 0,
        rebuilt,
        replayed,
    })
}

/// Keeps every control plane out of a state folder for as long as it is held.
pub fn lock(dir: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::ReadOnly {
                dir: dir.to_owned(),
                detail: e.to_string(),
            },
            _ => io("locking", &path, &e),
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(e)) => Err(io("locking", &path, &e)),
    }
}

/// A file of no bytes is what SQLite takes for a new database. It is one only where nothing says otherwise.
fn refuse_emptied(dir: &Path) -> Result<(), Error> {
    let length = |name: &str| std::fs::metadata(dir.join(name)).map(|found| found.len()).ok();
    let emptied = length("journal.db") == Some(0);
    if emptied && (length("state.db").is_some() || length("journal.db-wal").is_some_and(|bytes| bytes > 0)) {
        return Err(Error::JournalCorrupt {
            doing: "opening the store",
            file: Which::Journal.file(dir),
            detail: "it is empty, and what is beside it is not".into(),
        });
    }
    Ok(())
}

/// Another program's database gets none of our tables. Looked at read-only, because making it a WAL writes into it.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let file = Which::Journal.file(dir);
    if !std::fs::metadata(&file).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let db = Db::open_read_only(dir, Which::Journal)?;
    let version = db.version()?;
    let count = |condition: &str| {
        let sql = format!("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND {condition}");
        db.conn
            .query_row(&sql, [], |row| row.get::<_, u32>(0))
            .map_err(db.error("checking"))
    };
    let ours = match version {
        0 => count("name NOT LIKE 'sqlite_%'")? == 0,
        _ => count("name IN ('journal', 'identity')")? == 2,
    };
    if ours {
        return Ok(());
    }
    Err(Error::JournalCorrupt {
        doing: "opening the store",
        file,
        detail: "it is another program's database".into(),
    })
}

fn open_journal(dir: &Path) -> Result<Db, Error> {
    refuse_emptied(dir)?;
    refuse_foreign(dir)?;
    let db = Db::open(dir, Which::Journal)?;
    db.check()?;
    let found = db.version()?;
    let known = JOURNAL.len() as i64;
    if found > known {
        let file = db.file;
        return Err(Error::Newer { file, found, known });
    }
    for (version, sql) in (1..).zip(JOURNAL).skip(usize::try_from(found).unwrap_or(0)) {
        db.migrate(sql, version)?;
    }
    Ok(db)
}

fn open_state(dir: &Path, journal: &Db, head: &Head, faults: &Faults) -> Result<(Db, Option<Rebuilt>, u64), Error> {
    let why = match sound_state(dir, journal, head)? {
        Ok(state) => match replay::catch_up(journal, &state, faults) {
            Ok(replayed) => return Ok((state, None, replayed)),
            Err(Error::StateCorrupt { detail, .. }) => Rebuilt::Corrupt(detail),
            Err(e) => return Err(e),
        },
        Err(why) => why,
    };
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let file = dir.join(name);
        let away = match &why {
            Rebuilt::Newer { kept, .. } => std::fs::rename(&file, beside(kept, name)),
            _ => std::fs::remove_file(&file),
        };
        match away {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io("removing", &file, &e)),
            _ => {}
        }
    }
    let state = Db::open(dir, Which::State)?;
    state.migrate(STATE, STATE_VERSION)?;
    if faults.strikes(Point::Restore) {
        let file = state.file.clone();
        return Err(Error::Full {
            doing: "restoring the state",
            file,
        });
    }
    let reading = journal.error("reading the journal's checkpoint");
    if let Some(checkpoint) = Checkpoint::read(&journal.conn).map_err(reading)? {
        if !checkpoint.holds(&journal::id(&journal.conn).map_err(reading)?) {
            return Err(Error::JournalCorrupt {
                doing: "rebuilding state.db",
                file: journal.file.clone(),
                detail: "the checkpoint's signature doesn't hold".into(),
            });
        }
        checkpoint.restore(&state)?;
    }
    let replayed = replay::catch_up(journal, &state, faults)?;
    let first_time = why == Rebuilt::Missing && head.seq == 0;
    Ok((state, (!first_time).then_some(why), replayed))
}

/// The projection as it is found, or why it can't be used.
fn sound_state(dir: &Path, journal: &Db, head: &Head) -> Result<Result<Db, Rebuilt>, Error> {
    if !Which::State.file(dir).exists() {
        return Ok(Err(Rebuilt::Missing));
    }
    let look = || -> Result<Result<Db, Rebuilt>, Error> {
        let state = Db::open(dir, Which::State)?;
        state.check()?;
        let found = state.version()?;
        let known = STATE_VERSION;
        if found > known {
            let kept = spare(dir, found);
            return Ok(Err(Rebuilt::Newer { found, known, kept }));
        }
        if found < known {
            return Ok(Err(Rebuilt::OtherSchema { found, known }));
        }
        let applied = projection::applied(&state.conn).map_err(state.error("opening"))?;
        let base = checkpoint::base(&journal.conn).map_err(journal.error("opening"))?;
        let (applied, hash) = match applied {
            None if base.seq == 0 => return Ok(Ok(state)),
            None => (0, GENESIS),
            Some(applied) => applied,
        };
        if applied < base.seq {
            let from = base.seq;
            return Ok(Err(Rebuilt::Behind { applied, from }));
        }
        let there = journal::hash_of(&journal.conn, applied).map_err(journal.error("opening"))?;
        if there == Some(hash) {
            return Ok(Ok(state));
        }
        let last = head.seq;
        Ok(Err(Rebuilt::Ahead { applied, last }))
    };
    match look() {
        Err(Error::StateCorrupt { detail, .. }) => Ok(Err(Rebuilt::Corrupt(detail))),
        other => other,
    }
}

/// Where a newer clawker's projection goes: a name that nothing has.
fn spare(dir: &Path, version: i64) -> PathBuf {
    let name = |n: u32| match n {
        0 => dir.join(format!("state.db.schema-{version}")),
        n => dir.join(format!("state.db.schema-{version}.{n}")),
    };
    (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
}

/// `state.db-wal` goes where `state.db` goes.
fn beside(kept: &Path, name: &str) -> PathBuf {
    let mut path = kept.as_os_str().to_owned();
    path.push(name.strip_prefix("state.db").unwrap_or_default());
    path.into()
}

fn io(doing: &'static str, file: &Path, e: &std::io::Error) -> Error {
    Error::io(doing, file, e)
}

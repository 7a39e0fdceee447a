//! Opening: the lock, the two files, and what is done about what is found.
//!
//! ```text
//!   folder? ─no→ NoDir      lock? ─no→ Locked      sync what an earlier life left in the page cache
//!   journal.db: damaged → JournalCorrupt (never touched)   newer → Newer   older → migrate
//!   state.db:   missing, damaged, other schema, ahead of the journal → delete, make anew, replay all
//!               behind the journal → replay the rest
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::chain::Head;
use crate::db::{Db, Which};
use crate::faults::Faults;
use crate::record::Rebuilt;
use crate::{Error, journal, projection, replay};

const JOURNAL: &[&str] = &[include_str!("../schema/journal-001.sql")];
const STATE: &str = include_str!("../schema/state.sql");
pub(crate) const STATE_VERSION: i64 = 2;

pub(crate) struct Files {
    pub lock: File,
    pub journal: Db,
    pub state: Db,
    pub wal: File,
    pub wal_path: PathBuf,
    pub head: Head,
    pub id: String,
    pub rebuilt: Option<Rebuilt>,
    pub replayed: u64,
}

pub(crate) fn open(dir: &Path, faults: &Faults) -> Result<Files, Error> {
    if !dir.is_dir() {
        return Err(Error::NoDir { dir: dir.to_owned() });
    }
    let lock = lock(dir)?;
    let wal_path = dir.join("journal.db-wal");
    // Rows of a killed process may be in the page cache only; from here on all that is found is durable.
    // Before SQLite opens them: closing a descriptor later would drop its locks.
    for file in [dir.join("journal.db"), wal_path.clone()] {
        match File::open(&file) {
            Ok(found) => found.sync_data().map_err(|e| io("syncing", &file, &e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io("syncing", &file, &e)),
        }
    }

    let journal = open_journal(dir)?;
    let reading = journal.error("reading the journal's end");
    let head = journal::head(&journal.conn).map_err(reading)?;
    let id = journal::id(&journal.conn).map_err(reading)?;

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
        rebuilt,
        replayed,
    })
}

fn lock(dir: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io("locking", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(e)) => Err(io("locking", &path, &e)),
    }
}

fn open_journal(dir: &Path) -> Result<Db, Error> {
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
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("removing", &file, &e)),
            _ => {}
        }
    }
    let state = Db::open(dir, Which::State)?;
    state.migrate(STATE, STATE_VERSION)?;
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
        if found != STATE_VERSION {
            let known = STATE_VERSION;
            return Ok(Err(Rebuilt::OtherSchema { found, known }));
        }
        let Some((applied, hash)) = projection::applied(&state.conn).map_err(state.error("opening"))? else {
            return Ok(Ok(state));
        };
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

fn io(doing: &'static str, file: &Path, e: &std::io::Error) -> Error {
    Error::Io {
        doing,
        file: file.to_owned(),
        detail: e.to_string(),
    }
}

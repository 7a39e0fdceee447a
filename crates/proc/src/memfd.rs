//! Memory by descriptor: sealed messages and shared rings.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// `MFD_EXEC` (include/uapi/linux/memfd.h).
const MFD_EXEC: libc::c_uint = 0x10;
const SEALS: libc::c_int = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK;

/// A memfd of `len` zero bytes that can be mapped and written; close-on-exec, not sealed.
pub fn sized(name: &str, len: u64) -> io::Result<OwnedFd> {
    let file = create(name)?;
    file.set_len(len)?;
    // Neither end can make the other's mapping fault by changing the length.
    add_seals(&file, libc::F_SEAL_GROW | libc::F_SEAL_SHRINK)?;
    Ok(file.into())
}

/// A memfd that holds `bytes` and can no longer be changed by anybody; close-on-exec.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = create(name)?;
    file.write_all(bytes)?;
    add_seals(&file, SEALS | libc::F_SEAL_SEAL)?;
    Ok(file.into())
}

/// The same for a program that is to be executed from there.
pub fn executable(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    // Where `vm.memfd_noexec` is set a memfd has to be asked for as executable; before Linux 6.3 it can't be.
    let mut file = create_with(name, MFD_EXEC).or_else(|_| create(name))?;
    file.write_all(bytes)?;
    add_seals(&file, SEALS | libc::F_SEAL_SEAL)?;
    Ok(file.into())
}

/// The content of a memfd that nobody can change any more. Refused when it isn't sealed against writing, growing
/// and shrinking, or holds more than `max` bytes.
pub fn read_sealed(fd: BorrowedFd<'_>, max: usize) -> io::Result<Vec<u8>> {
    // SAFETY: no pointer is passed.
    let seals = crate::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })
        .map_err(crate::attempting("reading the seals of a memfd"))?;
    if seals & SEALS != SEALS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("memfd is not sealed (seals {seals:#x})"),
        ));
    }
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if len > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("memfd of {len} bytes, the limit is {max}"),
        ));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn create(name: &str) -> io::Result<File> {
    create_with(name, 0)
}

fn create_with(name: &str, flags: libc::c_uint) -> io::Result<File> {
    let name = CString::new(name)?;
    let flags = flags | libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a C string that lives over the call.
    let raw = crate::check(unsafe { libc::memfd_create(name.as_ptr(), flags) })
        .map_err(crate::attempting("creating a memfd"))?;
    // SAFETY: the kernel gave us a new descriptor that nobody else owns.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(raw) }))
}

fn add_seals(file: &File, seals: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    crate::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })
        .map(drop)
        .map_err(crate::attempting("sealing a memfd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_memfd_gives_its_bytes_and_takes_no_others() {
        let fd = sealed("test", b"leaf and key").expect("memfd");
        assert_eq!(read_sealed(fd.as_fd(), 64).expect("sealed"), b"leaf and key");
        let mut file = File::from(fd);
        assert!(file.write_all(b"x").is_err(), "it could be written");
        assert!(file.set_len(1).is_err(), "it could be shrunk");
    }

    #[test]
    fn what_could_still_change_is_refused() {
        let mut open = create("open").expect("memfd");
        open.write_all(b"x").expect("not sealed");
        assert!(read_sealed(open.as_fd(), 64).is_err());
        add_seals(&open, libc::F_SEAL_GROW | libc::F_SEAL_SHRINK).expect("seal");
        assert!(read_sealed(open.as_fd(), 64).is_err(), "it can still be written");
        let file = tempfile();
        assert!(read_sealed(file.as_fd(), 64).is_err(), "a plain file has no seals");
    }

    #[test]
    fn the_cap_holds() {
        let fd = sealed("test", &[7; 65]).expect("memfd");
        assert!(read_sealed(fd.as_fd(), 65).is_ok());
        assert!(read_sealed(fd.as_fd(), 64).is_err());
    }

    fn tempfile() -> File {
        File::open("/proc/self/status").expect("proc")
    }
}

//! Between fork and exec. PID 1 has one thread, so its child may do anything that PID 1 could.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;

use clawker_proc::signal;

/// Runs `body` in a child, which exits with what it returns if it returns; the child's pid.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the process has one thread, so no lock is held by a thread that the child lacks. The child never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => exit(body()),
        pid => Ok(pid),
    }
}

/// As a new process has them.
pub fn fresh_signals() -> io::Result<()> {
    signal::reset()
}

/// Makes `fd` be `number`, and stay open over exec. A descriptor that already has the number keeps it.
pub fn place(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: no pointer is passed; both descriptors are the child's own.
    let result = unsafe {
        if fd == number {
            libc::fcntl(fd, libc::F_SETFD, 0)
        } else {
            libc::dup2(fd, number)
        }
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes O_NONBLOCK away.
pub fn blocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let result = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK)
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Every descriptor from `first` on is closed by exec. All of ours are made so; this is the second lock, which a kernel
/// before 5.11 lacks.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Returns only if it failed.
pub fn exec(program: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in null and point at C strings that live until exec replaces everything.
    unsafe {
        libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr());
    }
    io::Error::last_os_error()
}

/// The program in an open file, without an environment. Returns only if it failed. The descriptor closes with exec.
pub fn exec_fd(program: RawFd, args: &[CString]) -> io::Error {
    let args: Vec<*const libc::c_char> = args.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
    let env = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both arrays end in null and point at C strings that live until exec replaces everything; the path is empty.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(code) }
}

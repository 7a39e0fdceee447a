//! clawkerd as it is built for containers. It runs in images of strangers, as root, before anything is trusted: a
//! name service call would load the image's own code into it, a dynamic loader would too.
//!
//! Symbols are read from the copy that is kept before it is stripped; of the installed one only text can be looked at.

use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::workspace::{expect_none, program, target};

/// How the beginning of a call is spelled that asks NSS or the resolver, or that has glibc load code by itself: a
/// locale or `iconv` loads converters, the end of a thread by force loads the unwinder. glibc links the inner halves
/// of some of these into every static program (`__resolv_context_get`, `__gconv_open`); without a door they are dead.
const DOORS: [&str; 26] = [
    "getaddrinfo",
    "getaliasent",
    "getgrent",
    "getgrgid",
    "getgrnam",
    "getgrouplist",
    "gethostby",
    "gethostent",
    "getnameinfo",
    "getnetby",
    "getnetent",
    "getproto",
    "getpwent",
    "getpwnam",
    "getpwuid",
    "getserv",
    "getspnam",
    "iconv_open",
    "initgroups",
    "newlocale",
    "nss_lookup",
    "pthread_cancel",
    "pthread_exit",
    "res_query",
    "res_search",
    "setlocale",
];

/// Text that only the code behind those doors holds.
const MARKERS: [&str; 2] = ["/etc/nsswitch.conf", "libnss_"];

/// Doors that the program calls or contains; a weak reference that found nothing is neither.
fn doors(bytes: &[u8]) -> Vec<String> {
    let file = object::File::parse(bytes).expect("an ELF file");
    let symbols: Vec<&str> = file
        .symbols()
        .filter(|symbol| !(symbol.is_undefined() && symbol.is_weak()))
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    assert!(symbols.len() > 100, "the binary is stripped: {} symbols", symbols.len());
    let door = |name: &&str| DOORS.iter().any(|door| name.trim_start_matches('_').starts_with(door));
    symbols.into_iter().filter(door).map(str::to_owned).collect()
}

fn markers(bytes: &[u8]) -> Vec<String> {
    let has = |marker: &&&str| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
    MARKERS.iter().filter(has).map(|marker| (*marker).to_owned()).collect()
}

/// A loader that the file asks for, and libraries that it needs.
fn dynamic(bytes: &[u8]) -> Vec<String> {
    let header = FileHeader64::<Endianness>::parse(bytes).expect("a 64-bit ELF file");
    let endian = header.endian().expect("a known byte order");
    let mut wrong = Vec::new();
    for segment in header.program_headers(endian, bytes).expect("program headers") {
        if segment.p_type(endian) == PT_INTERP {
            wrong.push("it asks for a loader".to_owned());
        }
        for entry in segment.dynamic(endian, bytes).ok().flatten().into_iter().flatten() {
            if entry.tag(endian) == DT_NEEDED {
                wrong.push("it needs a shared library".to_owned());
            }
        }
    }
    wrong
}

fn read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}. `cargo xtask test` builds it first", path.display()))
}

#[test]
fn clawkerd_calls_no_name_service() {
    // This very program is the example of what the rule finds.
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(&("127.0.0.1", 1)).map_or(0, Iterator::count);
    let ours = doors(&read(&std::env::current_exe().expect("a test knows its own file")));
    assert!(
        resolved == 1 && ours.iter().any(|symbol| symbol.starts_with("getaddrinfo")),
        "{ours:?}"
    );
    let unstripped = read(&target().join("clawker/test/clawkerd.symbols"));
    expect_none("clawkerd's symbols", &doors(&unstripped));
    expect_none(
        "clawkerd's text",
        &markers(&read(&target().join("clawker/libexec/agent/clawkerd"))),
    );
}

#[test]
fn clawkerd_is_linked_statically() {
    let ours = read(&program("clawker"));
    assert!(
        !dynamic(&ours).is_empty(),
        "an ordinary program is dynamic: the rule sees nothing"
    );
    expect_none(
        "clawkerd",
        &dynamic(&read(&target().join("clawker/libexec/agent/clawkerd"))),
    );
}

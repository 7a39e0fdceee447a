//! clawkerd as it is built for containers. It runs in images of strangers, as root, before anything is trusted: a
//! name service call would load the image's own code into it, a dynamic loader would too.
//!
//! Symbols are read from the binary before it is stripped; the installed one is compared with it by its markers.

use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::workspace::{expect_none, program, target};

type Header = FileHeader64<Endianness>;

/// glibc's doors to NSS, the resolver and loaded code.
const DOORS: [&str; 9] = [
    "getaddrinfo",
    "gethostby",
    "getpw",
    "getgr",
    "getservby",
    "getnameinfo",
    "initgroups",
    "__nss_",
    "__libc_dlopen",
];

/// Text that only the code behind those doors holds.
const MARKERS: [&str; 3] = ["/etc/nsswitch.conf", "libnss_", "/etc/resolv.conf"];

fn doors(bytes: &[u8]) -> Vec<String> {
    let file = object::File::parse(bytes).expect("an ELF file");
    let symbols: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(symbols.len() > 100, "the binary is stripped: {} symbols", symbols.len());
    let door = |name: &&str| {
        DOORS
            .iter()
            .any(|door| name.trim_start_matches('_').starts_with(door.trim_start_matches('_')))
    };
    symbols.into_iter().filter(door).map(str::to_owned).collect()
}

fn markers(bytes: &[u8]) -> Vec<String> {
    let has = |marker: &&&str| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
    MARKERS.iter().filter(has).map(|marker| (*marker).to_owned()).collect()
}

/// A loader that the file asks for, and libraries that it needs.
fn dynamic(bytes: &[u8]) -> Vec<String> {
    let file = ElfFile64::<Endianness>::parse(bytes).expect("a 64-bit ELF file");
    let endian = file.endian();
    let mut wrong = Vec::new();
    for segment in file
        .elf_header()
        .program_headers(endian, bytes)
        .expect("program headers")
    {
        if segment.p_type(endian) == PT_INTERP {
            wrong.push("it asks for a loader".to_owned());
        }
        for entry in segment.dynamic(endian, bytes).ok().flatten().into_iter().flatten() {
            if entry.tag(endian) == DT_NEEDED {
                wrong.push("it needs a shared library".to_owned());
            }
        }
    }
    let _: &Header = file.elf_header();
    wrong
}

fn read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}. `cargo xtask test` builds it first", path.display()))
}

#[test]
fn clawkerd_calls_no_name_service() {
    let ours = read(&std::env::current_exe().expect("a test knows its own file"));
    assert!(doors(&ours).iter().any(|symbol| symbol.contains("getaddrinfo")) || uses_a_name_service() == 0);
    let unstripped = read(&target().join("x86_64-unknown-linux-gnu/clawkerd/clawkerd"));
    expect_none("clawkerd's symbols", &doors(&unstripped));
    expect_none(
        "clawkerd's text",
        &markers(&read(&target().join("clawker/libexec/agent/clawkerd"))),
    );
}

/// Keeps `getaddrinfo` in this test, whose own binary is the example of what the rule finds.
fn uses_a_name_service() -> usize {
    std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).map_or(0, Iterator::count)
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

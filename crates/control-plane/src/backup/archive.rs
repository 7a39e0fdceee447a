//! tar, as much of it as a backup needs: regular files with short relative names, in POSIX's ustar format.
//!
//! Any tar reads what this writes. The reader takes what this writes and nothing else: no links, no folders, no
//! absolute names, no `..`, no size beyond a limit.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;

/// The size field holds eleven octal digits.
pub const MAX_FILE: u64 = 0o77_777_777_777;

/// The most bytes of a name; ustar's first name field.
const MAX_NAME: usize = 100;

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Whether a name stays below the folder that it is unpacked in.
pub fn is_plain(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    name.len() <= MAX_NAME && name.bytes().all(letters) && name.split('/').all(part)
}

/// Writes one file of exactly `bytes` bytes.
pub fn put(out: &mut impl Write, name: &str, bytes: u64, content: &mut impl Read) -> io::Result<()> {
    if !is_plain(name) || bytes > MAX_FILE {
        return Err(bad(format!("`{name}` with {bytes} bytes doesn't fit the archive")));
    }
    out.write_all(&header(name, bytes))?;
    let copied = io::copy(&mut content.take(bytes), out)?;
    if copied != bytes {
        return Err(bad(format!("`{name}` has {copied} bytes and had {bytes}")));
    }
    out.write_all(&[0; BLOCK][..padding(bytes)])
}

/// Two empty blocks.
pub fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

fn padding(bytes: u64) -> usize {
    (BLOCK - (bytes % BLOCK as u64) as usize) % BLOCK
}

fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut field = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    field(0, name.as_bytes());
    field(100, b"0000600\0");
    field(108, b"0000000\0");
    field(116, b"0000000\0");
    field(124, format!("{bytes:011o}\0").as_bytes());
    field(136, b"00000000000\0");
    field(156, b"0");
    field(257, b"ustar\x0000");
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    block
}

/// As if its own field were blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let blank = |at: usize| (148..156).contains(&at);
    (0..BLOCK)
        .map(|at| u32::from(if blank(at) { b' ' } else { block[at] }))
        .sum()
}

/// An entry whose content comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub bytes: u64,
}

/// Reads the next header; `None` at the archive's end.
pub fn next(from: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut block = [0; BLOCK];
    from.read_exact(&mut block).map_err(cut)?;
    if block == [0; BLOCK] {
        return Ok(None);
    }
    if &block[257..262] != b"ustar" {
        return Err(bad("it is no tar archive"));
    }
    let octal = |range: std::ops::Range<usize>| {
        let text = std::str::from_utf8(&block[range]).ok()?;
        u64::from_str_radix(text.trim_end_matches(['\0', ' ']), 8).ok()
    };
    if octal(148..156) != Some(checksum(&block).into()) {
        return Err(bad("a header's checksum is wrong"));
    }
    let name = block[..MAX_NAME].split(|b| *b == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).unwrap_or_default();
    let bytes = octal(124..136).ok_or_else(|| bad("a header's size is wrong"))?;
    // The prefix field continues a name; we write none.
    if !is_plain(name) || block[156] != b'0' || block[345] != 0 {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(bad(format!("its entry `{shown}` is none of a backup's")));
    }
    let name = name.to_owned();
    Ok(Some(Entry { name, bytes }))
}

/// Copies an entry's content and skips what fills its last block.
pub fn take(from: &mut impl Read, entry: &Entry, to: &mut impl Write) -> io::Result<()> {
    if io::copy(&mut from.take(entry.bytes), to)? != entry.bytes {
        return Err(cut(io::ErrorKind::UnexpectedEof.into()));
    }
    from.read_exact(&mut [0; BLOCK][..padding(entry.bytes)]).map_err(cut)
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("it ends too early"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files {
            put(&mut out, name, content.len() as u64, &mut &content[..]).expect("put");
        }
        end(&mut out).expect("end");
        out
    }

    fn read(mut from: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        while let Some(entry) = next(&mut from)? {
            let mut content = Vec::new();
            take(&mut from, &entry, &mut content)?;
            files.push((entry.name, content));
        }
        Ok(files)
    }

    #[test]
    fn what_is_put_is_taken() {
        let files: [(&str, &[u8]); 4] = [("a", b""), ("ca/b", b"x"), ("c.db", &[7; 512]), ("d", &[8; 1025])];
        let archive = archive(&files);
        assert_eq!(archive.len() % 512, 0);
        let expected: Vec<_> = files.iter().map(|(n, c)| ((*n).to_owned(), c.to_vec())).collect();
        assert_eq!(read(&archive).expect("read"), expected);
    }

    #[test]
    fn any_tar_reads_it() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("a.tar");
        std::fs::write(&file, archive(&[("ca/key.pem", b"key"), ("journal.db", &[1; 700])])).expect("write");
        let output = std::process::Command::new("tar")
            .arg("-tvf")
            .arg(&file)
            .output()
            .expect("tar");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(
            listed.contains("-rw-------") && listed.contains("700") && listed.contains("ca/key.pem"),
            "{listed}"
        );
    }

    #[test]
    fn names_stay_below_their_folder() {
        for good in ["a", "ca/key.pem", "a.b-c_d"] {
            assert!(is_plain(good), "{good}");
        }
        let long = "x".repeat(101);
        for bad in [
            "", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\0b", "a b", "ä", &long,
        ] {
            assert!(!is_plain(bad), "{bad:?}");
            assert!(put(&mut Vec::new(), bad, 0, &mut io::empty()).is_err());
        }
    }

    #[test]
    fn what_is_cut_or_changed_or_no_such_archive_is_refused() {
        let whole = archive(&[("a", &[1; 600]), ("b", b"x")]);
        for length in 0..whole.len() - 1024 {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        for (at, byte) in [
            (0, b'/'),
            (0, b'z'),
            (124, b'9'),
            (156, b'2'),
            (156, b'5'),
            (257, b'x'),
            (345, b'p'),
        ] {
            let mut changed = whole.clone();
            changed[at] = byte;
            assert!(read(&changed).is_err(), "{at}");
        }
        assert!(read(&[b'x'; 2048]).is_err());
        // A link with a right checksum.
        let mut link = whole;
        link[156] = b'2';
        let mut header: [u8; BLOCK] = link[..BLOCK].try_into().expect("header");
        let sum = format!("{:06o}\0 ", checksum(&header));
        header[148..156].copy_from_slice(sum.as_bytes());
        link[..BLOCK].copy_from_slice(&header);
        let refused = read(&link).expect_err("a link").to_string();
        assert!(refused.contains("`a`"), "{refused}");
    }

    #[test]
    fn a_file_that_changes_while_it_is_put_is_an_error() {
        for (bytes, content) in [(5, &b"abcd"[..]), (MAX_FILE + 1, b"")] {
            assert!(put(&mut Vec::new(), "a", bytes, &mut &content[..]).is_err());
        }
    }
}

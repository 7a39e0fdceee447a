//! A component's own custom sections, found without reading anything else of it.

use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError};

/// Bytes before the first section: magic and version.
const HEADER: usize = 8;
const CUSTOM: u8 = 0;

/// A custom section: where it is with its header, and where its content is.
pub(crate) struct Custom {
    pub whole: Range<usize>,
    pub content: Range<usize>,
}

/// The custom sections of that name at the top of a component, and not of what is nested in it.
pub(crate) fn named(bytes: &[u8], name: &str) -> Result<Vec<Custom>, BinaryReaderError> {
    let mut reader = BinaryReader::new(bytes, 0);
    reader.read_bytes(HEADER)?;
    let mut found = Vec::new();
    while !reader.eof() {
        let begin = reader.original_position();
        let id = reader.read_u8()?;
        let len = reader.read_var_u32()? as usize;
        let body = reader.original_position();
        let content = reader.read_bytes(len)?;
        if id == CUSTOM {
            let mut content = BinaryReader::new(content, body);
            if content.read_string()? == name {
                found.push(Custom {
                    whole: begin..reader.original_position(),
                    content: content.original_position()..reader.original_position(),
                });
            }
        }
    }
    Ok(found)
}

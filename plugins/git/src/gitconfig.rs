//! Git's configuration files, as git-config(1) describes their syntax: read, filtered, written.
//!
//! What is read is data of somebody else's. Only values of keys that were asked for come out, never one through which
//! git would run a program, read another file, or send a credential.

/// One value. Section and key are lower case; a subsection is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub section: String,
    pub subsection: Option<String>,
    pub key: String,
    pub value: String,
}

/// Sections in which any key runs a program, leads to another file, or to credentials.
const SECTIONS: &[&str] = &[
    "alias",
    "browser",
    "credential",
    "diff",
    "difftool",
    "extensions",
    "filter",
    "gpg",
    "guitool",
    "hook",
    "http",
    "imap",
    "include",
    "includeif",
    "instaweb",
    "interactive",
    "lsp",
    "maintenance",
    "man",
    "merge",
    "mergetool",
    "pager",
    "protocol",
    "remote",
    "safe",
    "sendemail",
    "sequence",
    "ssh",
    "submodule",
    "svn",
    "tar",
    "trailer",
    "uploadpack",
    "url",
    "web",
];
/// Such keys of other sections.
const KEYS: &[(&str, &str)] = &[
    ("add", "interactive"),
    ("core", "alternaterefscommand"),
    ("core", "askpass"),
    ("core", "attributesfile"),
    ("core", "editor"),
    ("core", "excludesfile"),
    ("core", "fsmonitor"),
    ("core", "gitproxy"),
    ("core", "hookspath"),
    ("core", "pager"),
    ("core", "sshcommand"),
    ("core", "worktree"),
    ("commit", "template"),
    ("fetch", "bundleuri"),
    ("format", "signaturefile"),
    ("init", "templatedir"),
    ("receive", "procreceiverefs"),
    ("receive", "shallowupdate"),
    ("sequence", "editor"),
];

impl Entry {
    /// From `section.key` or `section.subsection.key`.
    pub fn named(name: &str, value: &str) -> Option<Self> {
        let (section, rest) = name.split_once('.')?;
        let (subsection, key) = match rest.rsplit_once('.') {
            Some((subsection, key)) => (Some(subsection.to_owned()), key),
            None => (None, rest),
        };
        let entry = Self {
            section: section.to_ascii_lowercase(),
            subsection,
            key: key.to_ascii_lowercase(),
            value: value.to_owned(),
        };
        (is_section(&entry.section) && is_key(&entry.key) && !value.contains('\0')).then_some(entry)
    }

    /// Whether git would run, read or send something because of it.
    pub fn is_dangerous(&self) -> bool {
        let ends = ["cmd", "command", "program", "helper", "proxy"];
        SECTIONS.contains(&self.section.as_str())
            || KEYS.contains(&(&self.section, &self.key))
            || ends.iter().any(|end| self.key.ends_with(end))
            // Git runs what begins so as a shell command, wherever it takes a command at all.
            || self.value.trim_start().starts_with('!')
    }

    /// `section.key` or `section.*`, whatever the subsection.
    fn matches(&self, pattern: &str) -> bool {
        pattern
            .to_ascii_lowercase()
            .split_once('.')
            .is_some_and(|(section, key)| section == self.section && (key == "*" || key == self.key))
    }
}

/// Those that a pattern names and that are not dangerous.
pub fn filtered(entries: Vec<Entry>, patterns: &[String]) -> Vec<Entry> {
    let wanted = |entry: &Entry| patterns.iter().any(|pattern| entry.matches(pattern));
    entries
        .into_iter()
        .filter(|entry| wanted(entry) && !entry.is_dangerous())
        .collect()
}

/// Every value in its order; the error is the number of a line that git wouldn't read either.
pub fn parse(text: &str) -> Result<Vec<Entry>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut entries = Vec::new();
    let mut section: Option<Section> = None;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let line = |rest: &str| 1 + text[..text.len() - rest.len()].matches('\n').count();
        match rest.chars().next() {
            None => break,
            Some('#' | ';') => rest = rest.find('\n').map_or("", |end| &rest[end..]),
            Some('[') => {
                let (name, after) = header(&rest[1..]).ok_or_else(|| line(rest))?;
                section = Some(name);
                rest = after;
            }
            Some(_) => {
                let (section, subsection) = section.clone().ok_or_else(|| line(rest))?;
                let end = rest.find(|c: char| !is_key_char(c)).unwrap_or(rest.len());
                let key = rest[..end].to_ascii_lowercase();
                if !is_key(&key) {
                    return Err(line(rest));
                }
                let (value, after) = value(&rest[end..]).ok_or_else(|| line(rest))?;
                rest = after;
                entries.push(Entry {
                    section,
                    subsection,
                    key,
                    value,
                });
            }
        }
        rest = rest.trim_start();
    }
    Ok(entries)
}

/// Writes them so that git reads the same.
pub fn write(entries: &[Entry]) -> String {
    let mut text = String::new();
    let mut current = None;
    for entry in entries {
        let section = (&entry.section, &entry.subsection);
        if current != Some(section) {
            match &entry.subsection {
                Some(subsection) => {
                    let escaped = subsection.replace('\\', "\\\\").replace('"', "\\\"");
                    text.push_str(&format!("[{} \"{escaped}\"]\n", entry.section));
                }
                None => text.push_str(&format!("[{}]\n", entry.section)),
            }
            current = Some(section);
        }
        let value = entry
            .value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .replace('\t', "\\t");
        text.push_str(&format!("\t{} = \"{value}\"\n", entry.key));
    }
    text
}

fn is_section(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_key(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_key_char)
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

/// A section and its subsection.
type Section = (String, Option<String>);

/// What follows a `[`: the section's name, and the text behind its `]`.
fn header(text: &str) -> Option<(Section, &str)> {
    let end = text.find(|c: char| !(is_key_char(c) || c == '.'))?;
    let name = text[..end].to_ascii_lowercase();
    let after = text[end..].trim_start_matches([' ', '\t']);
    if let Some(after) = after.strip_prefix(']') {
        // `[section.subsection]`, as it was written long ago.
        let (section, subsection) = match name.split_once('.') {
            Some((section, subsection)) => (section.to_owned(), Some(subsection.to_owned())),
            None => (name, None),
        };
        return is_section(&section).then_some(((section, subsection), after));
    }
    let mut subsection = String::new();
    let mut chars = after.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\n' => return None,
            '\\' => subsection.push(chars.next().filter(|c| *c != '\n')?),
            c => subsection.push(c),
        }
    }
    let after = chars.as_str().strip_prefix(']')?;
    is_section(&name).then_some(((name, Some(subsection)), after))
}

/// What follows a key: its value, and the text behind it. A key alone is true.
fn value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(text) = text.strip_prefix('=') else {
        let end = text.find('\n').unwrap_or(text.len());
        let nothing = text[..end].is_empty() || text.starts_with(['#', ';']);
        return nothing.then(|| ("true".to_owned(), &text[end..]));
    };
    let (mut value, mut quoted, mut kept) = (String::new(), false, 0);
    let mut chars = text.trim_start_matches([' ', '\t']).chars();
    loop {
        let before = chars.as_str();
        match chars.next() {
            None | Some('\n') => {
                // Blanks at the end count only within quotes.
                value.truncate(kept);
                return (!quoted).then_some((value, before));
            }
            Some('#' | ';') if !quoted => {
                let rest = chars.as_str();
                value.truncate(kept);
                return Some((value, &rest[rest.find('\n').unwrap_or(rest.len())..]));
            }
            Some('"') => {
                quoted = !quoted;
                kept = value.len();
            }
            Some('\\') => {
                match chars.next()? {
                    '\n' => continue,
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    'b' => value.push('\u{8}'),
                    c @ ('\\' | '"') => value.push(c),
                    _ => return None,
                }
                kept = value.len();
            }
            Some(c) => {
                value.push(c);
                if quoted || !matches!(c, ' ' | '\t') {
                    kept = value.len();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Whether the kernel killed for want of memory: its own count, as the container shows it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// v1 and v2, as a container sees its own cgroup.
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory/memory.oom_control",
    "/sys/fs/cgroup/memory.events",
];

/// The first of them that can be read here.
pub fn shown() -> Option<&'static str> {
    FILES.into_iter().find(|path| File::open(path).is_ok())
}

/// How many processes of this container the kernel has killed for memory.
#[derive(Debug)]
pub struct OomKills {
    file: Option<File>,
    /// So many of them were told of.
    told: u64,
}

impl OomKills {
    /// Where neither file is shown nothing is ever known to be one.
    pub fn watch() -> Self {
        let mut kills = Self {
            file: shown().and_then(|path| File::open(path).ok()),
            told: 0,
        };
        kills.told = kills.count();
        kills
    }

    /// Whether there was another since this was last asked; to be asked when something was killed.
    pub fn another(&mut self) -> bool {
        let before = self.told;
        self.told = self.count();
        self.told > before
    }

    fn count(&self) -> u64 {
        let mut text = [0; 1024];
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = text.get(..read.unwrap_or_default()).unwrap_or_default();
        std::str::from_utf8(text).ok().and_then(parse).unwrap_or_default()
    }
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_kills_under_the_same_word() {
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(
            parse("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"),
            Some(1)
        );
        assert_eq!(parse("low 0\n"), None);
    }
}

//! Which rig gave a container its id, so that what a dead one left is told from what another has.

/// In every id of a rig, behind the first twelve digits, which have to differ; the rig's pid follows.
pub const MARK: &str = "c1a93e2d";

/// The pid of the rig that gave a container this id.
pub fn maker(id: &str) -> Option<u32> {
    let rest = id.get(12..)?.strip_prefix(MARK)?;
    u32::from_str_radix(rest.get(..8)?, 16).ok()
}

pub fn is_a_rig(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "clawker-rig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rig_left_is_told_from_what_another_has() {
        let id = format!("{}{MARK}{:08x}{}", "ab".repeat(6), 4711, "0".repeat(36));
        assert_eq!((id.len(), maker(&id)), (64, Some(4711)));
        assert_eq!(maker(&"ab".repeat(32)), None);
        assert!(!is_a_rig(std::process::id()), "a test is no rig");
    }
}

//! The exit codes of clawker's programs: 0, 1, 2, the sysexits that fit, Docker's 125 to 127; any other is the
//! agent command's own.

/// It failed.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// A named input (image, agent, file) does not exist (`EX_NOINPUT`).
pub const NO_INPUT: u8 = 66;
/// The machine lacks something that set-up installs (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// What was asked for can't be created (`EX_CANTCREAT`).
pub const CANT_CREATE: u8 = 73;
/// No control plane answers (`EX_TEMPFAIL`).
pub const NO_CONTROL_PLANE: u8 = 75;
/// The caller may not do this (`EX_NOPERM`).
pub const NOT_PERMITTED: u8 = 77;
/// A configuration is wrong (`EX_CONFIG`).
pub const MISCONFIGURED: u8 = 78;
/// The engine could not start the container, as Docker has it.
pub const NOT_STARTED: u8 = 125;
/// The command is there but can't be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command doesn't exist.
pub const NOT_FOUND: u8 = 127;

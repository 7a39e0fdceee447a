//! Which init, and how it is started.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Init {
    Clawkerd,
    Tini,
    TiniGroup,
    Dumb,
    DumbSingle,
}

pub const PEERS: [Init; 4] = [Init::Tini, Init::TiniGroup, Init::Dumb, Init::DumbSingle];
pub const ALL: [Init; 5] = [
    Init::Clawkerd,
    Init::Tini,
    Init::TiniGroup,
    Init::Dumb,
    Init::DumbSingle,
];

impl Init {
    pub fn name(self) -> &'static str {
        self.line().join(" ").leak()
    }

    pub fn line(self) -> &'static [&'static str] {
        match self {
            Self::Clawkerd => &["clawkerd"],
            Self::Tini => &["tini"],
            Self::TiniGroup => &["tini", "-g"],
            Self::Dumb => &["dumb-init"],
            Self::DumbSingle => &["dumb-init", "--single-child"],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    Pipes,
    Terminal,
}

impl Streams {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipes => "pipes",
            Self::Terminal => "terminal",
        }
    }
}

/// How init is started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub init: Init,
    pub streams: Streams,
    pub sigchld_ignored: bool,
}

impl Start {
    pub fn of(init: Init, streams: Streams) -> Self {
        Self {
            init,
            streams,
            sigchld_ignored: false,
        }
    }
}

//! The doors of `clawker-fuzz`, and of nobody else. What libnftnl reads is not behind them: it only ever reads what the
//! kernel wrote.

use clawker_model::EgressRule;

use crate::netlink::{attributes, error_code, messages};
use crate::policy::Family;
use crate::ruleset::{ChainForm, Ruleset};
use crate::{dump, told};

/// What was read of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its bytes, header included.
    pub len: usize,
    /// Bytes of its attributes' values.
    pub values: usize,
    /// It is about a table of ours.
    pub ours: bool,
    /// Its interface's name, as an answer about interfaces.
    pub interface: Option<String>,
    /// As an answer that is an error.
    pub error: Option<i32>,
}

/// The messages of one datagram, up to the first that isn't one.
pub fn datagram(bytes: &[u8]) -> Vec<Read> {
    messages("reading a fuzzed datagram", bytes)
        .map_while(Result::ok)
        .map(|message| Read {
            len: message.bytes.len(),
            values: attributes(message.payload()).map(|(_, value)| value.len()).sum(),
            ours: dump::is_ours(&message).is_some(),
            interface: dump::interface(&message).ok(),
            error: error_code("reading a fuzzed datagram", &message)
                .ok()
                .and_then(|error| error.raw_os_error()),
        })
        .collect()
}

/// Destinations that rules in libnftnl's words let through.
pub fn destinations(rules: &str) -> Vec<EgressRule> {
    let mut ruleset = Ruleset::default();
    let output = ChainForm {
        rules: rules.lines().map(str::to_owned).collect(),
        ..ChainForm::default()
    };
    ruleset.chains.insert((Family::Inet, "output".to_owned()), output);
    told::destinations(&ruleset)
}

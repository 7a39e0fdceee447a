//! What each RPC of AgentService asks of its caller, as data. A test walks the descriptors of the .proto file: a method
//! that nobody decided about fails the build, and at run time it is refused.

/// What a token or a leaf lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `agent:self:register`: of a single-use token alone.
    Register,
    /// `agent:self:read`: of every leaf.
    Read,
    /// `agent:self:deploy`: of every leaf; asking for a deploy is not making one.
    Deploy,
}

/// The scope that each method needs, by its full path.
pub const METHOD_SCOPES: &[(&str, Scope)] = &[
    ("/clawker.agent.v1.AgentService/Register", Scope::Register),
    ("/clawker.agent.v1.AgentService/WhoAmI", Scope::Read),
];

/// Methods exempt from the identity layer. Only those that establish identity belong here: the row that the layer looks
/// for is what Register makes, and its handler checks leaf, names, labels and token by itself.
pub const IDENTITY_OPTED_OUT: &[&str] = &["/clawker.agent.v1.AgentService/Register"];

/// Scopes of a call without a token: those of its leaf.
pub const LEAF_SCOPES: &[Scope] = &[Scope::Read, Scope::Deploy];
/// Scopes of a call with a token, instead of its leaf's.
pub const TOKEN_SCOPES: &[Scope] = &[Scope::Register];

/// The scope that `method` needs; `None` for one that nobody decided about.
pub fn scope(method: &str) -> Option<Scope> {
    METHOD_SCOPES
        .iter()
        .find(|(known, _)| *known == method)
        .map(|(_, scope)| *scope)
}

/// Whether `method` needs a registered identity.
pub fn needs_identity(method: &str) -> bool {
    !IDENTITY_OPTED_OUT.contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The .proto file's descriptors are the list of RPCs.
    fn methods() -> Vec<String> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/proto");
        let descriptors = protox::compile([root.join("clawker/agent/v1/agent.proto")], [root]).expect("compiles");
        descriptors
            .file
            .iter()
            .flat_map(|file| {
                file.service.iter().flat_map(move |service| {
                    service
                        .method
                        .iter()
                        .map(move |method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
                })
            })
            .collect()
    }

    #[test]
    fn every_rpc_has_a_decision() {
        let methods = methods();
        assert!(!methods.is_empty());
        for method in &methods {
            assert!(
                scope(method).is_some(),
                "{method} has no scope: decide in METHOD_SCOPES"
            );
        }
        let known: Vec<&str> = METHOD_SCOPES.iter().map(|(method, _)| *method).collect();
        for method in known.iter().chain(IDENTITY_OPTED_OUT) {
            assert!(methods.iter().any(|real| real == method), "there is no {method}");
        }
    }

    #[test]
    fn only_register_does_without_a_row_and_only_a_token_registers() {
        assert_eq!(IDENTITY_OPTED_OUT, ["/clawker.agent.v1.AgentService/Register"]);
        assert!(needs_identity("/clawker.agent.v1.AgentService/Unheard"));
        assert!(!LEAF_SCOPES.contains(&Scope::Register));
        assert_eq!(TOKEN_SCOPES, [Scope::Register]);
    }
}

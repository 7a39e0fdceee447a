//! What wasmtime generates from the WIT package in `crates/plugin-sdk/wit`. One module for each world; the
//! interfaces that both import exist once, in [`policy`].

pub(crate) mod policy {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "policy",
        imports: { default: trappable },
        additional_derives: [serde::Serialize, serde::Deserialize],
    });
}

pub(crate) mod step {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "step",
        imports: { default: trappable },
        additional_derives: [serde::Serialize, serde::Deserialize],
        with: {
            "clawker:plugin/types": super::policy::clawker::plugin::types,
            "clawker:plugin/log": super::policy::clawker::plugin::log,
            "clawker:plugin/settings": super::policy::clawker::plugin::settings,
        },
    });
}

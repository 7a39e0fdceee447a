//! Which crate may lean on which, and which crate alone may name an outside thing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::workspace::{expect_none, metadata, sources};

/// Each crate with its layer and the crates below it that it may use. Layers: 0 words, 1 adapters and decisions,
/// 2 the sandbox, 3 what authors need of it, 4 programs, 5 what runs the programs. Edges go down only; a new one is a
/// change to review here.
const EDGES: [(&str, u8, &[&str]); 22] = [
    ("clawker-model", 0, &[]),
    ("clawker-plugin-sdk-macros", 0, &[]),
    ("clawker-plugin-sdk", 1, &["clawker-plugin-sdk-macros"]),
    ("clawker-proc", 1, &["clawker-model"]),
    ("clawker-engine", 1, &["clawker-model"]),
    ("clawker-wire", 1, &["clawker-model"]),
    ("clawker-identity", 1, &["clawker-model"]),
    ("clawker-docker", 1, &["clawker-model"]),
    ("clawker-netfilter", 1, &["clawker-model"]),
    ("clawker-store", 1, &["clawker-model"]),
    ("clawker-plugin-build", 1, &[]),
    ("clawker-plugin-package", 1, &["clawker-model"]),
    ("clawker-plugin-source", 1, &["clawker-model"]),
    ("clawker-plugin-host", 2, &["clawker-model", "clawker-proc"]),
    (
        "clawker-plugin-kit",
        3,
        &[
            "clawker-engine",
            "clawker-model",
            "clawker-plugin-build",
            "clawker-plugin-host",
            "clawker-plugin-package",
            "clawker-plugin-sdk",
        ],
    ),
    (
        "clawkerd",
        4,
        &["clawker-identity", "clawker-model", "clawker-proc", "clawker-wire"],
    ),
    (
        "clawker-control-plane",
        4,
        &[
            "clawker-docker",
            "clawker-engine",
            "clawker-identity",
            "clawker-model",
            "clawker-netfilter",
            "clawker-plugin-host",
            "clawker-plugin-package",
            "clawker-proc",
            "clawker-store",
            "clawker-wire",
        ],
    ),
    (
        "clawker-cli",
        4,
        &[
            "clawker-identity",
            "clawker-model",
            "clawker-plugin-host",
            "clawker-plugin-kit",
            "clawker-plugin-package",
            "clawker-plugin-source",
            "clawker-wire",
        ],
    ),
    (
        "clawker-sim",
        4,
        &["clawker-engine", "clawker-identity", "clawker-model", "clawker-store"],
    ),
    ("xtask", 5, &["clawker-plugin-build"]),
    (
        "clawker-fuzz",
        5,
        &[
            "clawker-cli",
            "clawker-control-plane",
            "clawker-docker",
            "clawker-identity",
            "clawker-model",
            "clawker-netfilter",
            "clawker-plugin-source",
            "clawker-proc",
            "clawker-store",
            "clawker-wire",
            "clawkerd",
        ],
    ),
    (
        "clawker-tests",
        5,
        &[
            "clawker-cli",
            "clawker-control-plane",
            "clawker-docker",
            "clawker-engine",
            "clawker-identity",
            "clawker-model",
            "clawker-netfilter",
            "clawker-plugin-host",
            "clawker-plugin-package",
            "clawker-plugin-sdk",
            "clawker-proc",
            "clawker-sim",
            "clawker-store",
            "clawker-wire",
            "clawkerd",
        ],
    ),
];

/// An outside crate, and the only one of ours that may name it.
const FENCES: [(&str, &str); 10] = [
    ("bollard", "clawker-docker"),
    ("bollard-stubs", "clawker-docker"),
    ("rusqlite", "clawker-store"),
    ("libsqlite3-sys", "clawker-store"),
    ("wasmtime", "clawker-plugin-host"),
    ("nftnl", "clawker-netfilter"),
    ("nftnl-sys", "clawker-netfilter"),
    ("mnl", "clawker-netfilter"),
    ("reqwest", "clawker-plugin-source"),
    ("oci-client", "clawker-plugin-source"),
];

/// What the small static binary in every container must not contain.
const NOT_IN_CLAWKERD: [&str; 5] = ["bollard", "wasmtime", "rusqlite", "nftnl-sys", "mnl-sys"];

/// What would let the pure crate read a clock, do I/O or spawn.
const NOT_IN_ENGINE: [&str; 9] = [
    "tokio",
    "async-std",
    "rustix",
    "libc",
    "getrandom",
    "rand",
    "time",
    "chrono",
    "tracing",
];

fn dependencies(metadata: &Value) -> Vec<(String, String)> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .flat_map(|package| {
            let from = package["name"].as_str().unwrap_or_default().to_owned();
            let to = package["dependencies"].as_array().into_iter().flatten();
            to.map(move |dependency| (from.clone(), dependency["name"].as_str().unwrap_or_default().to_owned()))
        })
        .collect()
}

fn edges_not_allowed(dependencies: &[(String, String)]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = EDGES.iter().map(|(name, _, below)| (*name, *below)).collect();
    let ours = |name: &str| name.starts_with("clawker") || name == "xtask";
    let mut wrong = Vec::new();
    for (from, to) in dependencies.iter().filter(|(from, to)| ours(to) && from != to) {
        match table.get(from.as_str()) {
            None => wrong.push(format!("{from} is not in the table")),
            Some(below) if !below.contains(&to.as_str()) => wrong.push(format!("{from} -> {to} is a new edge")),
            Some(_) => {}
        }
    }
    wrong
}

fn fences_crossed(dependencies: &[(String, String)]) -> Vec<String> {
    let crossed =
        |(from, to): &&(String, String)| FENCES.iter().any(|(outside, keeper)| to == outside && from != keeper);
    dependencies
        .iter()
        .filter(crossed)
        .map(|(from, to)| format!("{from} depends on {to}"))
        .collect()
}

fn edge(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

#[test]
fn edges_point_down_and_are_in_the_table() {
    assert_eq!(
        edges_not_allowed(&[edge("clawker-engine", "clawker-docker")]),
        ["clawker-engine -> clawker-docker is a new edge"]
    );
    assert_eq!(edges_not_allowed(&[edge("clawker-new", "clawker-model")]).len(), 1);
    let layers: BTreeMap<&str, u8> = EDGES.iter().map(|(name, layer, _)| (*name, *layer)).collect();
    for (name, layer, below) in EDGES {
        for lower in below {
            assert!(
                layers[lower] < layer,
                "the table lets {name} lean on {lower}, which isn't below it"
            );
        }
    }
    let dependencies = dependencies(&metadata(&["--no-deps"]));
    expect_none(
        "crates may only use the crates below them",
        &edges_not_allowed(&dependencies),
    );
}

#[test]
fn the_table_of_edges_names_every_crate() {
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let there: BTreeSet<&str> = packages.filter_map(|package| package["name"].as_str()).collect();
    let listed: BTreeSet<&str> = EDGES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(there, listed);
}

#[test]
fn one_crate_fences_one_outside_thing() {
    assert_eq!(
        fences_crossed(&[edge("clawker-cli", "bollard")]),
        ["clawker-cli depends on bollard"]
    );
    assert!(fences_crossed(&[edge("clawker-docker", "bollard")]).is_empty());
    expect_none(
        "only its own crate may depend on it",
        &fences_crossed(&dependencies(&metadata(&["--no-deps"]))),
    );
}

/// Code that names an outside crate beyond its fence, or hands it on through a fence: `offered` is whether others see
/// what is `pub` in this file.
fn names_beyond(path: &str, text: &str, offered: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (outside, keeper) in FENCES {
        let module = outside.replace('-', "_");
        let inside = path.starts_with(&format!("crates/{}/", keeper.trim_start_matches("clawker-")));
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let named = code
                .match_indices(&format!("{module}::"))
                .any(|(at, _)| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'));
            let handed_on = offered && code.trim_start().starts_with("pub ");
            if named && (!inside || handed_on) {
                wrong.push(format!("{path}:{} names {outside}", number + 1));
            }
        }
    }
    wrong
}

/// Whether a crate's lib.rs makes the file's module public; `crates/a/src/b/c.rs` is seen where `pub mod b;` is.
fn is_offered(path: &str, lib: &str) -> bool {
    let Some((_, file)) = path.split_once("/src/") else {
        return false;
    };
    let module = file.split(['/', '.']).next().unwrap_or_default();
    module == "lib" || lib.lines().any(|line| line.trim() == format!("pub mod {module};"))
}

#[test]
fn outside_types_stay_behind_their_fence() {
    assert_eq!(
        names_beyond("crates/cli/src/a.rs", "use bollard::Docker;", false).len(),
        1
    );
    assert_eq!(
        names_beyond("crates/docker/src/a.rs", "use bollard::Docker;", true).len(),
        0
    );
    assert_eq!(
        names_beyond("crates/docker/src/a.rs", "pub use bollard::Docker;", true).len(),
        1
    );
    assert_eq!(
        names_beyond(
            "crates/docker/src/a.rs",
            "pub fn raw(&self) -> &bollard::Docker {",
            true
        )
        .len(),
        1
    );
    assert_eq!(
        names_beyond(
            "crates/docker/src/a.rs",
            "pub fn raw(&self) -> &bollard::Docker {",
            false
        )
        .len(),
        0
    );
    assert_eq!(
        names_beyond("crates/cli/src/a.rs", "// as bollard::Docker does", true).len(),
        0
    );
    assert!(is_offered("crates/a/src/lib.rs", "") && is_offered("crates/a/src/b/c.rs", "pub mod b;"));
    assert!(!is_offered("crates/a/src/b.rs", "mod b;"));

    let all = sources(&["crates", "tests/src", "tests/e2e"], ".rs");
    let lib_of = |path: &str| {
        let lib = path.split_once("/src/").map(|(top, _)| format!("{top}/src/lib.rs"));
        all.iter()
            .find(|source| Some(&source.path) == lib.as_ref())
            .map_or("", |source| &source.text)
    };
    let wrong: Vec<String> = all
        .iter()
        .flat_map(|source| {
            names_beyond(
                &source.path,
                &source.text,
                is_offered(&source.path, lib_of(&source.path)),
            )
        })
        .collect();
    expect_none("only its own crate may name it, and never in what it offers", &wrong);
}

#[test]
fn the_engine_depends_on_nothing_that_acts() {
    let dependencies = dependencies(&metadata(&["--no-deps"]));
    let acts = |(from, to): &&(String, String)| from == "clawker-engine" && NOT_IN_ENGINE.contains(&to.as_str());
    assert!(acts(&&edge("clawker-engine", "tokio")));
    let wrong: Vec<String> = dependencies
        .iter()
        .filter(acts)
        .map(|(from, to)| format!("{from} depends on {to}"))
        .collect();
    expect_none("the engine only decides", &wrong);
}

/// Names of all packages that `of` is built from, found in cargo's resolved graph; build and dev edges left out.
fn built_from(metadata: &Value, of: &str) -> BTreeSet<String> {
    let name = |id: &str| {
        let mut packages = metadata["packages"].as_array().into_iter().flatten();
        packages
            .find(|package| package["id"] == id)
            .and_then(|package| package["name"].as_str())
            .unwrap_or(id)
            .to_owned()
    };
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut open: Vec<&str> = nodes.keys().copied().filter(|id| name(id) == of).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes
            .get(id)
            .and_then(|node| node["deps"].as_array())
            .into_iter()
            .flatten()
        {
            let mut kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if let (true, Some(id)) = (kinds.any(|kind| kind["kind"].is_null()), dependency["pkg"].as_str()) {
                open.push(id);
            }
        }
    }
    seen.into_iter().map(name).collect()
}

#[test]
fn clawkerd_contains_no_engine_no_database_no_sandbox() {
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    assert!(
        built_from(&metadata, "clawker-docker").contains("bollard"),
        "the graph is read wrongly"
    );
    let parts = built_from(&metadata, "clawkerd");
    assert!(parts.contains("clawkerd"), "clawkerd is not in the graph");
    let wrong: Vec<String> = NOT_IN_CLAWKERD
        .iter()
        .filter(|part| parts.contains(**part))
        .map(|part| (*part).to_owned())
        .collect();
    expect_none("clawkerd is built from", &wrong);
}

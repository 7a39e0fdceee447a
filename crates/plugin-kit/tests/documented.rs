//! The cases that docs/authors.md shows are cases, and the projects that docs/plugins shows are those that are written.

use clawker_plugin_host::Kind;
use clawker_plugin_kit::cases::{Case, file};

#[test]
fn the_documented_cases_are_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/authors.md");
    let page = std::fs::read_to_string(path).expect("docs/authors.md");
    let blocks: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let [policy, step] = blocks.as_slice() else {
        panic!("{} blocks of TOML", blocks.len())
    };
    let folder = tempfile::tempdir().expect("folder");
    let read = |text: &str, kind| {
        let file = folder.path().join("a.toml");
        std::fs::write(&file, text).expect("writes");
        file::read(&file, kind).expect("a case")
    };
    match (read(policy, Kind::Policy), read(step, Kind::Step)) {
        (Case::Policy(policy), Case::Step(step)) => {
            assert_eq!((policy.events.len(), step.effect.len()), (3, 3));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_of_languages_show_what_a_new_project_has() {
    for (page, files) in [
        (
            "python",
            &["python/app.py", "python/test_app.py", "python/case.toml"][..],
        ),
        ("javascript", &["javascript/app.js"][..]),
    ] {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins");
        let text = std::fs::read_to_string(format!("{root}/{page}.md")).expect(page);
        for file in files {
            let template = format!("{}/templates/{file}", env!("CARGO_MANIFEST_DIR"));
            let template = std::fs::read_to_string(template).expect(file);
            assert!(text.contains(&template), "docs/plugins/{page}.md shows another {file}");
        }
    }
    let (page, tool) = (
        include_str!("../../../docs/plugins/python.md"),
        clawker_plugin_kit::python::COMPONENTIZE_PY,
    );
    assert!(page.contains(&format!("pip install componentize-py=={tool}\n")));
}

use clawker_plugin_sdk::step::TestContainer;

use super::*;

fn run(container: &mut TestContainer, settings: &str) -> Result<String, Failure> {
    let settings = serde_json::from_str(settings).map_err(|error| Failure::new(error.to_string()))?;
    Config::run(&Context::of("clawker.a"), settings, container)
}

fn with(path: &str, content: &str) -> TestContainer {
    let mut container = TestContainer::default();
    container.files.insert(path.into(), content.into());
    container
}

fn text<'a>(container: &'a TestContainer, path: &str) -> &'a str {
    std::str::from_utf8(&container.files[path]).expect("text")
}

#[test]
fn a_missing_file_is_written_and_one_that_is_there_is_left() {
    let settings = r#"{"files":[{"path":"~/.rc","content":"ours\n"}]}"#;
    let mut container = TestContainer::default();
    assert_eq!(run(&mut container, settings), Ok("1 of 1 files written".into()));
    assert_eq!((text(&container, "~/.rc"), container.modes["~/.rc"]), ("ours\n", 0o644));
    let mut container = with("~/.rc", "");
    assert_eq!(run(&mut container, settings), Ok("0 of 1 files written".into()));
    assert_eq!(text(&container, "~/.rc"), "");
}

#[test]
fn an_empty_file_is_written_and_one_with_something_in_it_is_left() {
    let settings = r#"{"files":[{"path":"~/.rc","from":"/seed","apply":"if-empty","mode":"0600"}]}"#;
    for (there, after) in [(None, "seed"), (Some(" \n"), "seed"), (Some("x"), "x")] {
        let mut container = with("/seed", "seed");
        if let Some(there) = there {
            container.files.insert("~/.rc".into(), there.into());
        }
        run(&mut container, settings).expect("runs");
        assert_eq!(text(&container, "~/.rc"), after, "{there:?}");
    }
    let mut large = with("~/.rc", &"x".repeat(MAX_FILE as usize + 1));
    large.files.insert("/seed".into(), b"seed".to_vec());
    assert_eq!(run(&mut large, settings), Ok("0 of 1 files written".into()));
}

#[test]
fn json_is_merged_and_what_was_there_wins() {
    let settings = |more: &str| {
        format!(r#"{{"files":[{{"path":"~/.json","json":{{"a":1,"b":{{"y":2,"x":9}},"c":[3]}}{more}}}]}}"#)
    };
    let mut container = with("~/.json", r#"{"z":0,"b":{"x":1},"c":[],"a":null}"#);
    assert_eq!(run(&mut container, &settings("")), Ok("1 of 1 files written".into()));
    let expected = "{\n  \"z\": 0,\n  \"b\": {\n    \"x\": 1,\n    \"y\": 2\n  },\n  \"c\": [],\n  \"a\": null\n}\n";
    assert_eq!(text(&container, "~/.json"), expected);
    assert_eq!(container.modes["~/.json"], 0o600);
    // A second time there is nothing to do.
    assert_eq!(run(&mut container, &settings("")), Ok("0 of 1 files written".into()));

    let mut container = with("~/.json", r#"{"b":{"x":1},"c":[]}"#);
    run(&mut container, &settings(r#","prefer":"settings""#)).expect("runs");
    let after: Value = serde_json::from_str(text(&container, "~/.json")).expect("JSON");
    assert_eq!(after, serde_json::json!({"b":{"x":9,"y":2},"c":[3],"a":1}));
}

#[test]
fn without_a_file_json_is_written_whole() {
    let mut container = TestContainer::default();
    run(&mut container, r#"{"files":[{"path":"~/.json","json":{"b":1,"a":2}}]}"#).expect("runs");
    assert_eq!(text(&container, "~/.json"), "{\n  \"b\": 1,\n  \"a\": 2\n}\n");
}

#[test]
fn a_file_that_is_no_json_is_left_and_named() {
    for there in ["not json", "[1]"] {
        let mut container = with("~/.json", there);
        let why = run(&mut container, r#"{"files":[{"path":"~/.json","json":{"a":1}}]}"#).expect_err("no JSON");
        assert!(why.message.starts_with("~/.json: the file is no JSON object"), "{why}");
        assert_eq!(text(&container, "~/.json"), there);
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let many = format!(
        r#"{{"files":[{}]}}"#,
        vec![r#"{"path":"/x","content":""}"#; MAX_ENTRIES + 1].join(",")
    );
    for (settings, says) in [
        (r#"{"files":[{"path":"/x"}]}"#, "/x: give one of"),
        (r#"{"files":[{"path":"/x","content":"","json":{}}]}"#, "/x: give one of"),
        (r#"{"files":[{"path":"/x","content":"","mode":"9"}]}"#, "/x: mode `9`"),
        (
            r#"{"files":[{"path":"/x","content":"","mode":"01000"}]}"#,
            "/x: mode `01000`",
        ),
        (
            r#"{"files":[{"path":"/x","from":"/absent"}]}"#,
            "/x: /absent: there is no",
        ),
        (
            r#"{"files":[{"path":"/x","content":"","colour":1}]}"#,
            "unknown field `colour`",
        ),
        (&many, "21 files, the limit is 20"),
    ] {
        let why = run(&mut TestContainer::default(), settings).expect_err(says);
        assert!(why.message.contains(says), "{why}");
    }
}

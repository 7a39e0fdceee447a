use clawker_plugin_sdk::policy::{Containment, Network, WindowCount};

use super::*;

fn event(kind: &str, at: u64, body: &str) -> Event {
    Event {
        kind: kind.into(),
        seq: 7,
        at,
        agent: Some("clawker.demo.a".into()),
        body: body.into(),
    }
}

/// A failed exec and facts with one count.
fn ask(settings: &Settings, state: &mut Json) -> Result<Vec<Verdict>, String> {
    let facts = Facts {
        counts: vec![WindowCount {
            kind: "ExecExited".into(),
            seconds: 60,
            count: 4,
        }],
        containment: Containment {
            network: Network::Locked,
            ..Containment::default()
        },
    };
    let body = r#"{"exec":"e","code":3,"signal":null,"oom":false}"#;
    let decided = RegoRules::evaluate(&event("ExecExited", 1000, body), &facts, settings, state);
    decided.map_err(|fault| fault.to_string())
}

/// A module of these lines, without data.
fn module(lines: &str) -> Settings {
    Settings {
        policy: format!("package clawker\n{lines}"),
        data: Map::new(),
    }
}

fn fault(lines: &str) -> String {
    ask(&module(lines), &mut Json::Null).expect_err(lines)
}

/// Whether a rule with this condition says anything.
fn holds(condition: &str) -> bool {
    let settings = module(&format!(
        "verdicts contains {{\"action\": \"alert\"}} if {{ {condition} }}"
    ));
    let verdicts = ask(&settings, &mut Json::Null).expect(condition);
    !verdicts.is_empty()
}

#[test]
fn each_action_can_be_asked_for() {
    for action in [
        "observe",
        "alert",
        "restrict-egress",
        "lock-network",
        "freeze",
        "stop",
        "kill",
        "revoke",
    ] {
        let rule = format!(r#"verdicts contains {{"action": "{action}", "reason": "because"}}"#);
        let verdicts = ask(&module(&rule), &mut Json::Null).expect(action);
        assert_eq!((verdicts[0].action, verdicts[0].reason.as_str()), (action, "because"));
    }
    let rule = r#"verdicts := [{"action": "restrict-egress", "allow": ["192.0.2.1:443"]}]"#;
    assert_eq!(
        ask(&module(rule), &mut Json::Null).expect("decides")[0].allow,
        ["192.0.2.1:443"]
    );
}

#[test]
fn modules_see_the_event_its_body_counts_containment_and_data() {
    for condition in [
        r#"input.event.kind == "ExecExited"; input.event.agent == "clawker.demo.a""#,
        "input.event.at == 1000; input.event.seq == 7",
        "input.body.code == 3; input.body.signal == null; not input.body.oom",
        r#"input.counts.ExecExited["60"] == 4"#,
        r#"input.containment == {"network": "locked", "processes": "running"}"#,
        "input.state == {}",
        r#"some word in ["a", "b"]; startswith(word, "b")"#,
    ] {
        assert!(holds(condition), "{condition}");
    }
    for condition in [
        "input.body.code == 0",
        "input.body.argv[0] == 1",
        r#"input.counts.ExecExited["61"] > 0"#,
    ] {
        assert!(!holds(condition), "{condition}");
    }
    let mut settings = module(r#"verdicts contains {"action": "alert"} if input.body.code in data.bad"#);
    settings.data = serde_json::from_str(r#"{"bad":[2,3]}"#).expect("data");
    assert_eq!(ask(&settings, &mut Json::Null).expect("decides").len(), 1);
}

#[test]
fn the_state_is_what_the_module_makes_of_the_last_one() {
    let settings = module(
        r#"
        seen := object.get(input.state, "seen", 0)
        state := {"seen": seen + 1}
        verdicts contains {"action": "freeze"} if seen == 2
        "#,
    );
    let mut state = Json::Null;
    let counts: Vec<usize> = (0..4)
        .map(|_| ask(&settings, &mut state).expect("decides").len())
        .collect();
    assert_eq!((counts, state), (vec![0, 0, 1, 0], json!({"seen": 4})));
    // An undefined state leaves what is there; a module without one forgets it.
    let mut state = json!([1]);
    ask(
        &module("verdicts := []\nstate := 1 if input.body.code == 0"),
        &mut state,
    )
    .expect("decides");
    assert_eq!(state, json!([1]));
    ask(&module("verdicts := []"), &mut state).expect("decides");
    assert_eq!(state, Json::Null);
}

#[test]
fn what_a_module_cannot_say_is_a_fault() {
    for (lines, says) in [
        ("", "`policy` has no rule `verdicts`"),
        ("verdicts contains", "`policy`, line 2:18: expecting expression"),
        ("verdicts := 1", "`verdicts` is 1: invalid type"),
        ("verdicts := [1]", "`verdicts` is [1]: invalid type"),
        (r#"verdicts := [{"reason": "x"}]"#, "missing field `action`"),
        (
            r#"verdicts := [{"action": "alert", "why": "x"}]"#,
            "unknown field `why`",
        ),
        (r#"verdicts := [{"action": "explode"}]"#, "there is no action `explode`"),
        (
            r#"verdicts := [{"action": "kill", "allow": ["192.0.2.1:1"]}]"#,
            "takes no `allow`",
        ),
        (
            r#"verdicts := [{"action": "restrict-egress", "allow": ["a:1"]}]"#,
            "`a:1` in `allow` is not",
        ),
        ("verdicts := [1] if 1 / 0 > 1", "`verdicts`, line 2:22: divide by zero"),
        ("verdicts := [1] if count(1) > 1", "`count` requires"),
        ("verdicts := [1] if nothing > 1", "undefined variable `nothing`"),
        (
            "verdicts := [1] if http.send({}) > 1",
            "could not find function http.send",
        ),
        (
            "verdicts := [1] if time.now_ns() > 1",
            "could not find function time.now_ns",
        ),
        (
            "verdicts := [1] if rand.intn(\"a\", 2) > 1",
            "could not find function rand.intn",
        ),
        (
            "verdicts := [1] if opa.runtime() != 1",
            "could not find function opa.runtime",
        ),
        ("verdicts := []\nverdicts := [1]", "`verdicts`"),
        ("verdicts := []\nstate := sprintf(1)", "`"),
        (
            "verdicts := []\nstate := concat(\"\", [x | some i in numbers.range(1, 16384); x := \"a\"])",
            "the limit is 16384",
        ),
        (
            "verdicts := [{\"action\": \"restrict-egress\", \"allow\": [sprintf(\"192.0.2.1:%d\", [n])]} | some n in numbers.range(1, 17)]",
            "more than 16",
        ),
    ] {
        let fault = fault(lines);
        assert!(fault.contains(says), "{lines}: {fault}");
        assert!(fault.len() < 600, "{fault}");
    }
    let outside = |settings: Settings| ask(&settings, &mut Json::Null).expect_err("a fault");
    let plain = |policy: String| Settings {
        policy,
        data: Map::new(),
    };
    assert!(outside(plain("package other\nverdicts := []".into())).contains("must begin with `package clawker`"));
    assert!(outside(plain(" ".repeat(MAX_POLICY + 1))).contains("`policy` has 32769 bytes"));
    let mut settings = module("verdicts := []");
    settings.data = serde_json::from_str(r#"{"clawker":1}"#).expect("data");
    assert!(outside(settings).contains("can't have a `clawker`"));
}

#[test]
fn the_same_verdict_twice_is_one() {
    let rules = r#"
        verdicts contains {"action": "kill", "reason": "a"}
        verdicts contains {"action": "kill", "reason": "b"}
        verdicts contains {"action": "alert"}"#;
    let verdicts = ask(&module(rules), &mut Json::Null).expect("decides");
    let actions: Vec<_> = verdicts.iter().map(|verdict| verdict.action).collect();
    assert_eq!(actions, ["alert", "kill"], "in the order of a set");
}

#[test]
fn whatever_is_written_as_a_module_ends_in_an_answer_or_a_fault() {
    const PIECES: &[&str] = &[
        "verdicts",
        " contains ",
        " if ",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "input.body.code",
        ".",
        "\"a\"",
        "`r`",
        "é",
        "1",
        "2.5",
        ":=",
        "=",
        "==",
        "<",
        "+",
        "-",
        "*",
        "/",
        "%",
        "&",
        "|",
        "\n",
        " ",
        "not ",
        "some x in ",
        "every x in ",
        ":",
        ",",
        "x",
        "_",
        "default ",
        "else ",
        "import rego.v1\n",
        "with input as 1",
        "#",
        "\\",
        "count(",
        "null",
        "true",
        "package clawker\n",
        "state",
        "data.clawker.verdicts",
        "1e400",
        "99999999999999999999",
    ];
    let mut seed = 0x9e37_79b9_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for _ in 0..3_000 {
        let length = 1 + random(12);
        let lines: String = (0..length).map(|_| PIECES[random(PIECES.len())]).collect();
        let rule = format!("verdicts contains {{\"action\": \"alert\"}} if {lines}");
        for lines in [lines, rule] {
            if let Err(panic) = std::panic::catch_unwind(|| ask(&module(&lines), &mut Json::Null).map(drop)) {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or(panic.downcast_ref::<&str>().copied());
                // A message about a `.` or `[` at a line's begin. In the guest the call ends without fuel, a fault too.
                assert_eq!(said, Some("attempt to subtract with overflow"), "`{lines}` panics");
            }
        }
    }
}

#[test]
fn the_schema_names_what_the_settings_have() {
    let schema: Json = serde_json::from_str(RegoRules::SETTINGS_SCHEMA).expect("JSON");
    assert_eq!(schema["properties"]["policy"]["maxLength"], MAX_POLICY);
    assert!(serde_json::from_str::<Settings>(r#"{"policy":"","data":{}}"#).is_ok());
    assert!(serde_json::from_str::<Settings>(r#"{"policy":"","rules":[]}"#).is_err());
    assert!(serde_json::from_str::<Settings>("{}").is_err());
}

#[test]
fn the_examples_of_the_page_decide_as_it_says() {
    assert_eq!(page::play::<RegoRules>(), 3);
    page::check_lists();
}

//! What the SDK's derive refuses a host refuses before it, by the schema that the derive wrote.

use std::collections::BTreeMap;

use clawker_plugin_host::{SettingsError, check_settings_against};
use clawker_plugin_sdk::Settings;
use clawker_plugin_sdk::settings::SettingsSchema;
use serde_json::json;

#[derive(Debug, Settings)]
#[settings(check = credentials_are_named)]
struct Whole {
    /// How many.
    #[settings(default = 2, min = 1, max = 10)]
    threshold: u64,
    #[settings(default)]
    on: bool,
    small: Option<u8>,
    #[settings(default = -1.5, min = -2)]
    ratio: f64,
    #[settings(default = "x", min_len = 1, max_len = 4)]
    word: String,
    #[settings(default, max_len = 2)]
    list: Vec<i32>,
    #[settings(default, max_len = 1)]
    weights: BTreeMap<String, u16>,
    #[settings(default = Mode::IfMissing)]
    mode: Mode,
    #[settings(default)]
    credentials: Vec<Credential>,
    #[settings(rename = "type")]
    of: Option<Mode>,
}

#[derive(Debug, Settings)]
struct Credential {
    host: String,
    #[settings(secret_name)]
    secret: String,
}

#[derive(Debug, Settings)]
enum Mode {
    IfMissing,
    #[settings(rename = "MERGE")]
    Merge,
}

fn credentials_are_named(settings: &Whole) -> Result<(), String> {
    match settings.credentials.iter().any(|credential| credential.host.is_empty()) {
        true => Err("a host has a name".into()),
        false => Ok(()),
    }
}

fn host(settings: &serde_json::Value) -> Result<(), SettingsError> {
    check_settings_against("whole", &Whole::schema(), &settings.to_string())
}

#[test]
fn both_take_the_same() {
    for good in [
        json!({}),
        json!({"$version": 1}),
        json!({"threshold": 10, "on": true, "small": 255, "ratio": 2, "word": "ääää", "list": [1, -1], "type": "MERGE"}),
        json!({"weights": {"a": 65535}, "mode": "if-missing", "credentials": [{"host": "h", "secret": "S"}]}),
    ] {
        assert_eq!(host(&good), Ok(()), "{good}");
        Whole::read(&good.to_string()).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
}

#[test]
fn both_refuse_the_same() {
    for bad in [
        json!({"thresold": 1}),
        json!({"$version": 2}),
        json!({"threshold": 0}),
        json!({"threshold": 11}),
        json!({"threshold": "1"}),
        json!({"on": 1}),
        json!({"small": 256}),
        json!({"small": -1}),
        json!({"ratio": -3}),
        json!({"word": ""}),
        json!({"word": "abcde"}),
        json!({"list": [1, 2, 3]}),
        json!({"list": [2_147_483_648_u64]}),
        json!({"weights": {"a": 1, "b": 1}}),
        json!({"weights": {"a": 65536}}),
        json!({"mode": "merge"}),
        json!({"of": "MERGE"}),
        json!({"credentials": [{"host": "h"}]}),
        json!({"credentials": [{"host": "h", "secret": "S", "port": 1}]}),
    ] {
        assert!(host(&bad).is_err(), "{bad}: the host takes it");
        assert!(Whole::read(&bad.to_string()).is_err(), "{bad}: the derive takes it");
    }
    let beyond_a_schema = json!({"credentials": [{"host": "", "secret": "S"}]});
    assert_eq!(host(&beyond_a_schema), Ok(()));
    let error = Whole::read(&beyond_a_schema.to_string())
        .expect_err("checked")
        .to_string();
    assert!(error.contains("a host has a name"), "{error}");
}

#[test]
fn the_schema_says_what_the_definition_says() {
    let schema: serde_json::Value = serde_json::from_str(&Whole::schema()).expect("JSON");
    assert_eq!(schema["x-version"], 1);
    assert_eq!(
        schema["properties"]["threshold"],
        json!({"type": "integer", "minimum": 1, "maximum": 10, "default": 2, "description": "How many."})
    );
    assert_eq!(schema["properties"]["mode"]["default"], "if-missing");
    let credential = &schema["properties"]["credentials"]["items"];
    assert_eq!(credential["required"], json!(["host", "secret"]));
    assert_eq!(credential["properties"]["secret"]["format"], "secret-name");
    assert_eq!(schema.get("required"), None);
}

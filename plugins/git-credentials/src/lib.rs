//! Lets git of the image's user authenticate: a store of credentials from secrets that the operator granted.
//!
//! The store is the user's alone, and git asks it only for the hosts in it. The step never sees a secret: what stands
//! for it is replaced on the way into the container.

#[path = "../../git/src/include.rs"]
mod include;

use clawker_plugin_sdk::step::{Container, Context, Failure, File, Form, Piece, Step, WriteWhen};

const STORE: &str = "~/.config/clawker/git-credentials";

struct GitCredentials;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    credentials: Vec<Credential>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    host: String,
    #[serde(default = "username")]
    username: String,
    secret: String,
}

/// What forges take with a token for a password.
fn username() -> String {
    "x-access-token".into()
}

impl Step for GitCredentials {
    const NAME: &str = "git-credentials";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Settings;

    fn run(_: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
        if let Some(bad) = settings
            .credentials
            .iter()
            .find(|credential| !is_host(&credential.host))
        {
            return Err(Failure::new(format!(
                "`{:.80}` is no host, like `example.org` or `example.org:8443`",
                bad.host
            )));
        }
        let (mut store, mut config) = (Vec::<Piece>::new(), String::new());
        for Credential { host, username, secret } in &settings.credentials {
            let secret = container.secret(secret, Form::Percent);
            store.extend([
                format!("https://{}:", percent(username)).into(),
                secret.into(),
                format!("@{host}\n").into(),
            ]);
            // An empty helper first: no other is asked, or told, about this host.
            config.push_str(&format!(
                "[credential \"https://{host}\"]\n\thelper =\n\thelper = store --file {STORE}\n"
            ));
        }
        let store = File::of(STORE, store).mode(0o600).when(WriteWhen::IfChanged);
        let stored = container.write_file(store)?;
        let included = include::include("gitconfig-credentials", config, container)?;
        let what = if stored || included { "wrote" } else { "found" };
        Ok(format!("{what} credentials for {} hosts", settings.credentials.len()))
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        && port.parse::<u16>().is_ok()
}

/// All but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

clawker_plugin_sdk::export_step!(GitCredentials);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::TestContainer;

    use super::*;

    fn run(container: &mut TestContainer, settings: &str) -> Result<String, Failure> {
        let settings = serde_json::from_str(settings).expect("settings");
        GitCredentials::run(&Context::of("clawker.a"), settings, container)
    }

    #[test]
    fn the_store_is_the_users_alone_and_for_its_hosts_alone() {
        let mut container = TestContainer::default();
        container.secrets.insert("A".into(), "to/ken@1\n".into());
        container.secrets.insert("B".into(), "b".into());
        let settings = r#"{"credentials":[{"host":"example.org","secret":"A"},
            {"host":"git.example.net:8443","username":"me@x","secret":"B"}]}"#;
        assert_eq!(
            run(&mut container, settings),
            Ok("wrote credentials for 2 hosts".into())
        );
        assert_eq!(
            container.files[STORE],
            b"https://x-access-token:to%2Fken%401@example.org\nhttps://me%40x:b@git.example.net:8443\n"
        );
        assert_eq!(container.modes[STORE], 0o600);
        let config = String::from_utf8_lossy(&container.files["~/.config/clawker/gitconfig-credentials"]);
        let expected = "[credential \"https://example.org\"]\n\thelper =\n\thelper = store --file ~/.config/clawker/git-credentials\n";
        assert!(config.starts_with(expected), "{config}");
        assert_eq!(
            run(&mut container, settings),
            Ok("found credentials for 2 hosts".into())
        );
    }

    #[test]
    fn a_host_that_is_none_is_named_and_nothing_is_written() {
        for host in ["", "https://example.org", "a b", "a\\n", "x:y", "a\\\"]"] {
            let mut container = TestContainer::default();
            container.secrets.insert("A".into(), "t".into());
            let settings = format!(r#"{{"credentials":[{{"host":"{host}","secret":"A"}}]}}"#);
            let why = run(&mut container, &settings).expect_err(host);
            assert!(why.message.contains("is no host"), "{why}");
            assert!(container.files.is_empty());
        }
    }
}

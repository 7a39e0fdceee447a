use super::*;

fn read(text: &str) -> Vec<String> {
    let entries = parse(text).expect("reads");
    assert_eq!(parse(&write(&entries)), Ok(entries.clone()), "it reads what it writes");
    entries
        .into_iter()
        .map(|entry| match entry.subsection {
            Some(sub) => format!("{}|{sub}|{}={}", entry.section, entry.key, entry.value),
            None => format!("{}|{}={}", entry.section, entry.key, entry.value),
        })
        .collect()
}

#[test]
fn the_syntax_is_gits() {
    for (text, expected) in [
        ("", vec![]),
        ("# x\n; y\n", vec![]),
        ("[User]\n\tName = Ada L  \n", vec!["user|name=Ada L"]),
        (
            "[user] name=Ada\r\n email = a@b # c\n",
            vec!["user|name=Ada", "user|email=a@b"],
        ),
        ("[core]\nbare\nx ; y\n", vec!["core|bare=true", "core|x=true"]),
        ("[a \"b \\\" C\\\\\"]\nk = v", vec!["a|b \" C\\|k=v"]),
        ("[branch.Main]\nk = v", vec!["branch|main|k=v"]),
        ("[a]\nk = \" x # y \" z \n", vec!["a|k= x # y  z"]),
        ("[a]\nk = one\\\n  two\n", vec!["a|k=one  two"]),
        ("[a]\nk = \\\"q\\\" \\\\ \\t.\\n.\n", vec!["a|k=\"q\" \\ \t.\n."]),
        ("[a]\nk =\n", vec!["a|k="]),
        ("\u{feff}[a]\nk=ä", vec!["a|k=ä"]),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
}

#[test]
fn what_git_would_not_read_is_named_by_its_line() {
    for (text, line) in [
        ("k = v", 1),
        ("[a\nk = v", 1),
        ("[a]\n\n1k = v", 3),
        ("[a]\nk = \"v\nl = w", 2),
        ("[a]\nk = \\q", 2),
        ("[a \"b\nc\"]", 1),
        ("[]\n", 1),
        ("[a]\nk v\n", 2),
        ("[a]\n=v\n", 2),
    ] {
        assert_eq!(parse(text), Err(line), "{text:?}");
    }
}

#[test]
fn nothing_dangerous_passes_whatever_the_patterns() {
    let text = r#"
[user]
name = Ada
[core]
sshCommand = evil
FsMonitor = evil
hookspath = /evil
editor = evil
pager = evil
askpass = evil
gitProxy = evil
autocrlf = input
[core "x"]
sshcommand = evil
[include]
path = /evil
[includeIf "gitdir:/"]
path = /evil
[credential]
helper = evil
[credential "https://example.org"]
helper = !evil
username = evil
[alias]
st = !evil
[filter "lfs"]
clean = evil
process = evil
[diff "x"]
textconv = evil
command = evil
[diff]
external = evil
[merge "x"]
driver = evil
[gpg]
program = evil
[gpg "ssh"]
defaultKeyCommand = evil
[pager]
log = evil
[sequence]
editor = evil
[http]
extraHeader = Authorization: evil
proxy = evil
[url "https://evil@example.org/"]
insteadOf = https://example.org/
[remote "origin"]
uploadpack = evil
[init]
templateDir = /evil
defaultBranch = main
[protocol "ext"]
allow = always
[safe]
directory = *
[uploadpack]
packObjectsHook = evil
[trailer "x"]
command = evil
[sendemail]
smtpServer = /evil
[submodule "x"]
update = !evil
[tar "x"]
command = evil
[hook "x"]
command = evil
event = post-commit
[interactive]
diffFilter = evil
[new]
someCommand = evil
anyProgram = evil
x = !evil
"#;
    let entries = parse(text).expect("reads");
    let all: Vec<String> = entries.iter().map(|entry| format!("{}.*", entry.section)).collect();
    let kept = filtered(entries.clone(), &all);
    assert!(
        !kept
            .iter()
            .any(|entry| entry.value.contains("evil") || entry.value == "*"),
        "{kept:?}"
    );
    let values: Vec<&str> = kept.iter().map(|entry| entry.value.as_str()).collect();
    assert_eq!(values, ["Ada", "input", "main"]);
    let named: Vec<String> = entries
        .iter()
        .map(|entry| format!("{}.{}", entry.section, entry.key))
        .collect();
    assert_eq!(filtered(entries, &named), kept);
}

#[test]
fn only_what_is_named_passes() {
    let entries = parse("[user]\nname=A\nemail=B\n[branch \"x\"]\nrebase=true").expect("reads");
    let kept = |patterns: &[&str]| -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        filtered(entries.clone(), &patterns)
            .into_iter()
            .map(|entry| entry.value)
            .collect()
    };
    assert_eq!(kept(&[]), [""; 0]);
    assert_eq!(kept(&["User.Name", "user"]), ["A"]);
    assert_eq!(kept(&["user.*", "branch.rebase"]), ["A", "B", "true"]);
}

#[test]
fn names_are_read_or_refused() {
    let named = |name| Entry::named(name, "v").map(|entry| (entry.section, entry.subsection, entry.key));
    assert_eq!(named("User.Name"), Some(("user".into(), None, "name".into())));
    assert_eq!(
        named("branch.A.b.Rebase"),
        Some(("branch".into(), Some("A.b".into()), "rebase".into()))
    );
    for bad in ["", "user", "user.", ".name", "us er.name", "user.na me", "user.1"] {
        assert_eq!(named(bad), None, "{bad}");
    }
}

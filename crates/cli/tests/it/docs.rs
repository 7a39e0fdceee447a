//! The command tree is sound, and `docs/cli.md` is what it says.

use clap::CommandFactory;

#[test]
fn the_command_tree_is_sound() {
    clawker_cli::Cli::command().debug_assert();
}

#[test]
fn every_verb_has_a_summary_and_examples() {
    for verb in clawker_cli::Cli::command().get_subcommands() {
        let name = verb.get_name();
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.len() > 10, "`{name}` doesn't say what it does");
        let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(examples.starts_with("Examples:\n"), "`{name}` has no examples");
        assert!(
            verb.get_long_about().is_some(),
            "`{name}` says no more than its summary"
        );
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let made = clawker_cli::docs::markdown();
    if std::env::var_os("CLAWKER_BLESS").is_some() {
        std::fs::write(path, &made).expect("docs/cli.md is written");
    }
    let kept = std::fs::read_to_string(path).expect("docs/cli.md");
    assert!(
        kept == made,
        "docs/cli.md is stale: CLAWKER_BLESS=1 cargo test -p clawker-cli"
    );
}

//! The reference of the command line as Markdown, from the same tree that parses it.

use clap::CommandFactory;

/// `docs/cli.md`, whole.
pub fn markdown() -> String {
    let mut root = crate::Cli::command().term_width(100);
    root.build();
    let mut page = String::from(
        "# clawker on the command line\n\n\
         Made from the program's own help and compared with it in a test: `CLAWKER_BLESS=1 cargo test -p clawker-cli`\n\
         writes it anew.\n\n## clawker\n\n",
    );
    push(&mut page, &mut root);
    for verb in root.get_subcommands() {
        page.push_str(&format!("\n## clawker {}\n\n", verb.get_name()));
        // What holds for every verb is said once.
        let globals: Vec<_> = verb
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .map(|arg| arg.get_id().clone())
            .collect();
        let mut own = globals
            .iter()
            .fold(verb.clone(), |verb, id| verb.mut_arg(id, |arg| arg.hide(true)));
        push(&mut page, &mut own);
        // Verbs of a verb, where they say more than their summary.
        for below in own.get_subcommands().filter(|below| below.get_after_help().is_some()) {
            page.push_str(&format!("\n### clawker {} {}\n\n", verb.get_name(), below.get_name()));
            let mut below = globals
                .iter()
                .fold(below.clone(), |below, id| below.mut_arg(id, |arg| arg.hide(true)));
            push(&mut page, &mut below);
        }
    }
    page
}

fn push(page: &mut String, command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    page.push_str("```text\n");
    for line in help.trim_end().lines() {
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page.push_str("```\n");
}

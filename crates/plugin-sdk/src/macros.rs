//! The macros, with their documentation and the tests of what they refuse.

/// Makes a policy of a function.
///
/// ```
/// use clawker_plugin_sdk::events::ExecExited;
/// use clawker_plugin_sdk::policy::{Event, Facts, Fault, Verdict};
/// use clawker_plugin_sdk::{Settings, policy};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Settings)]
/// struct Settings {
///     /// Failures within a minute that are too many.
///     #[settings(default = 5, min = 1)]
///     failures: u64,
/// }
///
/// /// What it remembers of an agent.
/// #[derive(Default, Serialize, Deserialize)]
/// struct State {
///     failed: u64,
/// }
///
/// #[policy(events(ExecExited), windows(ExecExited = 60))]
/// fn failures(
///     event: &Event,
///     facts: &Facts,
///     settings: &Settings,
///     state: &mut State,
/// ) -> Result<Vec<Verdict>, Fault> {
///     let Some(exited) = event.typed::<ExecExited>()? else { return Ok(vec![]) };
///     state.failed += u64::from(exited.code != 0);
///     let many = state.failed.min(facts.count("ExecExited")) >= settings.failures;
///     Ok(if many { vec![Verdict::freeze("too many failures")] } else { vec![] })
/// }
/// ```
///
/// # Arguments
///
/// | | |
/// |---|---|
/// | `events(A, "B")` | the kinds it is asked about: types of [`events`](crate::events), or names of kinds that are newer |
/// | `windows(A = 60)` | what the host counts for it, and over how many seconds |
/// | `name`, `version` | else the package's |
/// | `schema = include_str!("…")` | a JSON Schema by hand, for settings that don't derive [`Settings`](macro@Settings) |
///
/// # The function
///
/// takes what it needs of `&Event`, `&Facts`, `&Settings` and `&mut State`, in any order; the last two are types of
/// yours with any name. It answers whatever is an [`Answer`](crate::policy::Answer).
///
/// It stays a function that tests may call. Beside it a type of the same name implements
/// [`Policy`](crate::policy::Policy), for [`MockHost`](crate::test::MockHost), and is exported as the component's.
///
/// # What is refused
///
/// A kind that there isn't:
/// ```compile_fail
/// # use clawker_plugin_sdk::{policy, policy::Verdict};
/// #[policy(events(ExecExitted))]
/// fn p() -> Option<Verdict> { None }
/// ```
/// A policy that is asked about nothing:
/// ```compile_fail
/// # use clawker_plugin_sdk::{policy, policy::Verdict};
/// #[policy]
/// fn p() -> Option<Verdict> { None }
/// ```
/// A window of more than a day:
/// ```compile_fail
/// # use clawker_plugin_sdk::{policy, policy::Verdict};
/// #[policy(events(ExecExited), windows(ExecExited = 86_401))]
/// fn p() -> Option<Verdict> { None }
/// ```
/// Two parameters for the same, one by value, an argument that there isn't:
/// ```compile_fail
/// # use clawker_plugin_sdk::{policy, policy::{Event, Verdict}};
/// #[policy(events(ExecExited))]
/// fn p(_: &Event, _: &Event) -> Option<Verdict> { None }
/// ```
/// ```compile_fail
/// # use clawker_plugin_sdk::{policy, policy::{Event, Verdict}};
/// #[policy(events(ExecExited))]
/// fn p(_: Event) -> Option<Verdict> { None }
/// ```
/// ```compile_fail
/// # use clawker_plugin_sdk::{policy, policy::Verdict};
/// #[policy(events(ExecExited), kinds(ExecExited))]
/// fn p() -> Option<Verdict> { None }
/// ```
/// An answer that is none:
/// ```compile_fail,E0277
/// # use clawker_plugin_sdk::policy;
/// #[policy(events(ExecExited))]
/// fn p() -> bool { true }
/// ```
pub use clawker_plugin_sdk_macros::policy;

/// Makes a step of a function.
///
/// ```
/// use clawker_plugin_sdk::step::{Container, Context, Failure, File};
/// use clawker_plugin_sdk::{Settings, step};
///
/// #[derive(Settings)]
/// struct Settings {
///     /// Where the note is written.
///     #[settings(default = "~/NOTE")]
///     path: String,
/// }
///
/// #[step]
/// fn note(context: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
///     container.write_file(File::new(settings.path, format!("You are {}.\n", context.agent)))?;
///     Ok("wrote a note".into())
/// }
/// ```
///
/// Arguments are `name`, `version` and `schema`, as [`policy`](macro@policy)'s. The function takes what it needs of
/// `&Context`, `Settings` (or a reference to them) and `&mut impl Container`. Beside it a type of the same name
/// implements [`Step`](crate::step::Step), for [`TestContainer::run`](crate::step::TestContainer::run).
///
/// A step isn't asked about events:
/// ```compile_fail
/// # use clawker_plugin_sdk::{step, step::Failure};
/// #[step(events(ExecExited))]
/// fn s() -> Result<String, Failure> { Ok(String::new()) }
/// ```
pub use clawker_plugin_sdk_macros::step;

/// Makes a gate of a function.
///
/// ```
/// use clawker_plugin_sdk::gate;
/// use clawker_plugin_sdk::gate::{Decision, Facts, Request};
/// use clawker_plugin_sdk::policy::Fault;
///
/// #[gate]
/// fn healthy_first(_: &Request, facts: &Facts) -> Result<Decision, Fault> {
///     Ok(match facts.failed {
///         0 => Decision::allow(),
///         failed => Decision::hold(format!("{failed} hosts failed"), 300),
///     })
/// }
/// ```
///
/// Arguments are `name`, `version` and `schema`, as [`policy`](macro@policy)'s. The function takes what it needs of
/// `&Request`, `&Facts` and `&Settings`. Beside it a type of the same name implements [`Gate`](crate::gate::Gate).
///
/// It has no state:
/// ```compile_fail
/// # use clawker_plugin_sdk::{gate, gate::Decision, policy::Fault};
/// #[gate]
/// fn g(state: &mut u64) -> Result<Decision, Fault> { Ok(Decision::allow()) }
/// ```
pub use clawker_plugin_sdk_macros::gate;

/// Reads settings, checks them and describes them as a JSON Schema; see [`settings`](mod@crate::settings) for an
/// example and for versions.
///
/// On a struct with named fields:
///
/// | on a field | |
/// |---|---|
/// | a doc comment | its description |
/// | `default`, `default = …` | what it is where it isn't written; without one it must be, unless it is an `Option` |
/// | `min = …`, `max = …` | of a number |
/// | `min_len = …`, `max_len = …` | characters of a text, items of a list, keys of a map |
/// | `secret_name` | its text, or each of its texts, names a secret of the agent's: so an operator grants it |
/// | `rename = "…"` | another name in settings than in Rust |
///
/// | on the struct | |
/// |---|---|
/// | `version = 2`, `migrate = path` | `fn(u32, serde_json::Value) -> Result<serde_json::Value, Fault>`: from older settings |
/// | `check = path` | `fn(&Self) -> Result<(), String>`: what a schema can't say |
///
/// On an enum of variants without fields: one word of several, written with dashes, or as `rename` says.
///
/// # What is refused
///
/// ```compile_fail
/// #[derive(clawker_plugin_sdk::Settings)]
/// struct S { #[settings(minimum = 1)] a: u8 }
/// ```
/// ```compile_fail,E0277
/// #[derive(clawker_plugin_sdk::Settings)]
/// struct S { #[settings(default, min = 1)] a: String }
/// ```
/// ```compile_fail,E0277
/// #[derive(clawker_plugin_sdk::Settings)]
/// struct S { a: Option<std::time::Instant> }
/// ```
/// ```compile_fail
/// #[derive(clawker_plugin_sdk::Settings)]
/// enum S { A(u8) }
/// ```
/// ```compile_fail
/// # fn migrate(_: u32, old: serde_json::Value) -> Result<serde_json::Value, clawker_plugin_sdk::policy::Fault> { Ok(old) }
/// #[derive(clawker_plugin_sdk::Settings)]
/// #[settings(migrate = migrate)]
/// struct S { a: u8 }
/// ```
pub use clawker_plugin_sdk_macros::Settings;

//! A plugin's settings: one definition that they are read by, checked by and documented by.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use clawker_plugin_sdk::Settings;
//! use clawker_plugin_sdk::settings::SettingsSchema;
//!
//! /// When too much is too much.
//! #[derive(Settings)]
//! struct Limits {
//!     /// Failures within the window that are too many.
//!     #[settings(default = 5, min = 1)]
//!     failures: u64,
//!     /// What is done about it.
//!     #[settings(default = Action::LockNetwork)]
//!     action: Action,
//!     /// The secret that opens the door.
//!     #[settings(secret_name)]
//!     token: Option<String>,
//!     /// Programs that count double.
//!     #[settings(default, max_len = 16)]
//!     weights: BTreeMap<String, u8>,
//! }
//!
//! #[derive(Settings)]
//! enum Action {
//!     LockNetwork,
//!     Freeze,
//! }
//!
//! let read = Limits::read(r#"{"failures": 2, "action": "freeze"}"#)?;
//! assert!(read.failures == 2 && read.token.is_none() && matches!(read.action, Action::Freeze));
//! assert_eq!(Limits::default().failures, 5);
//!
//! let wrong = |settings: &str| Limits::read(settings).err().map(|error| error.to_string()).unwrap_or_default();
//! assert!(wrong(r#"{"failures": 0}"#).contains("`failures` must be at least 1"));
//! assert!(wrong(r#"{"failurs": 2}"#).contains("unknown field `failurs`"));
//!
//! let schema: serde_json::Value = serde_json::from_str(&Limits::schema())?;
//! let failures = &schema["properties"]["failures"];
//! assert_eq!(failures["description"], "Failures within the window that are too many.");
//! assert_eq!((&failures["default"], &failures["minimum"]), (&5.into(), &1.into()));
//! assert_eq!(schema["properties"]["action"]["enum"], serde_json::json!(["lock-network", "freeze"]));
//! assert_eq!(schema["properties"]["token"]["format"], "secret-name");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A key without a `default` has to be there, unless it is an `Option`. Keys that aren't known are refused. Read and
//! written by serde, so don't derive serde's traits beside it; `Default` comes along where every field has one.
//!
//! # Versions
//!
//! Settings outlive a plugin's release. Where a new one means something else by them, its `version` goes up, and
//! `migrate` makes today's settings of older ones. Operators say `"$version"` in settings that are older; without it
//! they are of the plugin's own version. `migrate` gets them without that key, once, whatever lies between.
//!
//! ```
//! use clawker_plugin_sdk::Settings;
//! use clawker_plugin_sdk::policy::Fault;
//! use clawker_plugin_sdk::settings::SettingsSchema;
//! use serde_json::{Value, json};
//!
//! #[derive(Settings)]
//! #[settings(version = 2, migrate = migrate)]
//! struct Limits {
//!     /// Seconds.
//!     seconds: u64,
//! }
//!
//! fn migrate(from: u32, old: Value) -> Result<Value, Fault> {
//!     match from {
//!         1 => Ok(json!({"seconds": old["minutes"].as_u64().ok_or("`minutes` is missing")? * 60})),
//!         _ => Err("no such version".into()),
//!     }
//! }
//!
//! assert_eq!(Limits::read(r#"{"$version": 1, "minutes": 2}"#)?.seconds, 120);
//! assert_eq!(Limits::read(r#"{"seconds": 90}"#)?.seconds, 90);
//! assert!(Limits::read(r#"{"$version": 3, "seconds": 90}"#).is_err());
//! # Ok::<(), Fault>(())
//! ```

mod bounds;
mod schema;
mod shape;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use bounds::{Bounds, Length, Number};
pub use schema::Schema;
pub use shape::{Object, Shape, choice};

use crate::policy::Fault;

/// The key that says of which version settings are.
pub const VERSION_KEY: &str = "$version";

/// Settings with a schema; `#[derive(Settings)]` on a struct implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema",
    note = "derive `Settings` for it, or give the attribute a `schema = \"…\"` by hand"
)]
pub trait SettingsSchema: Shape + DeserializeOwned {
    /// Goes up when older settings would be refused or mean something else.
    const VERSION: u32 = 1;

    /// Today's settings of those of version `from`, which is lower than [`VERSION`](Self::VERSION).
    fn migrate(from: u32, _old: Value) -> Result<Value, Fault> {
        Err(format!("settings of version {from} can't be read any more").into())
    }

    /// The JSON Schema: what the host checks settings by, and what documentation and forms are made of. Its `x-version`
    /// is [`VERSION`](Self::VERSION).
    fn schema() -> String {
        Self::shape().versioned(Self::VERSION).to_string()
    }

    /// The settings that a JSON object holds, migrated where it says that they are older.
    fn read(json: &str) -> Result<Self, Fault> {
        let wrong = |error: serde_json::Error| format!("settings: {error}");
        if json.contains(VERSION_KEY) {
            let said: Said = serde_json::from_str(json).map_err(wrong)?;
            let version = said.version.unwrap_or(Self::VERSION);
            if !(1..=Self::VERSION).contains(&version) {
                return Err(format!("settings: `{VERSION_KEY}` is 1 to {}", Self::VERSION).into());
            }
            if version < Self::VERSION {
                let mut old: Value = serde_json::from_str(json).map_err(wrong)?;
                if let Value::Object(fields) = &mut old {
                    fields.remove(VERSION_KEY);
                }
                let migrated = Self::migrate(version, old);
                let migrated = migrated.map_err(|error| format!("settings of version {version}: {error}"))?;
                return Ok(serde_json::from_value(migrated).map_err(wrong)?);
            }
        }
        Ok(serde_json::from_str(json).map_err(wrong)?)
    }
}

/// Of which version settings say that they are.
#[derive(serde::Deserialize)]
struct Said {
    #[serde(rename = "$version")]
    version: Option<u32>,
}

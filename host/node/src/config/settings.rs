//! How a section of the configuration is declared: once, with its documentation, default and bounds, from which
//! come the type, its parsing, its check and what `mortise serve --print-config` prints.

use super::ConfigError;

/// A setting as it is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name within its section.
    pub name: &'static str,
    /// What it means, in lines.
    pub doc: &'static [&'static str],
    /// `None`: it is not set, and has no default.
    pub value: Option<toml::Value>,
    /// As [`Setting::value`].
    pub default: Option<toml::Value>,
    /// Least and greatest, of a number.
    pub bounds: Option<(u64, u64)>,
}

/// A section of the configuration.
pub trait Section: Default {
    /// What it is about, in lines.
    const DOC: &'static [&'static str];

    /// Its settings, in the order of their declaration.
    fn settings(&self) -> Vec<Setting>;

    /// Checks every number against its bounds.
    ///
    /// # Errors
    /// The first that is out of bounds. `name` is the section's.
    fn check_bounds(&self, name: &str) -> Result<(), ConfigError> {
        for setting in self.settings() {
            let (Some((min, max)), Some(value)) = (setting.bounds, setting.value) else { continue };
            // A value that does not fit TOML's integers is far above every maximum.
            let value = value.as_integer().and_then(|value| u64::try_from(value).ok()).unwrap_or(u64::MAX);
            if !(min..=max).contains(&value) {
                let field = format!("{name}.{}", setting.name);
                return Err(ConfigError::OutOfBounds { field, value, min, max });
            }
        }
        Ok(())
    }
}

/// Declares a section: `field: Type = default;`, and for numbers `, min A, max B` before the semicolon.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr $(, min $min:expr, max $max:expr)?;
            )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Default: `", stringify!($default), "`.")]
                $(#[doc = concat!("Minimum: `", stringify!($min), "`. Maximum: `", stringify!($max), "`.")])?
                pub $field: $type,
            )+
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::settings::Section for $section {
            const DOC: &'static [&'static str] = &[$($section_doc),+];

            fn settings(&self) -> Vec<$crate::config::settings::Setting> {
                let default = Self::default();
                vec![$($crate::config::settings::Setting {
                    name: stringify!($field),
                    doc: &[$($doc),+],
                    value: toml::Value::try_from(&self.$field).ok(),
                    default: toml::Value::try_from(&default.$field).ok(),
                    bounds: section!(@bounds $($min, $max)?),
                },)+]
            }
        }
    };
    (@bounds) => { None };
    (@bounds $min:expr, $max:expr) => {{
        let bounds: (u64, u64) = ($min, $max);
        Some(bounds)
    }};
}

pub(super) use section;

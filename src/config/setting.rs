//! What a setting is; [`super::settings`] lists them.

/// One setting: an environment variable, and a flag unless it is a secret.
#[derive(Debug)]
pub struct Setting {
    /// The variable's full name.
    pub variable: &'static str,
    /// A shorter name of the variable, which wins over the full one.
    pub short_name: Option<&'static str>,
    /// The flag without its dashes. Secrets have no flag, because every process can read the arguments of
    /// every other.
    pub flag: Option<&'static str>,
    /// The placeholder for the value in the help.
    pub value: &'static str,
    /// The default value, as a user would write it.
    pub default: Option<&'static str>,
    /// What an unset setting means, in words, for settings without a default value.
    pub when_unset: Option<&'static str>,
    pub help: &'static str,
    /// Whether a project's `.descartes.toml` may have this setting, and which values.
    pub in_project_file: InProjectFile,
}

/// What a project's `.descartes.toml` may say about a setting. A project may choose how its tasks are done. What they may
/// cost, where they run, and who gets to know about them is for the operator to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InProjectFile {
    Refused,
    Text,
    Number,
    /// A list of texts, which a variable has as lines.
    Texts,
    /// A number up to the default.
    NumberUpToDefault,
    /// A duration up to the default.
    DurationUpToDefault,
}

impl Setting {
    pub(super) const fn new(
        variable: &'static str,
        flag: &'static str,
        value: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            variable,
            short_name: None,
            flag: Some(flag),
            value,
            default: None,
            when_unset: None,
            help,
            in_project_file: InProjectFile::Refused,
        }
    }

    pub(super) const fn short_name(self, name: &'static str) -> Self {
        Self {
            short_name: Some(name),
            ..self
        }
    }

    pub(super) const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    pub(super) const fn when_unset(self, meaning: &'static str) -> Self {
        Self {
            when_unset: Some(meaning),
            ..self
        }
    }

    pub(super) const fn in_project_file(self, in_project_file: InProjectFile) -> Self {
        Self {
            in_project_file,
            ..self
        }
    }

    /// A setting without a flag: a secret, or a variable that other programs define.
    pub(super) const fn unflagged(variable: &'static str, help: &'static str) -> Self {
        Self {
            variable,
            short_name: None,
            flag: None,
            value: "",
            default: None,
            when_unset: None,
            help,
            in_project_file: InProjectFile::Refused,
        }
    }

    /// The key of this setting in a project's file: the flag, or else the variable, as TOML names are written.
    pub fn key(&self) -> String {
        let name = self.name();
        let variable = || {
            name.strip_prefix("DESCARTES_")
                .unwrap_or(name)
                .to_ascii_lowercase()
        };
        self.flag
            .map_or_else(variable, |flag| flag.replace('-', "_"))
    }

    /// The name of the variable in messages and in the help.
    pub fn name(&self) -> &'static str {
        self.short_name.unwrap_or(self.variable)
    }
}

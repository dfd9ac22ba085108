//! The type of one setting; [`super::settings`] lists all settings.

/// One setting: an environment variable, and a flag unless it is a secret.
#[derive(Debug)]
pub struct Setting {
    /// The variable's full name.
    pub variable: &'static str,
    /// A shorter name of the variable. If both are set, the one with the shorter name counts.
    pub short_name: Option<&'static str>,
    /// The flag without its dashes. Secrets have no flag, because every process can read the arguments of every other
    /// process.
    pub flag: Option<&'static str>,
    /// The placeholder for the value in the help, such as `DURATION`.
    pub value_name: &'static str,
    /// The default value, as a user would write it.
    pub default: Option<&'static str>,
    /// What an unset setting means, in words, for settings without a default value.
    pub when_unset: Option<&'static str>,
    /// One sentence for the help. `-h` shows only the part before the first semicolon.
    pub help: &'static str,
    /// The values that a project's `.descartes.toml` may have for this setting.
    pub in_project_file: InProjectFile,
}

/// The values that a project's `.descartes.toml` may have for a setting. The project may choose how its tasks are done.
/// Only the operator decides what tasks may cost, where they run, and who gets reports about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InProjectFile {
    Forbidden,
    Text,
    Number,
    /// A list of texts; in a variable, one per line.
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
        value_name: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            variable,
            short_name: None,
            flag: Some(flag),
            value_name,
            default: None,
            when_unset: None,
            help,
            in_project_file: InProjectFile::Forbidden,
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
            value_name: "",
            default: None,
            when_unset: None,
            help,
            in_project_file: InProjectFile::Forbidden,
        }
    }

    /// The key of this setting in a project's file: the name of its flag, or of its variable if it has no flag, with
    /// lower-case letters and underscores.
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

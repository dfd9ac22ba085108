//! The agents in `.scud/agents/`: their definitions, and the tasks that the graph assigns to them.
//!
//! The private structs for the content of the files require the keys that SCUD requires, and ignore all other keys. This
//! module does not know SCUD's built-in agents.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::fields::first_two_fields;
use super::lexer::{Item, Items};
use super::project::Project;
use super::search::id_in_phase;
use super::settings::{MAX_FILE_SIZE, SettingsError, parse};
use crate::task::{Priority, Task};

/// The directory of the definitions.
pub const AGENTS_DIR: &str = ".scud/agents";

/// The definition of an agent to which tasks can be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDefinition {
    pub name: String,
    pub description: Option<String>,
    /// The program that runs the agent, as SCUD calls it (`claude`, `opencode`, …); SCUD's default is `rho`.
    pub harness: Option<String>,
    pub model: Option<String>,
    /// The prompt with placeholders, from the definition or from the template file that the definition names.
    pub template: Option<String>,
}

/// The content of a definition's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    pub definition: AgentDefinition,
    /// The file with the template, as a path in the project; `None` if the definition contains the template itself, or
    /// has no template.
    pub template_file: Option<String>,
}

impl AgentFile {
    /// The path of the definition of the agent that the graph calls `name`, in the project.
    ///
    /// # Errors
    /// If the name is not the name of a file. The graph is untrusted, and the name becomes part of a path.
    pub fn path(name: &str) -> Result<String, SettingsError> {
        let forbidden = |c: char| c == '/' || c == '\\' || c.is_control();
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || name.contains(forbidden)
        {
            return Err(SettingsError::AgentName {
                name: name.to_owned(),
            });
        }
        Ok(format!("{AGENTS_DIR}/{name}.toml"))
    }

    /// Reads the text of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let definition: Definition = parse(text, path)?;
        let Prompt {
            template,
            template_file,
        } = definition.prompt;
        // If a definition has both, SCUD uses the template.
        let template_file = match (&template, template_file) {
            (None, Some(file)) => Some(template_path(path, &file)?),
            _ => None,
        };
        Ok(Self {
            definition: AgentDefinition {
                name: definition.agent.name,
                description: definition.agent.description,
                harness: definition.model.harness,
                model: definition.model.model,
                template,
            },
            template_file,
        })
    }
}

/// The path of the template file that a definition names, in the project.
fn template_path(definition: &Path, file: &str) -> Result<String, SettingsError> {
    let components = file.split('/');
    let components = components.filter(|part| !part.is_empty() && *part != ".");
    let components: Vec<&str> = components.collect();
    if file.starts_with('/') || components.contains(&"..") || components.is_empty() {
        return Err(SettingsError::TemplatePath {
            path: definition.to_owned(),
            template: file.to_owned(),
        });
    }
    Ok(format!("{AGENTS_DIR}/{}", components.join("/")))
}

impl Project {
    /// The definition of the agent that the graph calls `name`, if the project has one.
    pub fn agent(&self, name: &str) -> Result<Option<AgentDefinition>, SettingsError> {
        let path = AgentFile::path(name)?;
        let components: Vec<&str> = path.split('/').collect();
        let Some(text) = self.read_optional_text(&components, MAX_FILE_SIZE)? else {
            return Ok(None);
        };
        let AgentFile {
            mut definition,
            template_file,
        } = AgentFile::parse(&text, &self.path(&components))?;
        if let Some(file) = template_file {
            let components: Vec<&str> = file.split('/').collect();
            definition.template = Some(self.read_text(&components, MAX_FILE_SIZE)?);
        }
        Ok(Some(definition))
    }
}

/// The names of the agents to which tasks are assigned, by phase and id of the task. Ends at the first syntax error.
pub fn assigned_agents(text: &str) -> HashMap<(String, String), String> {
    let mut agents = HashMap::new();
    let mut tag = "";
    for item in Items::of(text).map_while(Result::ok) {
        match item {
            Item::Phase { tag: next, .. } => tag = next,
            Item::Name(name) => tag = name,
            Item::Agent(line) => {
                if let Some((task, name)) =
                    first_two_fields(line).filter(|(_, name)| !name.is_empty())
                {
                    let key = (tag.to_owned(), id_in_phase(tag, task).to_owned());
                    agents.insert(key, name.to_owned());
                }
            }
            _ => {}
        }
    }
    agents
}

#[derive(Deserialize)]
struct Definition {
    agent: Agent,
    model: Model,
    #[serde(default)]
    prompt: Prompt,
}

#[derive(Deserialize)]
struct Agent {
    name: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    harness: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize, Default)]
struct Prompt {
    template: Option<String>,
    template_file: Option<String>,
}

/// The maximum size of a prompt, in bytes: no model reads more, and a template can repeat a large description
/// thousands of times.
pub const MAX_PROMPT_SIZE: usize = 8 * 1024 * 1024;

impl AgentDefinition {
    /// The agent's own prompt for a task, if it has one. Placeholders in the texts of the task are not
    /// replaced, and braces that are not a placeholder of SCUD stay as they are.
    pub fn render(&self, task: &Task) -> Option<String> {
        let template = self.template.as_deref()?;
        let mut prompt = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(brace) = rest.find('{') {
            // The caller reports a prompt that is too large.
            if prompt.len() > MAX_PROMPT_SIZE {
                return Some(prompt);
            }
            prompt.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let placeholder = PLACEHOLDERS.iter().find(|(name, _)| rest.starts_with(name));
            if let Some((name, value)) = placeholder {
                prompt.push_str(&value(task));
                rest = &rest[name.len()..];
            } else {
                prompt.push('{');
                rest = &rest[1..];
            }
        }
        prompt.push_str(rest);
        Some(prompt)
    }
}

/// Computes the value of a placeholder from the task.
type PlaceholderValue = fn(&Task) -> String;

/// The placeholders of SCUD's templates. A missing field becomes an empty text, as in SCUD.
const PLACEHOLDERS: &[(&str, PlaceholderValue)] = &[
    ("{task.id}", |task| task.id.clone()),
    ("{task.title}", |task| task.title.clone()),
    ("{task.description}", |task| {
        or_empty(task.description.as_ref())
    }),
    ("{task.details}", |task| or_empty(task.details.as_ref())),
    ("{task.test_strategy}", |task| {
        or_empty(task.test_strategy.as_ref())
    }),
    ("{task.complexity}", |task| task.complexity.to_string()),
    ("{task.priority}", |task| {
        capitalized(task.priority).to_owned()
    }),
    ("{task.dependencies}", |task| {
        let ids: Vec<_> = task
            .dependencies
            .iter()
            .map(|one| one.id.as_str())
            .collect();
        ids.join(", ")
    }),
    ("{tag}", |task| task.phase.clone()),
];

fn or_empty(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

/// SCUD's templates write the priorities with a capital letter.
fn capitalized(priority: Priority) -> &'static str {
    match priority {
        Priority::Critical => "Critical",
        Priority::High => "High",
        Priority::Medium => "Medium",
        Priority::Low => "Low",
    }
}

#[cfg(test)]
mod tests;

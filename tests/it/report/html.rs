//! Reads a page of a report. Strict: the page must be well formed, may use only known elements and attributes, and must not
//! be able to load or execute anything.

use std::fs;
use std::path::Path;

/// Elements without an end tag.
const VOID_ELEMENTS: [&str; 2] = ["meta", "br"];
/// The elements that a page may have.
const ALLOWED_ELEMENTS: [&str; 57] = [
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "footer",
    "h1",
    "h2",
    "h4",
    "h5",
    "p",
    "a",
    "b",
    "bdi",
    "br",
    "code",
    "pre",
    "small",
    "span",
    "time",
    "div",
    "dl",
    "dt",
    "dd",
    "ul",
    "ol",
    "li",
    "table",
    "tbody",
    "tr",
    "td",
    "details",
    "summary",
    "section",
    "figure",
    "figcaption",
    "svg",
    "g",
    "rect",
    "line",
    "path",
    "polyline",
    "text",
    "article",
    "em",
    "strong",
    "i",
    "h3",
    "h6",
    "th",
    "thead",
    "hr",
    "nav",
    "aside",
];
/// The attributes that an element may have.
const ALLOWED_ATTRIBUTES: [&str; 36] = [
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "id",
    "href",
    "title",
    "datetime",
    "open",
    "colspan",
    "role",
    "tabindex",
    "aria-label",
    "aria-hidden",
    "width",
    "height",
    "viewbox",
    "x",
    "y",
    "x1",
    "x2",
    "y1",
    "y2",
    "rx",
    "d",
    "points",
    "preserveaspectratio",
    "vector-effect",
    "dir",
    "cx",
    "cy",
    "r",
    "scope",
    "start",
];

/// A page that has passed all checks.
pub struct Page {
    pub html: String,
    /// The text of the body, without entities.
    pub text: String,
    /// All elements in the order of their start tags.
    pub elements: Vec<Element>,
}

/// An element of the page.
#[derive(Debug, Clone, Default)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub text: String,
    /// The indexes in [`Page::elements`] of the elements around this one, the outermost first.
    pub parents: Vec<usize>,
}

impl Element {
    /// The value of an attribute; empty if there is none.
    pub fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn has_class(&self, class: &str) -> bool {
        self.attribute("class")
            .split(' ')
            .any(|found| found == class)
    }
}

impl Page {
    /// Reads a page, and asserts that it cannot load or execute anything.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let html = fs::read_to_string(path).expect("a report in UTF-8");
        let page = Self::parse(html);
        page.assert_harmless();
        page
    }

    /// Parses a page; fails if it is not well-formed.
    #[track_caller]
    fn parse(html: String) -> Self {
        let mut elements: Vec<Element> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
        let mut rest = rest.to_owned();
        while !rest.is_empty() {
            let Some(begin) = rest.find('<') else {
                assert!(rest.trim().is_empty(), "text after the end: {rest:?}");
                break;
            };
            let text = replace_entities(&rest[..begin]);
            for at in &open {
                elements[*at].text.push_str(&text);
            }
            let end = begin + rest[begin..].find('>').expect("the end of a tag");
            let tag = rest[begin + 1..end].to_owned();
            rest = rest[end + 1..].to_owned();
            if let Some(name) = tag.strip_prefix('/') {
                let at = open.pop().expect("an open element");
                assert_eq!(
                    elements[at].name, name,
                    "an element is closed inside another one"
                );
                continue;
            }
            let element = read_tag(&tag, &open);
            let name = element.name.clone();
            elements.push(element);
            if !VOID_ELEMENTS.contains(&name.as_str()) {
                open.push(elements.len() - 1);
            }
            if name == "style" {
                let end = rest.find("</style>").expect("the end of the style sheet");
                rest = rest[end..].to_owned();
            }
        }
        assert!(open.is_empty(), "elements are not closed");
        let body = elements
            .iter()
            .find(|element| element.name == "body")
            .expect("a body");
        Self {
            text: body.text.clone(),
            html,
            elements,
        }
    }

    /// Asserts that nothing on the page can load or execute something.
    #[track_caller]
    fn assert_harmless(&self) {
        for element in &self.elements {
            assert!(
                ALLOWED_ELEMENTS.contains(&element.name.as_str()),
                "{element:?}"
            );
            let mut seen = Vec::new();
            for (name, value) in &element.attributes {
                assert!(
                    ALLOWED_ATTRIBUTES.contains(&name.to_lowercase().as_str()),
                    "{name} of {element:?}"
                );
                assert!(!seen.contains(&name), "{name} twice: {element:?}");
                seen.push(name);
                if name == "href" {
                    let id = value.strip_prefix('#').expect("a link within the page");
                    assert!(
                        self.elements
                            .iter()
                            .any(|target| target.attribute("id") == id),
                        "{value}"
                    );
                }
            }
        }
        let policy = self.only("meta", |meta| {
            meta.attribute("http-equiv") == "Content-Security-Policy"
        });
        let policy = policy.attribute("content");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        let style = self.html.split_once("<style>").expect("a style").1;
        let style = style.split_once("</style>").expect("its end").0;
        assert!(
            !style.contains("url(") && !style.contains("@import"),
            "{style}"
        );
        let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!self.html.contains(is_control), "control characters");
        let reordering = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(
            !self.html.contains(reordering),
            "characters that reorder text"
        );
    }

    /// The only element with this name for which the function returns true.
    #[track_caller]
    pub fn only<'a>(&'a self, name: &'a str, is_wanted: impl Fn(&Element) -> bool) -> &'a Element {
        let found: Vec<&Element> = self
            .all(name)
            .filter(|element| is_wanted(element))
            .collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }

    /// All elements with this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements
            .iter()
            .filter(move |element| element.name == name)
    }

    /// The section of the task whose heading contains this text.
    #[track_caller]
    pub fn task(&self, heading: &str) -> &Element {
        let summaries = self
            .all("summary")
            .filter(|summary| summary.text.contains(heading));
        let sections = summaries.filter_map(|summary| {
            let section = &self.elements[*summary.parents.last()?];
            section.has_class("task").then_some(section)
        });
        let sections: Vec<&Element> = sections.collect();
        assert_eq!(
            sections.len(),
            1,
            "the section of {heading:?}: {}",
            self.text
        );
        sections[0]
    }

    /// The large number at the top with this label.
    #[track_caller]
    pub fn number(&self, label: &str) -> String {
        let number_box = self.all("div").find(|div| {
            let around = div.parents.last().map(|at| &self.elements[*at]);
            around.is_some_and(|around| around.has_class("numbers")) && div.text.starts_with(label)
        });
        number_box.expect("a number").text[label.len()..]
            .trim()
            .to_owned()
    }
}

/// Parses a start tag without its brackets. `open` are the indexes of the elements around it.
#[track_caller]
fn read_tag(tag: &str, open: &[usize]) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let mut element = Element {
        name: name.to_owned(),
        parents: open.to_vec(),
        ..Element::default()
    };
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(quoted) = rest.strip_prefix("=\"") {
            let (found, after) = quoted.split_once('"').expect("the end of a value");
            value = replace_entities(found);
            rest = after;
        }
        element.attributes.push((name, value));
    }
    element
}

/// Replaces the entities in a text.
fn replace_entities(text: &str) -> String {
    let known = ["&lt;", "&gt;", "&quot;"];
    let plain = text.replace("&amp;", "");
    let plain = known
        .iter()
        .fold(plain, |plain, entity| plain.replace(entity, ""));
    assert!(!plain.contains('&'), "an unknown entity in {text:?}");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! XML of a stranger as a small tree of local names. What is larger than any honest answer is refused.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion, escape};

const MOST_ELEMENTS: usize = 50_000;
const MOST_DEEP: usize = 64;
const MOST_ATTRIBUTES: usize = 64;

#[derive(Debug, Default)]
pub struct Node {
    /// Without prefix.
    pub name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Node>,
}

impl Node {
    /// The document's root element.
    ///
    /// # Errors
    /// Not well-formed, a document type (nothing here needs one), or too large.
    pub fn parse(text: &str) -> Result<Node> {
        let mut reader = Reader::from_str(text);
        // The bottom stands for the document.
        let mut open = vec![Node::default()];
        let mut elements = 0;
        loop {
            match reader.read_event()? {
                Event::Start(start) => {
                    open.push(Node::begin(&start)?);
                    elements += 1;
                    ensure!(open.len() <= MOST_DEEP && elements <= MOST_ELEMENTS, "it is too large");
                }
                Event::Empty(start) => {
                    elements += 1;
                    ensure!(elements <= MOST_ELEMENTS, "it is too large");
                    let node = Node::begin(&start)?;
                    top(&mut open)?.children.push(node);
                }
                Event::End(_) => {
                    let node = open.pop().context("an element ends that did not begin")?;
                    top(&mut open)?.children.push(node);
                }
                Event::Text(text) => top(&mut open)?.text.push_str(&text.xml10_content()),
                Event::CData(text) => top(&mut open)?.text.push_str(&text.xml10_content()),
                Event::GeneralRef(name) => {
                    let character = name.resolve_char_ref()?.map(|character| Cow::Owned(character.into()));
                    let known = || escape::resolve_predefined_entity(&name).map(Cow::Borrowed);
                    let text: Cow<str> = character.or_else(known).context("it names an unknown entity")?;
                    top(&mut open)?.text.push_str(&text);
                }
                Event::DocType(_) => bail!("it has a document type"),
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
        ensure!(open.len() == 1, "it ends too early");
        open.pop().and_then(|document| document.children.into_iter().next()).context("it is empty")
    }

    fn begin(start: &BytesStart) -> Result<Node> {
        let mut node = Node { name: start.local_name().as_ref().to_string(), ..Node::default() };
        // Comparing each with all others would take a stranger's time and ours.
        for attribute in start.attributes().with_checks(false).take(MOST_ATTRIBUTES) {
            let attribute = attribute?;
            let value = attribute.normalized_value(XmlVersion::Explicit1_0)?.into_owned();
            node.attributes.push((attribute.key.local_name().as_ref().to_string(), value));
        }
        Ok(node)
    }

    pub fn children(&self) -> impl Iterator<Item = &Node> {
        self.children.iter()
    }

    /// The first element of this name below, at any depth, in the document's order.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.children.iter().find_map(|child| if child.name == name { Some(child) } else { child.find(name) })
    }

    /// All of this name below that are not within another one of it.
    pub fn all<'a>(&'a self, name: &str) -> Vec<&'a Node> {
        let below = |child: &'a Node| if child.name == name { vec![child] } else { child.all(name) };
        self.children.iter().flat_map(below).collect()
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What stands in it directly, without the space around.
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// What stands in the first element of this name below; `None` if that is nothing.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.find(name).map(Node::text).filter(|text| !text.is_empty())
    }
}

fn top(open: &mut [Node]) -> Result<&mut Node> {
    open.last_mut().context("an element ends that did not begin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_without_prefixes_and_texts_without_escapes() {
        let text = "<?xml version=\"1.0\"?>\n<!-- a --><s:A xmlns:s=\"urn:x\"><t:B token=\"a&amp;b\"> 1 &lt; &#x32;\
                    <![CDATA[&]]> </t:B><B/><C><B>in</B></C></s:A>";
        let root = Node::parse(text).unwrap();
        assert_eq!(root.name, "A");
        let all = root.all("B");
        assert_eq!(all.iter().map(|node| node.text()).collect::<Vec<_>>(), ["1 < 2&", "", "in"]);
        assert_eq!(all[0].attribute("token"), Some("a&b"));
        assert_eq!(root.find("C").and_then(|c| c.text_of("B")), Some("in"));
        assert!(root.find("D").is_none() && root.text_of("C").is_none());
    }

    #[test]
    fn what_is_no_xml_or_too_much_of_it_is_refused() {
        let bombs = format!("<a>{}</a>", "<b/>".repeat(MOST_ELEMENTS));
        let deep = "<a>".repeat(MOST_DEEP + 1);
        let entity = "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>";
        for text in ["", "no", "<a>", "<a></b>", "</a>", "<a>&b;</a>", "<a b=c/>", entity, &bombs, &deep] {
            assert!(Node::parse(text).is_err(), "{:.40}", text);
        }
    }
}

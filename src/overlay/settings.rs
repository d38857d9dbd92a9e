// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user set, and what it means.

use super::colour::Rgb;
use super::{Mode, Position};
use anyhow::{Context, Result};
use std::collections::HashMap;

#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// 0..1; negative: what suits the mode.
    pub opacity: f64,
    pub strength: f64,
    pub invert: bool,
    pub only: Only,
    pub colors: Colors,
    pub labels: bool,
    pub legend: bool,
    pub legend_position: Position,
    pub composition: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Tint,
            opacity: -1.0,
            strength: 0.5,
            invert: false,
            only: Only::default(),
            colors: Colors::default(),
            labels: false,
            legend: true,
            legend_position: Position::TopLeft,
            composition: false,
        }
    }
}

impl Settings {
    /// Opacity with the automatic value resolved.
    pub fn opacity(&self) -> f64 {
        match (self.opacity < 0.0, self.mode) {
            (false, _) => self.opacity,
            (true, Mode::Tint) => 0.5,
            (true, _) => 1.0,
        }
    }
}

impl Mode {
    /// Whether the drawing is colours alone, so that it can lie beside the frame instead of in it.
    pub fn is_paint(self) -> bool {
        matches!(self, Mode::Tint | Mode::Contour | Mode::Fill)
    }
}

/// The labels to draw; empty means all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Only {
    text: String,
    labels: Vec<String>,
}

impl Only {
    pub fn parse(text: &str) -> Self {
        let labels = text.split([',', ';']).map(fold).filter(|label| !label.is_empty()).collect();
        Self { text: text.to_owned(), labels }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn contains(&self, label: &str) -> bool {
        self.labels.is_empty() || self.labels.contains(&fold(label))
    }
}

/// Colours by label; `*` is every label without its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Colors {
    text: String,
    by_label: HashMap<String, Rgb>,
}

impl Colors {
    /// `label=#rrggbb,label2=#rrggbb`
    pub fn parse(text: &str) -> Result<Self> {
        let mut by_label = HashMap::new();
        for entry in text.split([',', ';']).filter(|entry| !entry.trim().is_empty()) {
            let (label, colour) = entry
                .rsplit_once('=')
                .with_context(|| format!("colors: `{}` is not label=#rrggbb", entry.trim()))?;
            let colour = Rgb::parse(colour).with_context(|| {
                format!("colors: `{}` for `{}` is not a colour like #ff8800", colour.trim(), label.trim())
            })?;
            by_label.insert(fold(label), colour);
        }
        Ok(Self { text: text.to_owned(), by_label })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn get(&self, label: &str) -> Option<Rgb> {
        self.by_label.get(&fold(label)).or_else(|| self.by_label.get("*")).copied()
    }
}

/// Labels compare without case and outer blanks.
fn fold(label: &str) -> String {
    label.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compares_labels_without_case_and_blanks() {
        let only = Only::parse("Person , traffic light");
        assert!(only.contains("person") && only.contains("Traffic Light") && !only.contains("traffic"));
        assert!(Only::parse(" , ").contains("anything"));
    }

    #[test]
    fn colors_by_label_with_a_rest() {
        let colors = Colors::parse("Sky=#00f, a=b=#102030,").unwrap();
        assert_eq!(colors.get("sky"), Some(Rgb([0, 0, 255])));
        assert_eq!(colors.get("a=b"), Some(Rgb([16, 32, 48])));
        assert_eq!(colors.get("car"), None);
        assert_eq!(Colors::parse("*=#000").unwrap().get("car"), Some(Rgb::BLACK));
    }

    #[test]
    fn a_wrong_colour_is_named() {
        let sentence = Colors::parse("sky=blue").unwrap_err().to_string();
        assert!(sentence.contains("`blue`") && sentence.contains("`sky`"), "{sentence}");
        assert!(Colors::parse("sky").unwrap_err().to_string().contains("`sky`"));
    }

    #[test]
    fn opacity_suits_the_mode_unless_set() {
        let mut settings = Settings::default();
        assert_eq!(settings.opacity(), 0.5);
        settings.mode = Mode::Fill;
        assert_eq!(settings.opacity(), 1.0);
        settings.opacity = 0.0;
        assert_eq!(settings.opacity(), 0.0);
    }
}

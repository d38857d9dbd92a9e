// SPDX-License-Identifier: MIT OR Apache-2.0
//! A choice of labels, as a user types it.

/// Labels separated by commas or semicolons; empty means all. Labels compare without case and outer blanks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelFilter {
    text: String,
    labels: Vec<String>,
}

impl LabelFilter {
    pub fn parse(text: &str) -> Self {
        let labels = text.split([',', ';']).map(fold).filter(|label| !label.is_empty()).collect();
        LabelFilter { text: text.to_owned(), labels }
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn contains(&self, label: &str) -> bool {
        self.labels.is_empty() || self.labels.contains(&fold(label))
    }
}

fn fold(label: &str) -> String {
    label.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::LabelFilter;

    #[test]
    fn labels_compare_without_case_and_blanks() {
        let filter = LabelFilter::parse("Person , traffic light;");
        assert!(
            filter.contains("person") && filter.contains(" Traffic Light") && !filter.contains("traffic")
        );
        assert!(LabelFilter::parse(" , ").contains("anything"));
    }
}

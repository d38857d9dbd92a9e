// SPDX-License-Identifier: MIT OR Apache-2.0
//! How label values, lines of the prompts file and mask values belong together.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gstgclip::model::Prompts;

use super::confusion::NONE;
use super::labels::{LabelRules, read_colours};

#[derive(clap::Args)]
pub struct TruthArgs {
    /// Label values that do not count, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "255", value_name = "VALUE,...")]
    ignore: Vec<u16>,
    /// Label value 0 does not count, and value k + 1 is line k (ADE20K, VOC20, Context59).
    #[arg(long)]
    reduce_zero_label: bool,
    /// Line of the prompts file (from 0) that is the background: its names compete, and pixels that no class wins
    /// count for it (0 for VOC21, Context60 and COCO-Object).
    #[arg(long, value_name = "LINE")]
    background_label: Option<usize>,
    /// Colours of the labels, `R G B` a line in the order of the prompts file (CamVid's label_colors.txt).
    #[arg(long, value_name = "FILE")]
    label_colors: Option<PathBuf>,
}

#[derive(Clone)]
pub struct Truth {
    pub rules: LabelRules,
    pub prompts: Prompts,
    /// Label of every class, in the order of the prompts file.
    pub labels: Vec<String>,
    /// Mask value -> class, or [`NONE`].
    class_of_value: Vec<u16>,
}

impl Truth {
    /// Of a prompts file with one class a line.
    ///
    /// # Errors
    /// It cannot be read, or its lines are not the classes of label values.
    pub fn new(path: &Path, args: &TruthArgs, background: &str) -> Result<Truth> {
        let file = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the prompts file {file}"))?;
        check_lines(&text).with_context(|| format!("cannot use the prompts file {file}"))?;
        let prompts = Prompts::parse_file_text(&text, background)
            .with_context(|| format!("cannot use the prompts file {file}"))?;
        let colours = args.label_colors.as_deref().map(read_colours).transpose()?;
        Truth::from_parts(args, prompts, colours)
    }

    fn from_parts(
        args: &TruthArgs,
        mut prompts: Prompts,
        colours: Option<std::collections::HashMap<[u8; 3], u16>>,
    ) -> Result<Truth> {
        let labels: Vec<String> = prompts.classes.iter().map(|class| class.label.clone()).collect();
        let rules = LabelRules {
            ignore: args.ignore.clone(),
            reduce_zero: args.reduce_zero_label,
            colours,
            classes: labels.len(),
        };
        let mut class_of_value = vec![NONE];
        class_of_value.extend(0..u16::try_from(labels.len())?);
        if let Some(line) = args.background_label {
            if line >= labels.len() || labels.len() < 2 {
                bail!("--background-label {line} does not fit a prompts file of {} classes", labels.len());
            }
            prompts.background.extend(prompts.classes.remove(line).names);
            // The later classes move up by one mask value, and 0 means this class.
            class_of_value[0] = class_of_value.remove(line + 1);
        }
        Ok(Truth { rules, prompts, labels, class_of_value })
    }

    /// The same truth for masks whose value n is `labels[n - 1]`; what the prompts file does not name is no class.
    pub fn with_labels(&self, labels: &[String]) -> Truth {
        let class = |label: &String| self.labels.iter().position(|known| known == label);
        let values = labels.iter().map(|label| class(label).map_or(NONE, |class| class as u16));
        let class_of_value = self.class_of_value.first().copied().into_iter().chain(values).collect();
        Truth { class_of_value, ..self.clone() }
    }

    /// The class of every pixel of a mask, brought from one size to another (width, height) by the nearest mask
    /// pixel: a label picture may have another size than its picture.
    pub fn classes(&self, mask: &[u16], from: (usize, usize), to: (usize, usize)) -> Result<Vec<u16>> {
        let classes = mask
            .iter()
            .map(|value| self.class_of_value.get(usize::from(*value)).copied())
            .collect::<Option<Vec<u16>>>()
            .context("the mask holds a value that no class has")?;
        Ok(self.nearest(from, to).map(|place| classes.get(place).copied().unwrap_or(NONE)).collect())
    }

    /// Nearest neighbour between pixel centres: for each pixel of a picture of size `to` (width, height) the place of the nearest one in a picture of size `from`.
    pub fn nearest(&self, from: (usize, usize), to: (usize, usize)) -> impl Iterator<Item = usize> + use<> {
        let source = |position: usize, from: usize, to: usize| (2 * position + 1) * from / (2 * to);
        (0..to.1).flat_map(move |y| {
            let row = source(y, from.1, to.1) * from.0;
            (0..to.0).map(move |x| row + source(x, from.0, to.0))
        })
    }
}

/// A line is a class here: one of several classes would move the labels of all lines after it.
fn check_lines(text: &str) -> Result<()> {
    if let Some(line) = Prompts::first_shared_line(text) {
        bail!(
            "its line {line} holds a `;`, which would begin another class, but each line is the class of one label \
             value: separate synonyms by commas (write \\; for a semicolon that belongs to a name)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(background_label: Option<usize>) -> Result<Truth> {
        let args =
            TruthArgs { ignore: vec![255], reduce_zero_label: false, background_label, label_colors: None };
        Truth::from_parts(&args, Prompts::parse("a; b, c; d", "e").unwrap(), None)
    }

    #[test]
    fn mask_values_are_lines_plus_one() {
        let truth = truth(None).unwrap();
        assert_eq!(truth.classes(&[0, 1, 2, 3], (4, 1), (4, 1)).unwrap(), [NONE, 0, 1, 2]);
        assert!(truth.classes(&[4], (1, 1), (1, 1)).is_err());
    }

    #[test]
    fn masks_of_other_vocabularies_are_read_by_their_labels() {
        let truth = truth(Some(1)).unwrap().with_labels(&["d".into(), "cup".into(), "a".into()]);
        assert_eq!(truth.classes(&[0, 1, 2, 3], (4, 1), (4, 1)).unwrap(), [1, 2, NONE, 0]);
    }

    #[test]
    fn a_background_line_competes_and_takes_the_rest() {
        let truth = truth(Some(1)).unwrap();
        assert_eq!(truth.labels, ["a", "b", "d"]);
        assert_eq!(truth.prompts.background, ["e", "b", "c"]);
        assert_eq!(truth.classes(&[0, 1, 2], (3, 1), (3, 1)).unwrap(), [1, 0, 2]);
    }

    #[test]
    fn a_line_of_several_classes_is_told() {
        let error = check_lines("# c\nbackground\nperson; man, boy\ncar\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("commas"), "{error}");
        assert!(check_lines("person; car").is_err(), "the only line too");
        for fine in ["a;\nb, c;\n", "a\\;b\nc # d; e\n", "a\n\n"] {
            check_lines(fine).unwrap();
        }
    }

    #[test]
    fn a_background_line_that_is_not_there() {
        assert!(truth(Some(3)).err().unwrap().to_string().contains("--background-label 3"));
    }

    #[test]
    fn masks_are_compared_at_the_label_s_size() {
        let truth = truth(None).unwrap();
        let doubled = truth.classes(&[1, 2], (2, 1), (4, 2)).unwrap();
        assert_eq!(doubled, [0, 0, 1, 1, 0, 0, 1, 1]);
        let halved = truth.classes(&[1, 1, 2, 3, 1, 1, 2, 3], (4, 2), (2, 1)).unwrap();
        assert_eq!(halved, [0, 2]);
    }
}

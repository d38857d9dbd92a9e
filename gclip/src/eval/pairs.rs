// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which label picture belongs to which picture, by the naming habits of VOC, ADE20K, Cityscapes and CamVid.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const PICTURES: [&str; 3] = ["jpg", "jpeg", "png"];
/// How a picture's name may end, and how its label's name may end instead; the first that exists is taken.
const ENDINGS: [(&str, &str); 5] = [
    ("", ""),                                  // VOC, ADE20K, CamVid (SegNet's copy)
    ("_leftImg8bit", "_gtFine_labelTrainIds"), // Cityscapes, 19 classes
    ("_leftImg8bit", "_gtFine_labelIds"),      // Cityscapes, 34 classes
    ("", "_L"),                                // CamVid, in colours
    ("", "_labelTrainIds"),
];

pub struct Pair {
    pub picture: PathBuf,
    pub labels: PathBuf,
}

/// Pairs in the order of their names, and the number of pictures that have no label.
pub struct Pairs {
    pub pairs: Vec<Pair>,
    pub unlabelled: usize,
}

/// Pairs every picture under `pictures` with a label picture under `labels`: in the same sub-folder, or anywhere when
/// only one has the name. With `only`, the stems of a split's list file, other pictures are left out.
pub fn find(pictures: &Path, labels: &Path, only: Option<&BTreeSet<String>>) -> Result<Pairs> {
    let label_files = files_below(labels, &["png"])?;
    let by_path: BTreeSet<&Path> = label_files.iter().map(PathBuf::as_path).collect();
    let mut by_stem: HashMap<&str, Vec<&Path>> = HashMap::new();
    for file in &label_files {
        by_stem.entry(stem(file)).or_default().push(file);
    }
    let mut found = Pairs { pairs: Vec::new(), unlabelled: 0 };
    let mut listed = BTreeSet::new();
    for file in files_below(pictures, &PICTURES)? {
        let name = stem(&file).to_string();
        if only.is_some_and(|only| !only.contains(&name)) || is_label_name(&name) {
            continue;
        }
        let parent = file.parent().unwrap_or(Path::new(""));
        let labels_of = label_names(&name).find_map(|label| {
            let beside = parent.join(format!("{label}.png"));
            let same_file = pictures == labels && beside == file;
            let beside = by_path.get(beside.as_path()).filter(|_| !same_file);
            let anywhere = by_stem.get(label.as_str()).filter(|files| files.len() == 1 && !same_file);
            beside.or(anywhere.map(|files| &files[0])).map(|path| labels.join(path))
        });
        match labels_of {
            Some(labels) => found.pairs.push(Pair { picture: pictures.join(&file), labels }),
            None => found.unlabelled += 1,
        }
        listed.insert(name);
    }
    if let Some(missing) = only.and_then(|only| only.difference(&listed).next()) {
        bail!("the list names {missing}, which is no picture in {}", pictures.display());
    }
    if found.pairs.is_empty() {
        bail!(
            "none of the {} pictures in {} has a label picture in {}",
            found.unlabelled,
            pictures.display(),
            labels.display()
        );
    }
    Ok(found)
}

/// Reads a split's list: one stem a line, as in VOC's `ImageSets`; a folder or an ending is left off.
pub fn read_list(path: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let first = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(first.map(|name| stem(Path::new(name)).to_string()).collect())
}

/// Files with one of the endings, relative to `folder`, sorted; sub-folders too. Names that begin with a dot are left out:
/// what macOS and others keep beside pictures (`._a.jpg`, `.thumbnails`, `.ipynb_checkpoints`).
pub fn files_below(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let path = folder.join(&inner);
        let entries =
            std::fs::read_dir(&path).with_context(|| format!("cannot read the folder {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read the folder {}", path.display()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let name = inner.join(entry.file_name());
            // A link to a folder is followed by metadata(); one that leads nowhere is no picture.
            let Ok(kind) = std::fs::metadata(entry.path()) else { continue };
            let ending = name.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
            if kind.is_dir() && !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                folders.push(name);
            } else if kind.is_file() && ending.is_some_and(|ending| endings.contains(&ending.as_str())) {
                files.push(name);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn label_names(picture: &str) -> impl Iterator<Item = String> {
    ENDINGS.iter().filter_map(move |(from, to)| picture.strip_suffix(from).map(|base| format!("{base}{to}")))
}

/// Labels that lie among the pictures are not pictures.
fn is_label_name(stem: &str) -> bool {
    ["_L", "_gtFine_labelTrainIds", "_gtFine_labelIds", "_gtFine_color", "_gtFine_instanceIds"]
        .iter()
        .any(|ending| stem.ends_with(ending))
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        folder
    }

    /// Pairs as `picture labels`, relative to the folder.
    fn pairs(folder: &tempfile::TempDir, pictures: &str, labels: &str) -> Vec<String> {
        let root = folder.path();
        let found = find(&root.join(pictures), &root.join(labels), None).unwrap();
        let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        found.pairs.iter().map(|pair| format!("{} {}", name(&pair.picture), name(&pair.labels))).collect()
    }

    #[test]
    fn voc_has_more_pictures_than_labels() {
        let folder =
            folder(&["JPEGImages/2007_1.jpg", "JPEGImages/2007_2.jpg", "SegmentationClass/2007_2.png"]);
        let expected = ["JPEGImages/2007_2.jpg SegmentationClass/2007_2.png"];
        assert_eq!(pairs(&folder, "JPEGImages", "SegmentationClass"), expected);
        let root = folder.path();
        assert_eq!(
            find(&root.join("JPEGImages"), &root.join("SegmentationClass"), None).unwrap().unlabelled,
            1
        );
    }

    #[test]
    fn ade20k_has_equal_names() {
        let folder = folder(&["images/ADE_val_1.jpg", "annotations/ADE_val_1.png"]);
        assert_eq!(
            pairs(&folder, "images", "annotations"),
            ["images/ADE_val_1.jpg annotations/ADE_val_1.png"]
        );
    }

    #[test]
    fn cityscapes_has_cities_and_endings() {
        let folder = folder(&[
            "leftImg8bit/ulm/ulm_0_leftImg8bit.png",
            "leftImg8bit/bonn/bonn_0_leftImg8bit.png",
            "gtFine/ulm/ulm_0_gtFine_labelIds.png",
            "gtFine/ulm/ulm_0_gtFine_labelTrainIds.png",
            "gtFine/ulm/ulm_0_gtFine_color.png",
            "gtFine/bonn/bonn_0_gtFine_labelIds.png",
        ]);
        let expected = [
            "leftImg8bit/bonn/bonn_0_leftImg8bit.png gtFine/bonn/bonn_0_gtFine_labelIds.png",
            "leftImg8bit/ulm/ulm_0_leftImg8bit.png gtFine/ulm/ulm_0_gtFine_labelTrainIds.png",
        ];
        assert_eq!(pairs(&folder, "leftImg8bit", "gtFine"), expected);
    }

    #[test]
    fn camvid_has_an_ending_or_equal_names() {
        let apart = folder(&["raw/0001.png", "labels/0001_L.png"]);
        assert_eq!(pairs(&apart, "raw", "labels"), ["raw/0001.png labels/0001_L.png"]);
        let equal = folder(&["test/0001.png", "testannot/0001.png"]);
        assert_eq!(pairs(&equal, "test", "testannot"), ["test/0001.png testannot/0001.png"]);
        let mixed = folder(&["all/0001.png", "all/0001_L.png"]);
        assert_eq!(pairs(&mixed, "all", "all"), ["all/0001.png all/0001_L.png"]);
    }

    #[test]
    fn a_list_chooses_and_a_wrong_one_is_told() {
        let folder = folder(&["a/1.jpg", "a/2.jpg", "b/1.png", "b/2.png", "list.txt"]);
        let root = folder.path();
        let list = root.join("list.txt");
        std::fs::write(&list, "2\n\n").unwrap();
        let only = read_list(&list).unwrap();
        let found = find(&root.join("a"), &root.join("b"), Some(&only)).unwrap();
        assert_eq!(found.pairs.len(), 1);
        std::fs::write(&list, "3\n").unwrap();
        let only = read_list(&list).unwrap();
        let error = find(&root.join("a"), &root.join("b"), Some(&only)).err().unwrap();
        assert!(error.to_string().contains("names 3"), "{error}");
    }

    #[test]
    fn no_pair_at_all_is_told() {
        let folder = folder(&["a/1.jpg", "b/other.png"]);
        let error = find(&folder.path().join("a"), &folder.path().join("b"), None).err().unwrap();
        assert!(error.to_string().contains("none of the 1 pictures"), "{error}");
    }
}

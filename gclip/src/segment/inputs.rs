// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pictures to read, and under which names their results go.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::eval::files_below;

/// One picture.
pub struct Input {
    pub path: PathBuf,
    /// Its name for results, without ending: relative to the folder it was found in.
    name: PathBuf,
}

impl Input {
    /// Its file, relative to the folder it was found in.
    pub fn file_name(&self) -> String {
        let ending = self.path.extension().unwrap_or_default();
        self.name.with_added_extension(ending).display().to_string()
    }
}

/// All pictures, and whether there may be several: more than one path, or a folder.
pub fn collect(paths: &[PathBuf]) -> Result<(Vec<Input>, bool)> {
    let mut inputs = Vec::new();
    let mut many = paths.len() > 1;
    for path in paths {
        let kind =
            fs::metadata(path).with_context(|| format!("cannot read the picture {}", path.display()))?;
        if kind.is_dir() {
            many = true;
            let files = files_below(path, &["png", "jpg", "jpeg"])?;
            if files.is_empty() {
                bail!("the folder {} holds no PNG or JPEG picture", path.display());
            }
            inputs.extend(
                files.into_iter().map(|file| Input { path: path.join(&file), name: file.with_extension("") }),
            );
        } else {
            let name = path.file_stem().with_context(|| format!("{} is no picture", path.display()))?.into();
            inputs.push(Input { path: path.clone(), name });
        }
    }
    Ok((inputs, many))
}

/// A result that cannot be written is told before the work, not after it.
pub fn check_folder_of(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => {
            bail!("cannot write {}: the folder {} does not exist", path.display(), parent.display())
        }
        _ => Ok(()),
    }
}

/// Where one kind of result goes: a file, or a folder with a file for each picture.
pub struct Target {
    path: PathBuf,
    folder: bool,
    taken: parking_lot::Mutex<HashSet<PathBuf>>,
}

impl Target {
    /// A folder when there are several pictures, when it is one already, or when it is written with a `/` at its end.
    pub fn new(path: &Path, many: bool) -> Result<Target> {
        let folder = many || path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if many && path.is_file() {
            bail!("{} is a file; several pictures need a folder", path.display());
        }
        if folder {
            fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        } else {
            check_folder_of(path)?;
        }
        Ok(Target { path: path.into(), folder, taken: Default::default() })
    }

    /// The file for this picture's result.
    pub fn file(&self, input: &Input, ending: &str) -> Result<PathBuf> {
        if !self.folder {
            return Ok(self.path.clone());
        }
        let mut name = input.name.clone().into_os_string();
        name.push(".");
        name.push(ending);
        let file = self.path.join(name);
        if !self.taken.lock().insert(file.clone()) {
            bail!("{} would overwrite the result of another picture of that name", file.display());
        }
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder {}", parent.display()))?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_keep_their_inner_structure() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = ["in/._a.jpg", "in/.thumbnails/a.png", "in/sub/.ipynb_checkpoints/b-checkpoint.png"];
        for file in ["in/a.jpg", "in/sub/b.PNG", "in/notes.txt"].into_iter().chain(hidden) {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let (inputs, many) = collect(&[folder.path().join("in")]).unwrap();
        assert!(many);
        assert_eq!(
            collect(&[folder.path().join("in/._a.jpg")]).unwrap().0.len(),
            1,
            "given by name they are read"
        );
        let target = Target::new(&folder.path().join("out"), many).unwrap();
        let files: Vec<PathBuf> = inputs.iter().map(|input| target.file(input, "png").unwrap()).collect();
        assert_eq!(files, [folder.path().join("out/a.png"), folder.path().join("out/sub/b.png")]);
        assert!(folder.path().join("out/sub").is_dir());
    }

    #[test]
    fn two_pictures_of_one_name_do_not_overwrite_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.png", "a.jpg"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| fs::write(path, b"").unwrap());
        let (inputs, many) = collect(&paths).unwrap();
        let target = Target::new(&folder.path().join("out"), many).unwrap();
        target.file(&inputs[0], "png").unwrap();
        assert!(target.file(&inputs[1], "png").is_err());
    }

    #[test]
    fn one_picture_goes_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"").unwrap();
        let (inputs, many) = collect(&[folder.path().join("a.png")]).unwrap();
        let file = folder.path().join("any.name");
        assert_eq!(Target::new(&file, many).unwrap().file(&inputs[0], "png").unwrap(), file);
        assert!(Target::new(&folder.path().join("no/such/file.png"), many).is_err());
        assert!(Target::new(&folder.path().join("a.png"), true).is_err());
    }
}

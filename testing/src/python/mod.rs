// SPDX-License-Identifier: MIT OR Apache-2.0
//! Python with the packages that `scripts/setup.sh --tests` installs beside libtorch: what others read our output with.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Runs a script of this folder with something to read; its output. `None`, with a word, where the packages are missing.
pub fn run(script: &str, arguments: &[&str], input: &str) -> Option<String> {
    let Some(packages) = packages() else {
        eprintln!("skipped: no Python packages for the tests; scripts/setup.sh --tests installs them");
        return None;
    };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/python").join(script);
    let mut child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", arguments.join(" "), output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Where `scripts/setup.sh --tests` puts them: one folder for each version of Python.
pub fn packages() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("GCLIP_HOME").or_else(|| {
        let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
        Some(data?.join("gst-plugin-gclip"))
    })?;
    let version = Command::new("python3")
        .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let version = String::from_utf8(version.stdout).ok()?;
    let folder = home.join(format!("python{}-tests", version.trim()));
    folder.join("complete").exists().then_some(folder)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip try` on what `gclip video` and `gclip segment` have left: a player that draws the masks of the JSON lines.

use std::path::Path;
use std::process::Command;

use gclip_testing::DEMO;
use gclip_testing::browser::{Browser, DESKTOP};

use super::page::{complaints, picture_moves, shot};
use super::try_out::Try;

#[track_caller]
fn gclip(arguments: &[&str], folder: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .args(arguments)
        .args(["--model", DEMO, "--prompts", "road; sky; tree; car"])
        .env("XDG_CACHE_HOME", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn recorded_results_are_played_with_their_masks() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let video = format!("{DEMO}/demo.mp4");
    let set = ["--set", "input-size=112", "--set", "prompt-template=none", "--set", "device=cpu"];
    let of_video = ["video", &video, "--seconds", "1", "--out", &place(""), "--name", "street", "--player"];
    gclip(&[&of_video[..], &set].concat(), folder.path());
    let of_picture =
        ["segment", &place("street.png"), "--json", &place("one.jsonl"), "--rle", "--template", "none"];
    gclip(&of_picture, folder.path());

    let tried = Try::start(&folder.path().display().to_string());
    browser.open(&tried.url);
    browser.until("both are listed", "return document.querySelectorAll('#list button').length === 2");
    // The picture comes first, by its name.
    browser
        .until("something is found in it", "return document.querySelectorAll('#regions .found').length > 0");
    browser.find("#list li:last-child button").click();
    browser.until(
        "the video is there",
        "return document.querySelector('#time').textContent.includes('of 1.0 s')",
    );
    picture_moves(&browser);
    let road = "return document.querySelector('#regions [data-label=road]').classList.contains('found')";
    browser.until("the road is found in the video", road);
    // Without the masks the picture is another one: they are drawn by the page.
    browser.find("#play").click();
    browser.until("it stands still", "return document.querySelector('#play').textContent === 'Play'");
    let bare = "const canvas = document.querySelector('.stage canvas');\
                const before = canvas.toDataURL();\
                const opacity = document.querySelector('#opacity');\
                opacity.value = 0;\
                opacity.dispatchEvent(new Event('input'));\
                const changed = canvas.toDataURL() !== before;\
                opacity.value = 55;\
                opacity.dispatchEvent(new Event('input'));\
                return changed && canvas.toDataURL() === before";
    assert_eq!(browser.run(bare), true);
    shot(&browser, "player");
    assert_eq!(complaints(&browser), [""; 0]);
    tried.stop();
}

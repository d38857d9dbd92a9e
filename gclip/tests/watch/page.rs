// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page, in a real browser, on real cameras and the demo model. With `GCLIP_SCREENSHOTS=FOLDER` what is on the screen
//! at the places marked by `shot` is left there, to be looked at.

use std::path::Path;

use gclip_testing::DEMO;
use gclip_testing::browser::{Browser, DESKTOP, PHONE, Screen};
use gclip_testing::rtsp::{Server, free_port};

use super::harness::{Watch, camera};

/// The words of the street that the demo model knows best.
const WORDS: &str = "road, roadway; sky; tree; car, automobile";

/// Cameras of the demo street on the demo model, with a page.
fn street(port: u16, web: &str, cameras: &str) -> String {
    format!(
        "model = '{DEMO}'\n[web]\nlisten = '127.0.0.1:{port}'\n{web}\n\
         [segment]\ndevice = 'cpu'\nprompt-template = 'none'\ninput-size = '112'\n\
         [defaults]\nprompts = '{WORDS}'\nlatency = 50\nfps = 5\nretry-min = 0.1\nretry-max = 0.4\n{cameras}"
    )
}

fn url(port: u16) -> String {
    format!("http://localhost:{port}/")
}

fn shot(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("GCLIP_SCREENSHOTS") {
        browser.screenshot(&Path::new(&folder).join(format!("{name}.png")));
    }
}

/// The picture on the screen; another text when it is another picture.
const PICTURE: &str = "const canvas = document.querySelector('.camera:not([hidden]) canvas');\
                       return canvas && canvas.width > 300 && canvas.toDataURL()";

#[track_caller]
fn picture_moves(browser: &Browser) {
    let before = browser.until("there is a picture", PICTURE);
    let other = format!("{PICTURE} !== {before}");
    browser.until("the picture moves", &other);
}

/// Waits until the masks are of these classes.
#[track_caller]
fn until_regions(browser: &Browser, labels: &[&str]) {
    let script = format!(
        "const labels = [...document.querySelectorAll('#regions .found')].map((item) => item.dataset.label).sort();\
         return JSON.stringify(labels) === {:?}",
        serde_json::to_string(labels).unwrap()
    );
    browser.until(&format!("the masks are of {labels:?}"), &script);
}

#[test]
fn words_are_tried_while_looking_at_the_picture() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (640, 360), 10);
    let port = free_port();
    let file = street(port, "", &camera("gate", &server.url("gate"), "# as it is"));
    let mut watch = Watch::start(&file);
    watch.until_camera("gate", "connected");
    browser.open(&url(port));
    picture_moves(&browser);
    browser.until("it plays", "return document.querySelector('.camera').dataset.state === 'playing'");
    shot(&browser, "wall");

    browser.find(".camera").click();
    browser.until(
        "its words are shown",
        &format!("return document.querySelector('#prompts').value === {WORDS:?}"),
    );
    picture_moves(&browser);
    shot(&browser, "camera");
    browser.find("#prompts").fill("sky; road");
    browser.find("#apply").click();
    until_regions(&browser, &["road", "sky"]);
    browser.until("it is said", "return document.querySelector('#saved').textContent.includes('not saved')");

    // Words are text and nothing else, wherever they are shown.
    let script = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>";
    browser.find("#prompts").fill(script);
    browser.find("#apply").click();
    until_regions(&browser, &[script]);
    assert!(browser.find("#regions").text().contains(script));
    browser.until(
        "the event is told",
        "return document.querySelector('#events').textContent.includes('onerror')",
    );
    assert_eq!(browser.run("return document.title"), "gclip watch");
    assert_eq!(browser.run("return document.querySelectorAll('#main script, #main img[src=x]').length"), 0);

    // What is saved is there again.
    browser.find("#save").click();
    browser.until("it is saved", "return document.querySelector('#saved').textContent === ''");
    let saved = std::fs::read_to_string(watch.path("cameras.toml")).unwrap();
    assert!(saved.contains("onerror") && saved.contains("# as it is"), "{saved}");
    browser.reload();
    browser.find(".camera").click();
    browser.until("they are shown", "return document.querySelector('#prompts').value.includes('onerror')");
    browser.find("#prompts").fill("road");
    browser.find("#apply").click();
    until_regions(&browser, &["road"]);
    browser.find("#revert").click();
    until_regions(&browser, &[script]);
    assert_eq!(browser.log(), [""; 0], "nothing was forbidden or failed");
    watch.stop();
}

#[test]
fn a_wrong_token_is_refused() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (640, 360), 10);
    let port = free_port();
    let token = "token = 'correct horse battery staple'";
    let mut watch = Watch::start(&street(port, token, &camera("gate", &server.url("gate"), "")));
    watch.until_camera("gate", "connected");
    browser.open(&url(port));
    browser.find("#token").fill("correct horse battery");
    browser.find("#login button").click();
    browser.until("it is refused", "return document.querySelector('#notice').textContent.includes('wrong')");
    assert_eq!(browser.run("return document.querySelectorAll('.camera').length"), 0);
    browser.find("#token").fill("correct horse battery staple");
    browser.find("#login button").click();
    picture_moves(&browser);
    shot(&browser, "phone");
    // Nothing is wider than the screen.
    assert_eq!(browser.run("return document.documentElement.scrollWidth <= window.innerWidth"), true);
    browser.reload();
    picture_moves(&browser);
    watch.stop();
}

#[test]
fn the_page_is_dark_where_that_is_wished() {
    let Some(browser) = Browser::start(Screen { is_dark: true, ..DESKTOP }) else { return };
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (640, 360), 10);
    let port = free_port();
    let away = camera("yard", &format!("rtsp://127.0.0.1:{}/yard", free_port()), "");
    let mut watch = Watch::start(&street(port, "", &(camera("gate", &server.url("gate"), "") + &away)));
    watch.until_cameras(&["gate"], "connected");
    browser.open(&url(port));
    picture_moves(&browser);
    browser.until(
        "one is away",
        "return [...document.querySelectorAll('.camera')].some((tile) => tile.dataset.state === 'waiting')",
    );
    let paper =
        browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)");
    assert!(paper.as_array().unwrap().iter().all(|part| part.as_u64().unwrap() < 64), "{paper}");
    shot(&browser, "dark");
    watch.stop();
}

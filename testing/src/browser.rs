// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real browser: Chromium without a window, driven by its `chromedriver` over the WebDriver protocol
//! (W3C Recommendation "WebDriver", HTTP and JSON).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::ImageReader;
use serde_json::{Value, json};

/// Names of an element in answers (section "Elements").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// For anything that has to happen, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the page is seen on.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
    /// Fingers instead of a mouse.
    pub is_touched: bool,
}

pub const DESKTOP: Screen = Screen { width: 1280, height: 800, is_dark: false, is_touched: false };
pub const PHONE: Screen = Screen { width: 390, height: 844, is_dark: false, is_touched: true };

/// One browser with one tab; dropping it closes both.
pub struct Browser {
    driver: Child,
    session: String,
}

/// An element of the page.
pub struct Element<'a> {
    browser: &'a Browser,
    path: String,
    reference: Value,
}

impl Browser {
    /// `None`, with the reason printed, where there is none: the test is skipped then.
    pub fn start(screen: Screen) -> Option<Browser> {
        if !["chromium", "chromedriver"].into_iter().all(is_installed) {
            eprintln!("skipped: no chromium and chromedriver (scripts/setup.sh --tests installs them)");
            return None;
        }
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = driver.expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port: u16 = lines
            .find_map(|line| {
                line.unwrap().split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says its port");
        // Who is not read stops.
        std::thread::spawn(move || lines.for_each(drop));
        let Screen { width, height, is_dark, is_touched } = screen;
        let mut options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--mute-audio",
            "--no-first-run", "--hide-scrollbars", format!("--window-size={width},{height}"),
        ] });
        if is_touched {
            let metrics = json!({ "width": width, "height": height, "pixelRatio": 2, "touch": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted = json!({
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
        });
        let mut browser = Browser { driver, session: format!("http://127.0.0.1:{port}/session") };
        let session = browser.command("", json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session += &format!("/{}", session["sessionId"].as_str().expect("a session"));
        let scheme =
            json!({ "name": "prefers-color-scheme", "value": if is_dark { "dark" } else { "light" } });
        browser.devtools("Emulation.setEmulatedMedia", json!({ "features": [scheme] }));
        if !is_touched {
            let metrics =
                json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            browser.devtools("Emulation.setDeviceMetricsOverride", metrics);
        }
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header("Content-Type", "application/json");
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        let agent: ureq::Agent = config.build().into();
        let mut answer = agent.run(request.body(body).unwrap()).expect("chromedriver answers");
        let text = answer.body_mut().read_to_string().unwrap();
        let mut said: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        let value = said["value"].take();
        if answer.status().is_success() { Ok(value) } else { Err(value) }
    }

    #[track_caller]
    fn command(&self, path: &str, body: Value) -> Value {
        self.ask("POST", path, &body).unwrap_or_else(|why| panic!("{path} {body}: {}", why["message"]))
    }

    fn devtools(&self, name: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", json!({ "cmd": name, "params": parameters }))
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url }));
    }

    #[track_caller]
    pub fn reload(&self) {
        self.command("/refresh", json!({}));
    }

    /// What a script returns: the body of a function, which may be asynchronous.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Looks until a script returns something true, and returns that.
    #[track_caller]
    pub fn until(&self, what: &str, script: &str) -> Value {
        let start = Instant::now();
        loop {
            let value = self.run(script);
            if !matches!(&value, Value::Null | Value::Bool(false)) && value != "" && value != 0 {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}; the page says: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first element of this CSS selector that is shown; waits for it.
    #[track_caller]
    pub fn find(&self, selector: &str) -> Element<'_> {
        let start = Instant::now();
        loop {
            let found = self.ask("POST", "/elements", &json!({ "using": "css selector", "value": selector }));
            for reference in found.unwrap_or_default().as_array().into_iter().flatten() {
                let id = reference[ELEMENT].as_str().expect("a reference");
                let path = format!("/element/{id}");
                if self
                    .ask("GET", &format!("{path}/displayed"), &Value::Null)
                    .is_ok_and(|shown| shown == true)
                {
                    return Element { browser: self, path, reference: reference.clone() };
                }
            }
            assert!(start.elapsed() < PATIENCE, "no {selector}; the page says: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses keys, as WebDriver names them, wherever the focus is.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        let actions = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let actions: Vec<Value> = actions.collect();
        self.command("/actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// Clicks at places of an element, as shares of its width and height, one after the other.
    #[track_caller]
    pub fn click_at(&self, element: &Element, places: &[(f64, f64)]) {
        for place in places {
            self.drag(element, &[*place]);
        }
    }

    /// Presses at the first place, goes through the others, and lets go at the last.
    #[track_caller]
    pub fn drag(&self, element: &Element, places: &[(f64, f64)]) {
        let size = self.ask("GET", &format!("{}/rect", element.path), &Value::Null).unwrap();
        let side = |name: &str| size[name].as_f64().unwrap();
        let mut actions = vec![];
        for (index, (x, y)) in places.iter().enumerate() {
            // From the middle of the element.
            let (x, y) = ((x - 0.5) * side("width"), (y - 0.5) * side("height"));
            let origin = &element.reference;
            actions.push(
                json!({ "type": "pointerMove", "duration": 20, "origin": origin, "x": x.round(), "y": y.round() }),
            );
            if index == 0 {
                actions.push(json!({ "type": "pointerDown", "button": 0 }));
            }
        }
        actions.push(json!({ "type": "pointerUp", "button": 0 }));
        let mouse = json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": actions });
        self.command("/actions", json!({ "actions": [mouse] }));
    }

    /// Errors and warnings of the page since the last call: scripts that fail, what the policy forbids.
    pub fn log(&self) -> Vec<String> {
        let entries = self.ask("POST", "/se/log", &json!({ "type": "browser" })).unwrap_or_default();
        let told = entries.as_array().into_iter().flatten();
        told.map(|entry| entry["message"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// What is on the screen, as PNG.
    #[track_caller]
    pub fn screenshot(&self, path: &Path) {
        use base64::Engine;
        let picture = self.ask("GET", "/screenshot", &Value::Null).unwrap();
        let png = base64::prelude::BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
        assert!(
            ImageReader::with_format(std::io::Cursor::new(&png), image::ImageFormat::Png).decode().is_ok()
        );
        std::fs::write(path, png).unwrap();
    }
}

impl Element<'_> {
    #[track_caller]
    pub fn click(&self) {
        self.browser.command(&format!("{}/click", self.path), json!({}));
    }

    /// Puts a text in place of what is in a field, key by key.
    #[track_caller]
    pub fn fill(&self, text: &str) {
        self.browser.command(&format!("{}/clear", self.path), json!({}));
        self.browser.command(&format!("{}/value", self.path), json!({ "text": text }));
    }

    /// The text as it is shown.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = self.browser.ask("GET", &format!("{}/text", self.path), &Value::Null).unwrap();
        text.as_str().unwrap().to_string()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With the session ends the browser; with its driver what may be left of it.
        let _ = self.ask("DELETE", "", &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

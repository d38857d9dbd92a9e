// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page, in a real browser, on real cameras and the demo model. With `GCLIP_SCREENSHOTS=FOLDER` what is on the screen
//! at the places marked by `shot` is left there, to be looked at.

use std::path::Path;
use std::time::{Duration, Instant};

use gclip_testing::DEMO;
use gclip_testing::browser::{Browser, DESKTOP, PHONE, Screen};
use gclip_testing::rtsp::{Server, free_port};

use super::harness::{PATIENCE, Watch, camera};
use super::safety::hashed;

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

/// A street of one camera, `gate`, once it is connected, and the address of its page. `web` and `own` are lines of the page and
/// of the camera, `more` what else the file says.
fn gate(web: &str, own: &str, more: &str) -> Option<(Server, Watch, String)> {
    let mut server = Server::start()?;
    server.serve("gate", (640, 360), 10);
    let port = free_port();
    let cameras = camera("gate", &server.url("gate"), own) + more;
    let mut watch = Watch::start(&street(port, web, &cameras));
    watch.until_camera("gate", "connected");
    Some((server, watch, format!("http://localhost:{port}/")))
}

pub fn shot(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("GCLIP_SCREENSHOTS") {
        browser.screenshot(&Path::new(&folder).join(format!("{name}.png")));
    }
}

/// The picture on the screen; another text when it is another picture.
const PICTURE: &str = "const shown = [...document.querySelectorAll('.stage canvas')].filter((canvas) => canvas.offsetParent);\
                       return shown.length > 0 && shown[0].width > 300 && shown[0].toDataURL()";

/// What was forbidden or has failed. On a machine with other work a picture may not come in time.
pub fn complaints(browser: &Browser) -> Vec<String> {
    let mut told = browser.log();
    told.retain(|line| !line.contains("503 (Service Unavailable)"));
    told
}

#[track_caller]
pub fn picture_moves(browser: &Browser) {
    let before = browser.until("there is a picture", PICTURE);
    let other = format!("{PICTURE} !== {before}");
    browser.until("the picture moves", &other);
}

/// Waits until the masks are of these classes.
#[track_caller]
pub fn until_regions(browser: &Browser, labels: &[&str]) {
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
    let Some((_server, mut watch, url)) = gate("", "# as it is", "") else { return };
    browser.open(&url);
    picture_moves(&browser);
    let loaded = browser.run(
        "const parts = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]\
           .filter((part) => !part.name.includes('/api/'));\
         return { files: parts.length, bytes: parts.reduce((sum, part) => sum + part.transferSize, 0),\
           ms: Math.max(...parts.map((part) => part.responseEnd)) }",
    );
    println!("the page: {loaded}");
    assert!(loaded["bytes"].as_u64().unwrap() < 200_000, "{loaded}");
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
    browser.until("they are shown", "return document.querySelector('#prompts').value.includes('onerror')");
    browser.find("#prompts").fill("road");
    browser.find("#apply").click();
    until_regions(&browser, &["road"]);
    browser.find("#revert").click();
    until_regions(&browser, &[script]);
    assert_eq!(complaints(&browser), [""; 0]);
    watch.stop();
}

#[test]
fn a_wrong_token_is_refused() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let token = "token = 'correct horse battery staple'";
    let Some((_server, mut watch, url)) = gate(token, "", "") else { return };
    browser.open(&url);
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
fn user_and_password_let_in() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let login = format!("user = 'anna'\n{}", hashed("correct horse\n").unwrap());
    let Some((_server, mut watch, url)) = gate(&login, "", "") else { return };
    browser.open(&url);
    browser.until("it asks for the user", "return !document.querySelector('#user-part').hidden");
    browser.find("#user").fill("anna");
    browser.find("#token").fill("correct horsf");
    browser.find("#login button").click();
    browser.until("it is refused", "return document.querySelector('#notice').textContent.includes('wrong')");
    browser.find("#token").fill("correct horse");
    browser.find("#login button").click();
    picture_moves(&browser);
    watch.stop();
}

#[test]
fn the_page_is_dark_where_that_is_wished() {
    let Some(browser) = Browser::start(Screen { is_dark: true, ..DESKTOP }) else { return };
    let away = camera("yard", &format!("rtsp://127.0.0.1:{}/yard", free_port()), "");
    let Some((_server, mut watch, url)) = gate("", "", &away) else { return };
    browser.open(&url);
    picture_moves(&browser);
    browser.until(
        "one is away",
        "return [...document.querySelectorAll('.camera')].some((tile) => tile.dataset.state === 'waiting')",
    );
    let paper =
        browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)");
    assert!(paper.as_array().unwrap().iter().all(|part| part.as_u64().unwrap() < 64), "{paper}");
    shot(&browser, "dark");
    browser.find("nav a[href='#/health']").click();
    let losses = "return document.querySelector('#health').textContent.includes('refused')";
    browser.until("it is said why the camera was lost", losses);
    shot(&browser, "health");
    assert_eq!(complaints(&browser), [""; 0]);
    watch.stop();
}

/// Waits until the interface says that these are the camera's zones, to a pixel of the screen.
#[track_caller]
fn until_zones(browser: &Browser, expected: &str) {
    let numbers = |text: &str| -> Vec<f64> {
        text.split([';', '=', ' ', ',']).filter_map(|part| part.parse().ok()).collect()
    };
    let names = |text: &str| -> Vec<String> {
        text.split(';').map(|zone| zone.split('=').next().unwrap().trim().to_string()).collect()
    };
    let is_so = |found: &str| {
        let (ones, others) = (numbers(found), numbers(expected));
        let near = ones.iter().zip(&others).all(|(one, other)| (one - other).abs() < 0.005);
        names(found) == names(expected) && ones.len() == others.len() && near
    };
    let start = Instant::now();
    loop {
        let camera = browser.run("return fetch('/api/cameras/gate').then((answer) => answer.json())");
        let found = camera["in_force"]["zones"].as_str().unwrap();
        if is_so(found) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{found} and not {expected}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn zones_are_drawn_on_the_picture() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let Some((_server, mut watch, url)) = gate("", "", "") else { return };
    browser.open(&format!("{url}#/camera/gate"));
    picture_moves(&browser);

    // Its corners are clicked, and stick to the border of the picture; then it is named.
    let picture = browser.find("#picture canvas");
    browser.find("#draw").click();
    browser.click_at(&picture, &[(0.012, 0.6), (0.988, 0.6), (0.988, 0.988), (0.012, 0.988), (0.01, 0.6)]);
    browser.press(&["t", "h", "e", " ", "s", "t", "r", "e", "e", "t", "\u{e007}"]); // Enter
    let inside = "return document.querySelector('#zones .inside').textContent.includes('road')";
    browser.until("it tells what is inside", inside);
    until_zones(&browser, "");
    shot(&browser, "zones");
    browser.find("#apply").click();
    until_zones(&browser, "the street=0,0.6 1,0.6 1,1 0,1");
    let line = watch.until("the road is in the zone", |line| {
        line["type"] == "presence" && line["zone"] == "the street" && line["label"] == "road"
    });
    assert_eq!(line["state"], "entered");
    let told =
        "return document.querySelector('#events').textContent.includes('road has entered zone the street')";
    browser.until("the event is told", told);

    // By the keyboard: arrows, and Delete.
    browser.run("document.querySelector('[data-corner=\"0\"]').focus()");
    browser.press(&["\u{e015}", "\u{e015}", "\u{e014}"]);
    browser.run("document.querySelector('[data-corner=\"3\"]').focus()");
    browser.press(&["\u{e017}"]);
    browser.find("#apply").click();
    until_zones(&browser, "the street=0.01,0.62 1,0.6 1,1");

    // Moved as a whole, no further than the picture goes; another one without a pointer.
    browser.drag(&picture, &[(0.8, 0.75), (0.7, 0.5), (0.7, 0.1)]);
    browser.find("#add").click();
    browser.find("#apply").click();
    let both = "the street=0,0.02 0.99,0 0.99,0.4; zone 1=0.3,0.3 0.7,0.3 0.7,0.7 0.3,0.7";
    until_zones(&browser, both);

    // Saved and found again; taken away.
    browser.find("#save").click();
    browser.until("it is saved", "return document.querySelector('#saved').textContent === ''");
    assert!(std::fs::read_to_string(watch.path("cameras.toml")).unwrap().contains("the street=0"));
    browser.reload();
    browser.until("they are there", "return document.querySelectorAll('#zones li').length === 2");
    browser.find("#zones li:first-child button").click();
    browser.find("#apply").click();
    until_zones(&browser, "zone 1=0.3,0.3 0.7,0.3 0.7,0.7 0.3,0.7");
    assert_eq!(complaints(&browser), [""; 0]);
    watch.stop();
}

#[test]
fn two_who_change_the_same_are_told() {
    let (Some(one), Some(other)) = (Browser::start(DESKTOP), Browser::start(DESKTOP)) else { return };
    let Some((_server, mut watch, url)) = gate("", "", "") else { return };
    for browser in [&one, &other] {
        browser.open(&format!("{url}#/camera/gate"));
        until_regions(browser, &["car", "road", "sky", "tree"]);
    }
    one.find("#prompts").fill("sky; road");
    one.find("#apply").click();
    until_regions(&one, &["road", "sky"]);
    other.find("#prompts").fill("tree; road");
    other.find("#apply").click();
    let told = other.until(
        "the second is told",
        "const said = document.querySelector('#said').textContent; return said.includes('Somebody else') && said",
    );
    assert!(told.as_str().unwrap().contains("sky; road"), "{told}");
    assert_eq!(
        other.run("return document.querySelector('#prompts').value"),
        "tree; road",
        "what was typed stays"
    );
    // Who knows may insist; what does not touch the same is no conflict.
    other.find("#apply").click();
    until_regions(&other, &["road", "tree"]);
    one.find("#background").fill("house");
    one.find("#apply").click();
    one.until("it is applied", "return document.querySelector('#said').textContent === 'Applied.'");
    watch.stop();
}

#[test]
fn a_class_can_be_asked_to_be_surer() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let Some((_server, mut watch, url)) = gate("", "", "") else { return };
    browser.open(&format!("{url}#/camera/gate"));
    until_regions(&browser, &["car", "road", "sky", "tree"]);
    let in_force = |key: &str| {
        let camera = browser.run("return fetch('/api/cameras/gate').then((answer) => answer.json())");
        camera["in_force"][key].as_str().unwrap().to_string()
    };
    // How sure it was lately is drawn above the slider.
    let drawn = "const canvas = document.querySelector('#regions [data-label=sky] canvas');\
                 const context = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');\
                 context.drawImage(canvas, 0, 0);\
                 const { data } = context.getImageData(0, 0, canvas.width, canvas.height - 2);\
                 return data.some((part) => part)";
    browser.until("its scores are drawn", drawn);
    let slide = |label: &str, to: f64| {
        browser.run(&format!(
            "const slider = document.querySelector('#regions [data-label={label}] [type=range]');\
             slider.value = {to}; slider.dispatchEvent(new Event('input', {{ bubbles: true }}))"
        ));
    };
    slide("car", 1.0);
    slide("sky", 0.1);
    browser.find("#apply").click();
    until_regions(&browser, &["road", "sky", "tree"]);
    // What the threshold takes away is counted all the same, by its score.
    let counted = "return fetch('/api/cameras/gate/view?after=0').then((answer) => answer.json()).then(({ masks }) => {\
                     const car = masks?.histograms?.find(({ label }) => label === 'car');\
                     return car && !masks.regions.some(({ label }) => label === 'car') && car.pixels })";
    let counted = browser.until("pixels of cars are counted", counted);
    let pixels: Vec<u64> =
        counted.as_array().unwrap().iter().map(|pixels| pixels.as_u64().unwrap()).collect();
    assert!(pixels.len() == 25 && pixels.iter().filter(|&&pixels| pixels > 0).count() > 3, "{pixels:?}");
    assert_eq!(in_force("prompt-thresholds"), "car=1, sky=0.1");
    shot(&browser, "classes");
    // A class that is not looked for any more has no threshold either.
    browser.find("#prompts").fill("road; sky");
    browser.find("#apply").click();
    until_regions(&browser, &["road", "sky"]);
    assert_eq!(in_force("prompt-thresholds"), "sky=0.1");
    browser.find("#revert").click();
    until_regions(&browser, &["car", "road", "sky", "tree"]);
    assert_eq!(in_force("prompt-thresholds"), "");
    assert_eq!(complaints(&browser), [""; 0]);
    watch.stop();
}

#[test]
fn what_has_happened_is_listed_with_its_pictures() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let history = "[history]\nfolder = 'history'\n";
    let Some((_server, mut watch, url)) = gate("", "", history) else { return };
    let mut missing = vec!["road", "sky"];
    while !missing.is_empty() {
        let line = watch.until("road and sky enter", |line| line["type"] == "presence");
        missing.retain(|label| line["label"] != *label);
    }
    browser.open(&url);
    browser.find("nav a[href='#/events']").click();
    let pictures = "const pictures = [...document.querySelectorAll('#found img')];\
                    return pictures.length >= 2 && pictures.every((picture) => picture.naturalWidth > 0)";
    browser.until("they are listed with pictures", pictures);
    browser
        .until("who was there is drawn", "return document.querySelectorAll('#time-line rect').length >= 2");
    shot(&browser, "events");
    // Only of one label; the address says so too, and leads there again.
    browser.find("#of-label").fill("sky\u{e007}");
    let of_sky = "const found = [...document.querySelectorAll('#found li')].map((item) => item.textContent);\
                  return found.length > 0 && found.every((text) => text.includes('sky'))";
    browser.until("only the sky is listed", of_sky);
    assert!(browser.run("return location.hash").as_str().unwrap().contains("label=sky"));
    browser.reload();
    browser.until("only the sky is listed again", of_sky);
    browser.find("#found a").click();
    let alone = "const picture = document.querySelector('#event img');\
                 return picture && picture.naturalWidth > 100 && document.querySelector('#event h2').textContent";
    assert_eq!(browser.until("it is shown alone", alone), "gate: sky has entered");
    browser.find("#event a").click();
    picture_moves(&browser);
    assert_eq!(complaints(&browser), [""; 0]);
    watch.stop();
}

/// Minutes as the program keeps them, of a camera that is gone since: the share of the picture that `bus` takes grows from a
/// tenth to a half, in two pieces each.
fn two_hours_of_buses(events: &Path) {
    let store = rusqlite::Connection::open(events).unwrap();
    store.busy_timeout(PATIENCE).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs() / 60).unwrap();
    let (looks, minutes) = (60.0, 120);
    for back in 1..=minutes {
        let share = looks * (0.5 - 0.4 * f64::from(back) / f64::from(minutes));
        for (label, share, pieces) in [("", 0.0, 0.0), ("bus", share, 2.0 * looks)] {
            let row = ("yard", label, now - i64::from(back), looks as i64, share, pieces);
            store.execute("INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?)", row).unwrap();
        }
    }
}

#[test]
fn how_much_there_was_of_what_is_plotted() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let history = "[history]\nfolder = 'history'\n";
    let Some((_server, mut watch, url)) = gate("", "", history) else { return };
    watch.until("something enters", |line| line["type"] == "presence");
    two_hours_of_buses(&watch.path("history/events.db"));
    browser.open(&format!("{url}#/events?label=bus"));
    // Of each plot: its line's points from left to right, in pixels, and what stands below it.
    let plots = "const plots = [...document.querySelectorAll('#plots figure')].map((figure) => ({\
                   line: figure.querySelector('path.series')?.getAttribute('d') ?? '',\
                   below: figure.querySelector('.legend').textContent }));\
                 return plots.length === 2 && plots.every(({ line }) => line) && plots";
    let plots = browser.until("two plots", plots);
    shot(&browser, "plots");
    let points = |index: usize| -> Vec<(f64, f64)> {
        let line = plots[index]["line"].as_str().unwrap().replace("h.01", "");
        let pairs = line.split(['M', 'L']).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once(' ').unwrap());
        pairs.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect()
    };
    let (share, pieces) = (points(0), points(1));
    assert!(share.len() >= 3 && share.len() == pieces.len(), "{plots}");
    assert!(share.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "it grows, in time and upwards: {share:?}");
    let (first, last) = (pieces[0].1, pieces[pieces.len() - 1].1);
    assert!((first - last).abs() < 0.2, "always as many: {pieces:?}");
    let below = |index: usize| plots[index]["below"].as_str().unwrap();
    let said: f64 = below(0).strip_prefix("yard: bus ").unwrap().strip_suffix(" %").unwrap().parse().unwrap();
    assert!((40.0..=50.0).contains(&said), "what is latest, over some minutes: {}", below(0));
    assert_eq!(below(1), "yard: bus 2.0");
    assert_eq!(complaints(&browser), [""; 0]);
    watch.stop();
}

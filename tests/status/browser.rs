//! The status page in Chromium: no overflow, no console error, and live updates.
//!
//! The page is in a frame of the tested width, because a browser's own window has a minimum width;
//! a script beside the frame measures it. Without Chromium the tests print that they are skipped.

use super::fixtures::{EVIL, crowd, fresh, hostile, ordinary};
use super::serving::{Server, response};
use onward::admin::page::page;
use onward::status::Status;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Headers that the server sends with the page.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; img-src data:; connect-src 'self'\r\n";
/// Widths of phones, of half a screen, and of a large screen.
const WIDTHS: [u32; 6] = [320, 400, 820, 1090, 1300, 1600];

/// The installed name of Chromium.
fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| {
        let command = format!("command -v {name}");
        Command::new("sh").args(["-c", &command]).output().is_ok_and(|out| out.status.success())
    });
    if found.is_none() {
        eprintln!("SKIPPED: chromium is not installed");
    }
    found
}

/// Returns the measurements of the page in a frame `width` wide after a few seconds, and the
/// browser's error messages. `next` makes the page for each request.
fn measured(
    browser: &str,
    name: &str,
    width: u32,
    mut next: impl FnMut() -> String + Send + 'static,
) -> (String, Vec<String>) {
    let frame = format!(
        "<!doctype html><body><iframe src=\"/\" style=\"width:{width}px;height:900px\"></iframe>\
         <script>const measure = () => {{ const page = document.querySelector('iframe');\
         const root = page.contentDocument.documentElement;\
         document.body.dataset.overflow = root.scrollWidth - root.clientWidth;\
         const cells = [...page.contentDocument.querySelectorAll('tbody th, td')];\
         const tallest = Math.max(0, ...cells.map((cell) => cell.offsetHeight));\
         document.body.dataset.squeezed = tallest > 300;\
         document.body.dataset.live = page.contentDocument.querySelector('#live')?.textContent;\
         const figure = page.contentDocument.querySelector('.figure');\
         document.body.dataset.figure = figure?.textContent;\
         }};\
         document.querySelector('iframe').onload = () => setInterval(measure, 50);</script></body>"
    );
    let server = Server::start(move |path, stream| {
        let answer = match path {
            "/" => response("text/html; charset=utf-8", POLICY, &next()),
            _ => response("text/html; charset=utf-8", "", &frame),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chromium-{name}-{width}"));
    // A browser that hangs is killed and yields no measurement.
    let output = Command::new("timeout")
        .args(["120", browser])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--enable-logging=stderr", "--window-size=1800,1000"])
        .args(["--virtual-time-budget=7000", "--timeout=60000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{}/frame", server.address))
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(profile);
    let log = String::from_utf8_lossy(&output.stderr);
    let complaints = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned);
    (String::from_utf8_lossy(&output.stdout).into_owned(), complaints.collect())
}

#[track_caller]
fn fits(browser: &str, name: &str, status: &Status, widths: &[u32]) {
    for width in widths {
        let page = page(status);
        let (dom, complaints) = measured(browser, name, *width, move || page.clone());
        assert_eq!(complaints, Vec::<String>::new(), "{name} at {width}");
        assert!(dom.contains("data-overflow=\"0\""), "{name} at {width}: {}", body(&dom));
        assert!(dom.contains("data-live=\"Live"), "{name} at {width}: {}", body(&dom));
        let roomy = dom.contains("data-squeezed=\"false\"");
        assert!(roomy || name != "ordinary", "{name} at {width}: a cell is too narrow");
    }
}

fn body(dom: &str) -> &str {
    let from = dom.find("<body").unwrap_or(0);
    &dom[from..dom.len().min(from + 200)]
}

#[test]
fn it_fits_windows_of_any_width() {
    let Some(browser) = chromium() else { return };
    fits(browser, "ordinary", &ordinary(), &WIDTHS);
    fits(browser, "fresh", &fresh(), &[320]);
    fits(browser, "nothing", &Status::default(), &[320]);
}

#[test]
fn it_fits_with_any_contents() {
    let Some(browser) = chromium() else { return };
    fits(browser, "crowd", &crowd(), &[400, 1600]);
    for (at, evil) in [EVIL[0].to_owned(), EVIL[3].repeat(9), "w".repeat(300)].iter().enumerate() {
        fits(browser, &format!("evil{at}"), &hostile(evil), &[400]);
    }
}

#[test]
fn it_updates_without_a_page_reload() {
    let Some(browser) = chromium() else { return };
    let mut asked = 0;
    let (dom, complaints) = measured(browser, "live", 1200, move || {
        asked += 1;
        let mut status = ordinary();
        status.traffic.rate = f64::from(asked.min(3)) * 111.0;
        page(&status)
    });
    assert_eq!(complaints, Vec::<String>::new());
    assert!(dom.contains("data-figure=\"333 /s\""), "{}", body(&dom));
}

#[test]
fn it_says_when_the_server_does_not_respond() {
    let Some(browser) = chromium() else { return };
    let mut asked = 0;
    let (dom, _) = measured(browser, "gone", 1200, move || {
        asked += 1;
        if asked == 1 { page(&ordinary()) } else { "<p>somebody else</p>".to_owned() }
    });
    assert!(dom.contains("data-live=\"No answer for"), "{}", body(&dom));
    assert!(dom.contains("data-figure=\"44.3 k/s\""), "the last that was known: {}", body(&dom));
}

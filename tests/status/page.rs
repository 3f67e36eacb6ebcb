//! The status page as markup: well-formed with any contents, bounded, and complete.
//!
//! Its rendering in Chromium is tested in `browser`.

use super::fixtures::{EVIL, crowd, fresh, hostile, ordinary};
use super::markup::{Element, elements};
use onward::admin::page::{CACHES_SHOWN, LINES_SHOWN, UPSTREAMS_SHOWN, WORKERS_SHOWN, page};
use onward::status::{Health, Status};

#[track_caller]
fn parsed(page: &str) -> Vec<Element> {
    elements(page).unwrap_or_else(|fault| panic!("{fault}"))
}

/// The page's text without script, style and markup.
fn read(page: &str) -> String {
    let body = page.split_once("<body>").unwrap().1;
    let body = body.split_once("<script>").unwrap().0;
    let pieces = body.split('<').map(|piece| piece.split_once('>').map_or("", |(_, text)| text));
    pieces.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn shows(status: &Status, words: &[&str]) {
    let text = read(&page(status));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn an_ordinary_status_is_shown_in_numbers() {
    let status = ordinary();
    parsed(&page(&status));
    shows(
        &status,
        &[
            "resolver-3.example.net",
            "reloaded 12 times, once failed",
            "1 of 4 upstreams being probed",
            "44.3 k/s",
            "at 14:13:20 UTC",
            "[2001:db8:0:53::1]:53",
            "max_age 1 min",
            "oldest 1 min 11 s",
            "87 %",
            "154 MiB",
            "_ldap._tcp.dc._msdcs.corp.example.",
            "SERVFAIL",
        ],
    );
}

#[test]
fn nothing_breaks_out_of_the_text() {
    let plain = parsed(&page(&hostile("plain")));
    let shape = |all: &[Element]| {
        let shape = |(name, attributes): &Element| {
            let keys = attributes.iter().map(|(key, _)| key.clone()).filter(|key| key != "title");
            (name.clone(), keys.collect::<Vec<_>>())
        };
        all.iter().map(shape).collect::<Vec<_>>()
    };
    let evil = EVIL.map(str::to_owned).into_iter();
    let bytes = (0..=255u8).map(|byte| format!("a{}b", char::from(byte)));
    let long = EVIL.map(|evil| evil.repeat(1_000)).into_iter();
    for text in evil.chain(bytes).chain(long) {
        let page = page(&hostile(&text));
        let all = elements(&page).unwrap_or_else(|fault| panic!("{text:.40?}: {fault}"));
        assert!(shape(&all) == shape(&plain), "{text:.40?} changed the markup");
        assert!(!page.contains("NaN") && !page.contains("inf<"), "{text:.40?}");
    }
}

#[test]
fn the_page_has_no_handlers_and_fetches_nothing() {
    for status in [ordinary(), crowd(), Status::default()] {
        let page = page(&status);
        for (name, attributes) in parsed(&page) {
            let active = ["a", "form", "button", "input", "iframe", "img", "object", "embed"];
            assert!(!active.contains(&name.as_str()), "<{name}>");
            for (key, value) in attributes {
                assert!(!key.starts_with("on") && key != "src", "<{name} {key}>");
                assert!(key != "href" || value == "data:,", "<{name} href={value}>");
            }
        }
        assert!(!page.contains("http://") && !page.contains("https://"));
        assert!(page.contains("<noscript><meta http-equiv=\"refresh\""));
    }
}

#[test]
fn rows_beyond_the_limit_are_counted() {
    let page = page(&crowd());
    let all = parsed(&page);
    let rows = all.iter().filter(|(name, _)| name == "tr").count();
    let rows_max = WORKERS_SHOWN + UPSTREAMS_SHOWN + CACHES_SHOWN + 5 * LINES_SHOWN + 8;
    assert!(rows <= rows_max, "{rows} rows");
    assert!(page.len() < 3 << 19, "{} bytes", page.len());
    shows(&crowd(), &["and 21 more", "and 44 more", "and 27 more", "and 30 more"]);
    // The longest possible page: each string at its maximum length, in its tooltip, too.
    let mut worst = crowd();
    for upstream in &mut worst.upstreams {
        upstream.address = "\u{10ffff}".repeat(100_000);
    }
    assert!(self::page(&worst).len() < 2 << 20);
}

#[test]
fn nothing_to_show_looks_deliberate() {
    let nothing = [
        "No upstream is configured",
        "no measurement in the last 10 s",
        "to forward queries",
        "No worker has reported yet",
        "No cache is configured",
        "No reply yet",
        "None.",
        "No query yet",
    ];
    parsed(&page(&Status::default()));
    shows(&Status::default(), &nothing);
    parsed(&page(&fresh()));
    shows(&fresh(), &["The upstream is up", "No answer yet", "none yet", "not pinned"]);
}

#[test]
fn health_is_described_in_words() {
    let with = |healths: &[Health]| {
        let mut status = ordinary();
        status.upstreams.truncate(healths.len());
        for (upstream, health) in status.upstreams.iter_mut().zip(healths) {
            upstream.health = *health;
        }
        status
    };
    use Health::{Down, Probing, Up};
    shows(&with(&[Up, Up]), &["All 2 upstreams are up"]);
    shows(&with(&[Up, Probing]), &["1 of 2 upstreams being probed", "probing"]);
    shows(&with(&[Up, Down]), &["1 of 2 upstreams down"]);
    shows(&with(&[Down, Down]), &["All 2 upstreams are down"]);
    shows(&with(&[Down]), &["The only upstream is down"]);
}

#[test]
fn charts_are_described_in_words() {
    let page = page(&ordinary());
    let all = parsed(&page);
    for (_, attributes) in all.iter().filter(|(name, _)| name == "svg") {
        let labelled = |(key, _): &(String, String)| key == "aria-label" || key == "aria-hidden";
        assert!(attributes.iter().any(labelled), "{attributes:?}");
        let empty = ("aria-label".to_owned(), String::new());
        assert!(!attributes.contains(&empty), "{attributes:?}");
    }
    assert!(page.contains("Open udp connections by age, max_age 1 min: 12 from 0 s, 14 from 6 s"));
}

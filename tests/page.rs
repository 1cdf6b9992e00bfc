//! The page of `check --format html`: whole, alone, and usable.
//!
//! What a browser makes of it is looked at in headless Chromium, where that
//! is asked for: `cargo test --test page -- --ignored`.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use qubes_fsm::check::page::page;
use qubes_fsm::check::report::Row;
use qubes_fsm::check::trace::Line;
use qubes_fsm::fsm::phase_table;

/// The page of some models, by the program.
fn made(models: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_qubes-fsm"))
        .args(["check", "-q", "--format", "html"])
        .args(models)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What stands between `before` and the next `"`, wherever it does.
fn all<'t>(text: &'t str, before: &str) -> Vec<&'t str> {
    let parts = text.split(before).skip(1);
    parts.map(|part| part.split('"').next().unwrap()).collect()
}

#[test]
fn it_is_whole_and_needs_nothing_else() {
    let page = made(&["lock", "members", "cancel", "backup"]);
    for sign in ["http:", "https:", "src=", "@import", "<link", "url(h"] {
        assert!(!page.contains(sign), "{sign}");
    }
    let ids = all(&page, "id=\"");
    for (number, id) in ids.iter().enumerate() {
        assert!(!ids[..number].contains(id), "{id} twice");
    }
    let links = all(&page, "href=\"#");
    for link in &links {
        assert!(ids.contains(link), "nothing is called {link}");
    }
    let runs = ids.iter().filter(|id| id.starts_with("run-")).count();
    assert!(runs > 40, "{runs}");
    // Each run has a link from the table, and its verdict is no other's.
    let linked = links.iter().filter(|link| link.starts_with("run-"));
    assert_eq!(linked.count(), runs);
    let machines =
        all(&page, "<svg class=\"machine\" role=\"img\" aria-label=\"");
    let wanted = [
        "lock 2013",
        "lock 2014",
        "lock 2016",
        "lock shipped",
        "lock lock-file",
        "members",
        "cancel",
        "backup",
    ];
    assert_eq!(machines, wanted);
    // The lost update of 2013: what was on the disk, step by step.
    let lost = page.split("<h3>lock 2013").nth(1).unwrap();
    let lost = lost.split("</article>").next().unwrap();
    let states: Vec<_> = lost.split("<ul class=\"state\">").collect();
    assert_eq!(states.len(), 18 + 1);
    assert!(states[1].contains("'qubes.xml' is inode 0: as at the beginning"));
    assert!(
        states[12].contains("P2 fd 3: inode 0, which has no name, write lock")
    );
    assert!(states[18].contains("P2's update is in it"));
    assert!(!states[18].contains("P1's and P2's"));
    assert!(states[18].contains("class=\"loss\""));
}

/// Nothing that a row says becomes a part of the page's structure.
#[test]
fn what_rows_say_is_text() {
    let hostile = "</script><script>alert(1)</script>\"' & <b>";
    let row = Row {
        model: hostile.to_owned(),
        bounds: hostile.to_owned(),
        engine: hostile.to_owned(),
        coverage: hostile.to_owned(),
        verdict: "violated".to_owned(),
        property: hostile.to_owned(),
        note: Some(hostile.to_owned()),
        trace: Some(vec![Line {
            step: Some(1),
            process: 1,
            text: hostile.to_owned(),
            state: vec![hostile.to_owned()],
        }]),
        columns: vec![hostile.to_owned()],
        ..Row::default()
    };
    let machines = [("cancel".to_owned(), phase_table::gate())];
    let page = page(&[row], &machines);
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains("<b>"));
    assert!(page.matches("&lt;b&gt;").count() >= 9);
}

/// What a browser reports of the page, as text.
const PROBE: &str = r##"<script>
window.addEventListener("load", () => {
  const one = (what) => document.querySelector(what);
  const box = (what) => {
    const { width, height } = one(what).getBoundingClientRect();
    return width > 100 && height > 50;
  };
  const run = one(".run");
  const line = () =>
    Array.from(run.querySelectorAll(".lanes > li:not(.head)"))
      .indexOf(run.querySelector(".current"));
  const key = (name) => run.dispatchEvent(
    new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const places = [line()];
  for (const name of ["ArrowRight", "ArrowRight", "ArrowLeft", "End"]) {
    key(name);
    places.push(line());
  }
  const facts = run.querySelector(".now").textContent;
  key("Home");
  one("button[data-kind=holds]").click();
  const shown = document.querySelectorAll(
    "#verdicts tbody tr:not([hidden])").length;
  one("button[data-kind=all]").click();
  const state = one("svg.machine g.state");
  state.dispatchEvent(new Event("pointerenter"));
  const lanes = new Set(Array.from(run.querySelectorAll(
    ".lanes > li:not(.head) .call"))
    .map((call) => call.getBoundingClientRect().left)).size;
  const found = {
    table: box("#verdicts table"), picture: box("svg.machine"),
    run: box(".run"), now: box(".now"),
    wide: document.documentElement.scrollWidth > window.innerWidth,
    places: places.join(" "), facts: facts.includes("P2's update is in it"),
    shown, arrows: document.querySelectorAll("path.chosen").length > 0,
    lanes, ground: getComputedStyle(document.body).backgroundColor,
  };
  document.title = JSON.stringify(found);
  state.dispatchEvent(new Event("blur"));
});
</script></body>"##;

fn chromium(arguments: &[&str], page: &Path, profile: &Path) -> String {
    let mut url = std::ffi::OsString::from("file://");
    url.push(page);
    let mut user = std::ffi::OsString::from("--user-data-dir=");
    user.push(profile);
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",
        ])
        .arg(user)
        .args(arguments)
        .arg(url)
        .stderr(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("chromium: {error}; wanted Debian's package chromium")
    });
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Debian's package chromium"]
fn a_browser_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile");
    let plain = made(&["lock"]);
    let probed = plain.replace("</body>", PROBE);
    // Chromium's windows are 500 wide at least; a frame is not.
    let frame = "<!DOCTYPE html><title>-</title><iframe style=\"border:0;\
        width:390px;height:844px\" src=\"page.html\"></iframe><script>\
        setInterval(() => { document.title = frames[0].document.title }, 50)\
        </script>";
    // A page that was scrolled has no picture, so that is of the plain one.
    let write = |name: &str, page: &str| {
        let into = dir.path().join(name);
        fs::create_dir(&into).unwrap();
        fs::write(into.join("page.html"), page).unwrap();
        fs::write(into.join("narrow.html"), frame).unwrap();
        into
    };
    let (probed, plain) = (write("probed", &probed), write("plain", &plain));
    let dark = "--blink-settings=preferredColorScheme=0";
    let light = "--blink-settings=preferredColorScheme=1";
    for (size, page, lanes) in [
        ("1280,900", "page.html", 2),
        ("500,900", "page.html", 1),
        ("390,844", "narrow.html", 1),
    ] {
        for (scheme, ground) in
            [(light, "rgb(255, 255, 255)"), (dark, "rgb(21, 23, 26)")]
        {
            let window = format!("--window-size={size}");
            let files = "--allow-file-access-from-files";
            let dom = chromium(
                &["--dump-dom", files, scheme, &window],
                &probed.join(page),
                &profile,
            );
            let title = dom.split("<title>").nth(1).unwrap();
            let title = title.split("</title>").next().unwrap();
            let found: serde_json::Value = serde_json::from_str(title)
                .unwrap_or_else(|error| panic!("{size}: {title}: {error}"));
            let said = format!("{size} {scheme}: {found}");
            for what in ["table", "picture", "run", "now", "facts", "arrows"] {
                assert_eq!(found[what], true, "{what}: {said}");
            }
            assert_eq!(found["wide"], false, "{said}");
            assert_eq!(found["places"], "0 1 2 1 20", "{said}");
            assert!(found["shown"].as_u64().unwrap() > 3, "{said}");
            assert_eq!(found["lanes"], lanes, "{said}");
            assert_eq!(found["ground"], ground, "{said}");
            let picture = dir.path().join("picture.png");
            let shot = format!("--screenshot={}", picture.display());
            chromium(&[&shot, scheme, &window], &plain.join(page), &profile);
            // A blank one has a tenth of it.
            let bytes = fs::metadata(&picture).unwrap().len();
            assert!(bytes > 20_000, "{said}: {bytes} bytes");
        }
    }
}

//! The page that maps the contract to these tests names only tests that exist, and every code.

use std::{fs, path::Path};

use pushledger::http::ums::codes::Code;

const PAGE: &str = include_str!("../../docs/protocols/haier-ums-v2.md");

/// What stands between backquotes.
fn quoted() -> impl Iterator<Item = &'static str> {
    PAGE.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_page_names_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut named = 0;
    for (module, name) in quoted().filter_map(|text| text.rsplit_once("::")) {
        let module = module.replace("::", "/");
        let files =
            [format!("ums_v2/{module}.rs"), format!("{module}.rs"), format!("{module}/mod.rs")];
        let texts = files.iter().filter_map(|file| fs::read_to_string(tests.join(file)).ok());
        let test = format!("fn {name}()");
        assert!(texts.into_iter().any(|text| text.contains(&test)), "no test {module}::{name}");
        named += 1;
    }
    assert!(named > 100, "the page names {named} tests");
}

#[test]
fn the_page_says_of_every_code_when_it_comes() {
    for (code, _) in Code::ALL {
        assert!(quoted().any(|text| text == *code), "{code} is not on the page");
    }
}

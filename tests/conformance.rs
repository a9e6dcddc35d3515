//! The pages that map the protocols' documents to these tests name only tests that exist.

use std::{fs, path::Path};

/// A page, the folder in which its tests stand first of all, and how many it names at least.
const PAGES: [(&str, &str, usize); 5] = [
    (include_str!("../docs/protocols/haier-ums-v2.md"), "ums_v2", 70),
    (include_str!("../docs/protocols/easemob-push.md"), "easemob", 70),
    (include_str!("../docs/protocols/antelope.md"), "antelope", 60),
    (include_str!("../docs/protocols/ucloud-uplink.md"), "callbacks", 15),
    (include_str!("../docs/protocols/tencent-im.md"), "tencent", 70),
];

/// What stands between backquotes.
pub fn quoted(page: &'static str) -> impl Iterator<Item = &'static str> {
    page.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_a_page_names_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (page, folder, least) in PAGES {
        let mut named = 0;
        for (module, name) in quoted(page).filter_map(|text| text.rsplit_once("::")) {
            let module = module.replace("::", "/");
            let files = [
                format!("{folder}/{module}.rs"),
                format!("{module}.rs"),
                format!("{module}/mod.rs"),
            ];
            let texts = files.iter().filter_map(|file| fs::read_to_string(tests.join(file)).ok());
            let test = format!("fn {name}()");
            let exists = texts.into_iter().any(|text| text.contains(&test));
            assert!(exists, "no test {module}::{name}, which the page of {folder} names");
            named += 1;
        }
        assert!(named > least, "the page of {folder} names {named} tests");
    }
}

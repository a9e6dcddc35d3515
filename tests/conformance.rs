//! The pages that map documents and promises to these tests name only tests that exist, and leave no
//! row of a table without one.

use std::{fs, path::Path};

/// A page, the folder in which its tests stand first of all, and how many it names at least.
const PAGES: [(&str, &str, usize); 6] = [
    (include_str!("../docs/protocols/haier-ums-v2.md"), "ums_v2", 70),
    (include_str!("../docs/protocols/easemob-push.md"), "easemob", 70),
    (include_str!("../docs/protocols/antelope.md"), "antelope", 60),
    (include_str!("../docs/protocols/ucloud-uplink.md"), "callbacks", 50),
    (include_str!("../docs/protocols/tencent-im.md"), "tencent", 70),
    (include_str!("../docs/webhooks.md"), "callbacks", 80),
];

/// Where tests stand: over the wire, beside the code, and those of the domain.
const FOLDERS: [&str; 3] = ["tests", "src", "domain/tests"];

/// The headers of the tables that have no column of tests: they explain what rows elsewhere name.
const WITHOUT_TESTS: [&str; 6] = [
    "| error | exception |",
    "| what happened | `pushStatus` | `desc` |",
    "| header | terminals | clouds |",
    "| code | when |",
    "| kind | what it is about | configured by | calls again after | calls, at most | at once, a receiver | order |",
    "| reason | when |",
];

/// What stands between backquotes.
pub fn quoted(page: &'static str) -> impl Iterator<Item = &'static str> {
    page.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_a_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, own, least) in PAGES {
        let mut named = 0;
        for (module, name) in quoted(page).filter_map(|text| text.rsplit_once("::")) {
            let module = module.replace("::", "/");
            let below =
                [format!("{own}/{module}.rs"), format!("{module}.rs"), format!("{module}/mod.rs")];
            let files = FOLDERS.iter().flat_map(|folder| below.iter().map(move |b| (folder, b)));
            let texts =
                files.filter_map(|(folder, b)| fs::read_to_string(root.join(folder).join(b)).ok());
            let test = format!("fn {name}()");
            let exists = texts.into_iter().any(|text| text.contains(&test));
            assert!(exists, "no test {module}::{name}, which the page of {own} names");
            named += 1;
        }
        assert!(named > least, "the page of {own} names {named} tests");
    }
}

/// The last cell of a row of a table.
fn last_cell(row: &str) -> &str {
    row.trim_end().trim_end_matches('|').rsplit("| ").next().unwrap_or_default().trim()
}

#[test]
fn every_row_of_every_table_names_a_test_but_of_those_that_only_explain() {
    let mut explained = Vec::new();
    for (page, own, _) in PAGES {
        let mut tests = None;
        for line in page.lines() {
            if !line.starts_with('|') {
                tests = None;
                continue;
            }
            let last = last_cell(line);
            match tests {
                None if WITHOUT_TESTS.contains(&line) => {
                    explained.push(line);
                    tests = Some(false);
                }
                None => {
                    assert_eq!(last, "test", "a table of the page of {own} has none: {line}");
                    tests = Some(true);
                }
                Some(true) if !line.starts_with("| ---") => {
                    let says = last.contains("::") || last == "the same";
                    assert!(says, "the page of {own} names no test for: {line}");
                }
                Some(_) => {}
            }
        }
    }
    for header in WITHOUT_TESTS {
        assert!(explained.contains(&header), "no table is headed {header}");
    }
}

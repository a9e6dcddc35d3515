//! What neither the compiler nor clippy holds.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use pushledger::http::openapi;
use serde_json::Value;

/// Lines of a source file, at most.
const MAX_LINES: usize = 700;

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "domain", "projections", "graphql", "tests"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_file_says_first_why_it_exists() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no first paragraph", path.display());
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_domain_knows_nothing_of_the_world() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("domain/Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    for worldly in ["tokio", "sqlx", "axum", "tracing", "chrono", "rand", "projections"] {
        assert!(!dependencies.contains(&format!("\n{worldly}")), "domain depends on {worldly}");
    }
}

#[test]
fn nothing_is_left_to_be_done_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!words.iter().any(|word| text.contains(word)), "{}", path.display());
    }
}

/// Paths that the description of the API leaves out: what it describes them to, and what is no call
/// of JSON. A wildcard stands for a protocol, whose calls are described one by one.
const NOT_DESCRIBED: [&str; 8] = [
    "/connect",
    "/graphql",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/v2/{*rest}",
    "/v4/{*rest}",
];

/// What a router is given where a path is no text of its own, and the path that it is.
const WORDED: [(&str, &str); 2] =
    [("app", "/admin/v1/apps/{app_id}"), ("socket::PATH", "/connect")];

/// Routes that are made from the tables of a protocol, as its description is.
const OF_TABLES: [&str; 3] = ["&path", "interface.path()", "path"];

/// A path without the names of its parameters.
fn nameless(path: &str) -> String {
    let parts = path.split('/');
    let parts = parts.map(|part| if part.starts_with("{*") { part } else { nameless_part(part) });
    parts.collect::<Vec<_>>().join("/")
}

fn nameless_part(part: &str) -> &str {
    if part.starts_with('{') { "{}" } else { part }
}

#[test]
fn every_route_is_described_or_named_as_one_that_is_not() {
    let document: Value = serde_json::from_str(openapi::document()).unwrap();
    let described: BTreeSet<String> =
        document["paths"].as_object().unwrap().keys().map(|path| nameless(path)).collect();
    let mut routes = BTreeSet::new();
    let doors = sources().into_iter().filter(|path| path.to_str().unwrap().contains("/src/http/"));
    for path in doors {
        let text = fs::read_to_string(&path).unwrap();
        for call in text.split(".route(").skip(1) {
            let given = call.split(',').next().unwrap().trim();
            // What asks for a route rather than adds one has no path.
            if given.starts_with(')') || OF_TABLES.contains(&given) {
                continue;
            }
            let literal = given.split('"').nth(1);
            let known = WORDED.iter().find(|(word, _)| *word == given).map(|(_, path)| *path);
            let (below, path) = match (literal, known) {
                (Some(path), _) if given.starts_with("&below(") => (WORDED[0].1, path),
                (Some(path), _) | (None, Some(path)) => ("", path),
                (None, None) => panic!("{}: which path is {given}?", path.display()),
            };
            routes.insert(nameless(&format!("{below}{path}")));
        }
    }
    for route in &routes {
        let left_out = NOT_DESCRIBED.contains(&&**route);
        assert!(described.contains(route) != left_out, "{route} is not described");
    }
    for route in NOT_DESCRIBED {
        assert!(routes.contains(route), "there is no route {route}");
    }
}

//! What others build on is committed, and a difference fails here. `UPDATE_CONTRACTS=1` writes the
//! files anew.

use std::{fmt::Write as _, fs, path::Path};

use pushledger::http::{
    openapi,
    ums::codes::{Code, Interface},
};

use crate::harness::World;

fn same(file: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_CONTRACTS").is_some() {
        fs::write(&path, now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "{file} differs from the code; UPDATE_CONTRACTS=1 writes it anew");
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    same("openapi.json", openapi::document());
}

#[test]
fn the_graphql_schema_is_the_committed_one() {
    same("graphql/schema.graphql", &graphql::sdl());
}

#[test]
fn the_table_of_ums_codes_is_the_committed_one() {
    let mut text = String::from(
        "# Haier UMS V2: return codes\n\nMade from the code by a test; do not edit.\n\n\
         | retCode | retInfo |\n| --- | --- |\n",
    );
    for (code, info) in Code::ALL {
        writeln!(text, "| `{code}` | {info} |").unwrap();
    }
    text += "\nThe gateway's codes (C…, D00001 to D00005, A00001) can precede those of any call.\n\n\
             | call | codes of its own |\n| --- | --- |\n";
    for interface in Interface::ALL {
        let codes: Vec<_> = interface.listed().iter().map(|code| code.code()).collect();
        writeln!(text, "| `{}` | {} |", interface.path(), codes.join(", ")).unwrap();
    }
    same("docs/protocols/haier-ums-v2-codes.md", &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_served() {
    let world = World::new().await;
    let (status, body, _) = world.admin.get("/openapi.json", None).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(body, serde_json::from_str::<serde_json::Value>(openapi::document()).unwrap());
    world.stop().await;
}

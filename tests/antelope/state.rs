//! `POST /v2/devices/state`: which devices are online.

use projections::registry::{COUNT_OF_CIDS, PAGE_OF_CIDS};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{ANN, Antelope, BOB, HIGH, NOBODYS};
use crate::harness::{Backdoor, until};

async fn state(antelope: &Antelope, query: &str, body: Value) -> (u16, Value) {
    antelope.server("POST", &format!("/v2/devices/state{query}"), &body).await
}

/// Numbers and states of the devices that were answered.
fn states(body: &Value) -> Vec<(u64, u64)> {
    let number = |device: &Value, name: &str| device[name].as_u64().unwrap();
    let devices = body["devices"].as_array().unwrap();
    devices.iter().map(|device| (number(device, "cid"), number(device, "state"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_ready_while_it_is_connected_and_else_offline() {
    let antelope = Antelope::new().await;
    let device = antelope.connect(BOB).await;
    drop(antelope.connect(HIGH).await);
    let asked = json!({ "cids": [HIGH, BOB, ANN] });
    let wanted = |bob| vec![(HIGH.into(), 0), (BOB.into(), bob), (ANN.into(), 0)];
    until("the states never came", async || {
        let (status, body) = state(&antelope, "", asked.clone()).await;
        assert_eq!(status, 200, "{body}");
        states(&body) == wanted(1)
    })
    .await;
    drop(device);
    until("it stays", async || states(&state(&antelope, "", asked.clone()).await.1) == wanted(0))
        .await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_every_field_of_the_document_and_a_start_text_that_is_not_empty() {
    let antelope = Antelope::new().await;
    let (status, body) = state(&antelope, "?page=1&size=20", json!({ "cids": [BOB] })).await;
    assert_eq!(status, 200, "{body}");
    assert!(!body["init_string"].as_str().unwrap().is_empty());
    assert_eq!((&body["total"], &body["page"], &body["size"]), (&json!(1), &json!(1), &json!(20)));
    let names: Vec<_> = body["devices"][0].as_object().unwrap().keys().cloned().collect();
    for (name, text) in [
        ("tracker_ip", true),
        ("tracker_port", false),
        ("public_ip", true),
        ("public_port", false),
        ("local_ip", true),
        ("local_port", false),
        ("relay_ip", true),
        ("relay_port", false),
        ("config_type", false),
        ("conn_key", false),
        ("cover_url", true),
        ("rtmp_url", true),
        ("hls", true),
    ] {
        let value = &body["devices"][0][name];
        assert!(if text { value.is_string() } else { value.is_u64() }, "{name}: {value}");
    }
    assert_eq!(names.len(), 15, "{names:?}");
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_numbers_all_devices_that_ever_connected_are_answered_in_pages() {
    let antelope = Antelope::new().await;
    let cids = [BOB, ANN, HIGH, 5_000_000, 5_009_999];
    for cid in cids {
        drop(antelope.connect(cid).await);
    }
    for body in [json!({}), json!({ "cids": [] }), json!({ "cids": null })] {
        let mut seen = Vec::new();
        for page in 1..=3 {
            let query = format!("?page={page}&size=2");
            let (status, body) = state(&antelope, &query, body.clone()).await;
            assert_eq!((status, &body["total"]), (200, &json!(5)), "{body}");
            assert_eq!((&body["page"], &body["size"]), (&json!(page), &json!(2)));
            seen.extend(states(&body).into_iter().map(|(cid, _)| cid));
        }
        // In the order in which they first connected.
        assert_eq!(seen, cids.map(u64::from));
        let (_, beyond) = state(&antelope, "?page=4&size=2", body.clone()).await;
        assert_eq!(beyond["devices"], json!([]));
        let (_, whole) = state(&antelope, "", body).await;
        assert_eq!((states(&whole).len(), &whole["size"]), (5, &json!(100)));
    }
    // Those that are asked for come in pages too, as they were asked for.
    let asked = json!({ "cids": cids });
    let (_, body) = state(&antelope, "?size=2&page=2", asked).await;
    assert_eq!(
        (states(&body), &body["total"]),
        (vec![(HIGH.into(), 0), (5_000_000, 0)], &json!(5))
    );
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_more_than_100_is_406_and_what_makes_no_sense_400() {
    let antelope = Antelope::new().await;
    assert_eq!(state(&antelope, "?size=100", json!({})).await.0, 200);
    assert_eq!(state(&antelope, "?size=101", json!({})).await.0, 406);
    for query in ["?size=0", "?page=0", "?size=-1", "?page=x", "?size=", "?page=99999999999"] {
        assert_eq!(state(&antelope, query, json!({})).await.0, 400, "{query}");
    }
    for body in [
        json!({ "cids": BOB }),
        json!({ "cids": ["5003062"] }),
        json!({ "cids": [NOBODYS] }),
        json!({ "cids": [0] }),
        json!({ "cids": vec![BOB; 1_001] }),
        json!([[BOB]]),
    ] {
        assert_eq!(state(&antelope, "", body.clone()).await.0, 400, "{body:.80}");
    }
    let most = json!({ "cids": vec![BOB; 1_000] });
    let (status, body) = state(&antelope, "?page=4294967295&size=100", most).await;
    assert_eq!((status, &body["devices"]), (200, &json!([])));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_devices_and_their_number_are_read_from_an_index_of_their_own() {
    let antelope = Antelope::new().await;
    let mut backdoor = antelope.world.place.backdoor().await;
    for sql in [PAGE_OF_CIDS, COUNT_OF_CIDS] {
        let sql = sql.replace("$1", "'demo'").replace("$2", "100").replace("$3", "0");
        let plan: Vec<String> = match &mut backdoor {
            Backdoor::Sqlite(own) => {
                let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
                let rows: Vec<(i64, i64, i64, String)> =
                    sqlx::query_as(sql).fetch_all(own).await.unwrap();
                rows.into_iter().map(|row| row.3).collect()
            }
            // Of a table this small it reads all; that the index is there has to do.
            Backdoor::Postgres(own) => {
                let sql = "SELECT indexname::text FROM pg_indexes WHERE tablename = 'devices'";
                sqlx::query_scalar(sql).fetch_all(own).await.unwrap()
            }
        };
        // Counting may as well go by the numbers themselves.
        let own =
            |line: &String| ["devices_antelope", "devices_cid"].iter().any(|i| line.contains(i));
        assert!(plan.iter().any(own), "{plan:?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{plan:?}");
    }
    antelope.world.stop().await;
}

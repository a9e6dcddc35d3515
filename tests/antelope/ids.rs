//! `GET /v2/devices/ids`: the numbers that the app's devices may have.

use serde_json::json;

use super::{ANN, Antelope, HIGH, token};

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_ranges_are_shown_closed_in_the_words_of_both_editions() {
    let antelope = Antelope::new().await;
    let (status, mut body) = antelope.server("GET", "/v2/devices/ids", &json!(null)).await;
    assert_eq!(status, 200, "{body}");
    body.as_object_mut().unwrap().remove("request_id");
    assert_eq!(
        body,
        json!({
            "app_id": "Demo",
            "cids": [
                { "begin": 5_000_000, "end": 5_009_999, "usage": 1 },
                { "begin": HIGH, "end": HIGH + 9, "usage": 1 },
            ],
            "segments": [
                { "from": 5_000_000, "to": 5_009_999 },
                { "from": HIGH, "to": HIGH + 9 },
            ],
        })
    );
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_may_not_ask() {
    let antelope = Antelope::new().await;
    let token = token(ANN);
    for (method, path) in [
        ("GET", "/v2/devices/ids"),
        ("GET", "/v2/apps/webhook"),
        ("POST", "/v2/apps/webhook"),
        ("POST", "/v2/devices/state"),
        ("POST", "/v2/devices/tokens"),
    ] {
        let headers = [("X-Client-Token", &*token)];
        assert_eq!(antelope.raw(method, path, &headers, b"{}").await.0, 401, "{path}");
    }
    antelope.world.stop().await;
}

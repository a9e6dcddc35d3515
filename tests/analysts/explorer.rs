//! The explorer page in a real browser: it loads nothing from elsewhere, runs a query and shows the
//! answer. Needs Chromium, which `tests/run` installs; only there is it a fault if there is none.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::harness::{ADMIN_TOKEN, PATIENCE, World, until};

/// Longest start of a browser on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A headless browser with one page; it ends with the test.
struct Browser {
    process: Child,
    page: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn installed() -> Option<&'static str> {
    let names = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    names.into_iter().find(|name| Path::new(name).exists())
}

impl Browser {
    async fn open(program: &str, profile: &Path) -> Browser {
        let mut command = Command::new(program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
        command.arg("--remote-debugging-port=0");
        command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let file = profile.join("DevToolsActivePort");
        let page = tokio::time::timeout(START, async {
            loop {
                let port = std::fs::read_to_string(&file).unwrap_or_default();
                if let Some(port) = port.lines().next()
                    && let Some(url) = first_page(port).await
                {
                    return tokio_tungstenite::connect_async(url).await.unwrap().0;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Browser { process, page: page.await.expect("the browser did not start"), calls: 0 }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let call = json!({ "id": self.calls, "method": method, "params": params });
        self.page.send(Message::text(call.to_string())).await.unwrap();
        let answered = async {
            loop {
                let Some(Ok(message)) = self.page.next().await else { panic!("it went") };
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["id"] == self.calls {
                    return message["result"].clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("the browser does not answer")
    }

    /// The value of an expression on the page.
    async fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", params).await["result"]["value"].clone()
    }
}

/// Where the first page of a browser can be talked to.
async fn first_page(port: &str) -> Option<String> {
    let list = reqwest::get(format!("http://127.0.0.1:{port}/json/list")).await.ok()?;
    let list: Value = serde_json::from_slice(&list.bytes().await.ok()?).ok()?;
    let page = list.as_array()?.iter().find(|target| target["type"] == "page")?;
    page["webSocketDebuggerUrl"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_run_on_the_explorer_page_shows_its_answer() {
    let Some(program) = installed() else {
        // A machine without a browser still tests everything else.
        assert!(std::env::var_os("PUSHLEDGER_TEST_BROWSER").is_none(), "Chromium is missing");
        return;
    };
    let world = World::new().await;
    world.register("c-1").await;
    world.push("c-1", json!({ "n": 1 })).await;
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::open(program, profile.path()).await;
    browser.call("Page.enable", json!({})).await;
    browser.call("Page.navigate", json!({ "url": format!("{}/graphql", world.url) })).await;
    let loaded = "document.readyState === 'complete' && !!document.getElementById('run')";
    until("the page did not load", async || browser.value(loaded).await == true).await;
    let elsewhere = "performance.getEntriesByType('resource').map(r => r.name)\
                     .filter(n => !n.startsWith(location.origin)).length";
    assert_eq!(browser.value(elsewhere).await, 0);
    let query = "{ app(appId: \\\"demo\\\") { name devices { nodes { clientId } } } }";
    let run = format!(
        "document.getElementById('token').value = '{ADMIN_TOKEN}'; \
         document.getElementById('query').value = \"{query}\"; \
         document.getElementById('run').click()"
    );
    browser.value(&run).await;
    let answer = "document.getElementById('answer').textContent";
    until("no answer is shown", async || {
        let shown = browser.value(answer).await;
        let shown: Value =
            serde_json::from_str(shown.as_str().unwrap_or_default()).unwrap_or_default();
        shown["data"]["app"]["devices"]["nodes"] == json!([{ "clientId": "c-1" }])
    })
    .await;
    // The query that it begins with is a good one, and so is its look at the schema.
    browser.call("Page.reload", json!({})).await;
    let again = format!("{loaded} && document.getElementById('answer').textContent === ''");
    until("the page did not load again", async || browser.value(&again).await == true).await;
    let token = format!("document.getElementById('token').value = '{ADMIN_TOKEN}';");
    let buttons =
        [("run", "\"appId\": \"demo\""), ("statistics", "\"begins\""), ("schema", "WhyNotSent")];
    for (button, wanted) in buttons {
        browser.value(&format!("{token} document.getElementById('{button}').click()")).await;
        until("no answer is shown", async || {
            let shown = browser.value(answer).await;
            let shown = shown.as_str().unwrap_or_default();
            shown.contains(wanted) && !shown.contains("\"errors\"")
        })
        .await;
    }
    drop(browser);
    world.stop().await;
}

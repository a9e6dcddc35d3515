//! Several nodes on one database, and a database that fails under them. What needs locks that
//! several processes share, or connections that can be cut, is asked of PostgreSQL only.

/// Ends a test that only PostgreSQL can be asked.
macro_rules! on_postgres {
    ($world:expr) => {
        if !$world.place.on_postgres() {
            // SQLite has one writer, and no connections that somebody else could cut.
            $world.stop().await;
            return;
        }
    };
}

mod lost;
mod numbers;
mod presence;
mod slow;
mod together;

use std::collections::{BTreeMap, HashMap};

use domain::{Event, Recorded, Stream};
use projections::Fault;
use pushledger::app::Running;
use serde_json::{Value, json};
use sim::Caller;

use crate::harness::World;

const PUSH: &str = "/umse/v2/msgPush";

/// The same caller at another node.
fn at(node: &Running, caller: &Caller) -> Caller {
    Caller { base_url: format!("http://{}", node.address), ..caller.clone() }
}

fn to(client: &str, message: Value) -> Value {
    json!({ "dst": { "type": 0, "Id": [client] }, "message": message })
}

/// Everything that was ever recorded, which has to be in order and without holes.
async fn history(world: &World) -> Vec<Recorded> {
    let ledger = &world.running.server.ledger;
    let page = loop {
        // A connection that was cut is noticed only when it is used.
        match ledger.read(0, i64::MAX).await {
            Ok(page) => break page,
            Err(fault) => assert!(matches!(fault, Fault::Database(_)), "{fault}"),
        }
    };
    assert_eq!(page.unreadable, []);
    let mut versions: HashMap<String, i64> = HashMap::new();
    for (index, event) in page.events.iter().enumerate() {
        assert_eq!(event.position, i64::try_from(index).unwrap() + 1);
        assert!(index == 0 || page.events[index - 1].recorded_at <= event.recorded_at);
        let version = versions.entry(event.stream.to_string()).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "{}", event.stream);
    }
    page.events
}

/// Where each message was accepted.
fn accepted(events: &[Recorded]) -> BTreeMap<String, i64> {
    let push = |recorded: &Recorded| match (&recorded.stream, &recorded.event) {
        (Stream::Message(id), Event::MessageAccepted(_)) => {
            Some((id.to_string(), recorded.position))
        }
        _ => None,
    };
    events.iter().filter_map(push).collect()
}

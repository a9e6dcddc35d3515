//! Statistics are what a plain fold of the ledger's events counts, whatever they are told apart by, and
//! the export says the same.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, TimeZone, Timelike, Utc};
use domain::{
    message::{Ending, MessageId, Protocol, Stage},
    task::state::Way,
};
use graphql::statistics::{
    ask::{self, Asked, Bucket, Filter, Group, Key},
    tally::{Converted, Split, Tally},
};
use projections::{
    delivery_stats::{self, Cell},
    histogram::bucket_of,
    latency::Step,
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use super::{
    answer,
    fold::{Naive, naive},
    label, operator, push, user,
};
use crate::{
    audit::through_an_export,
    harness::{PACKAGE, PATIENCE, World, merge, ok, registration},
    tasks,
    views::{Bare, live},
};

/// Reasons that are asked for.
const REASONS: [Ending; 5] = [
    Ending::ExpiredOffline,
    Ending::Unregistered,
    Ending::OwnerChanged,
    Ending::Recalled,
    Ending::NotPresent,
];

type Counted = (BTreeMap<Cell, i64>, BTreeMap<(Step, i64), i64>);

/// When the bucket begins that a time lies in, by the calendar alone.
fn begins(asked: &Asked, at: i64) -> Option<i64> {
    let local = DateTime::from_timestamp_micros(at).unwrap().with_timezone(&asked.zone);
    let midnight = |date: chrono::NaiveDate| {
        let midnight = date.and_hms_opt(0, 0, 0).unwrap();
        asked.zone.from_local_datetime(&midnight).earliest().unwrap().timestamp_micros()
    };
    let quarter = at - at.rem_euclid(900_000_000);
    Some(match asked.bucket {
        Bucket::Total => return None,
        Bucket::Quarter => quarter,
        Bucket::Hour => quarter - i64::from(local.minute() / 15) * 900_000_000,
        Bucket::Day => midnight(local.date_naive()),
        Bucket::Week => {
            let days = local.weekday().num_days_from_monday();
            midnight(local.date_naive() - chrono::Days::new(days.into()))
        }
    })
}

/// Checks what holds between the counts of a group, whatever they are.
fn add_up(tally: &Tally) {
    use Stage::{Accepted, Acknowledged, Displayed, Received, Routed, Sent};
    let stages = [Accepted, Routed, Sent, Received, Displayed, Acknowledged];
    for (at, to) in stages.into_iter().enumerate() {
        let Split { reached, pending, ended, unobservable } = tally.split(to);
        assert_eq!(reached + pending + ended + unobservable, tally.targets(), "{to:?}");
        assert_eq!(reached, tally.reached(to));
        for from in &stages[..=at] {
            assert!(reached <= tally.reached(*from), "more got to {to:?} than to {from:?}");
            let Converted { base, reached, left_out, left_out_reached } =
                tally.conversion(*from, to);
            assert_eq!(base + left_out, tally.reached(*from), "{from:?} to {to:?}");
            assert_eq!(reached + left_out_reached, tally.reached(to), "{from:?} to {to:?}");
            assert!(reached <= base && left_out_reached <= left_out);
        }
    }
    assert_eq!(tally.reasons(false).values().sum::<i64>(), tally.ended());
}

/// The answer to a question, counted by hand.
fn by_hand(deliveries: &[Naive], asked: &Asked) -> BTreeMap<Group, Counted> {
    let by = |key| asked.keys.contains(&key);
    let vendor = |way: Way| match way {
        Way::Vendor(vendor) => Some(vendor),
        Way::Online | Way::Undecided => None,
    };
    let mut groups: BTreeMap<Group, Counted> = BTreeMap::new();
    for delivery in deliveries {
        if !(asked.from..asked.to).contains(&delivery.accepted_at) {
            continue;
        }
        fn any<T: PartialEq>(list: &Option<Vec<T>>, own: Option<&T>) -> bool {
            list.as_ref().is_none_or(|list| own.is_some_and(|own| list.contains(own)))
        }
        let filter = &asked.filter;
        if !any(&filter.protocols, Some(&delivery.protocol))
            || !any(&filter.tasks, delivery.task.map(MessageId).as_ref())
            || !any(&filter.labels, delivery.label.as_ref())
        {
            continue;
        }
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let types = asked.filter.device_types.as_ref();
        if types.is_some_and(|types| !types.contains(&delivery.kind.0)) {
            continue;
        }
        let packages = asked.filter.app_packages.as_ref();
        if packages.is_some_and(|packages| !packages.contains(&delivery.kind.1)) {
            continue;
        }
        let group = |way: Way| Group {
            begins: begins(asked, delivery.accepted_at),
            protocol: Some(delivery.protocol).filter(|_| by(Key::Protocol)),
            way: Some(way).filter(|_| by(Key::Channel)),
            vendor: vendor(way).filter(|_| by(Key::Vendor)),
            reason: delivery.cell.ended.filter(|_| by(Key::Reason)),
            label: delivery.label.clone().filter(|_| by(Key::Label)),
            task: delivery.task.filter(|_| by(Key::Task)),
            device_type: told(&delivery.kind.0).filter(|_| by(Key::DeviceType)),
            app_package: told(&delivery.kind.1).filter(|_| by(Key::AppPackage)),
        };
        let wanted = |way: &Way| asked.filter.ways.as_ref().is_none_or(|ways| ways.contains(way));
        if wanted(&delivery.cell.way) && any(&filter.reasons, delivery.cell.ended.as_ref()) {
            let counted = groups.entry(group(delivery.cell.way)).or_default();
            *counted.0.entry(delivery.cell).or_default() += 1;
        }
        for (way, step, millis) in delivery.took.iter().filter(|(way, ..)| wanted(way)) {
            let counted = groups.entry(group(*way)).or_default();
            // Times are not kept by reason.
            if !by(Key::Reason) && filter.reasons.is_none() {
                *counted.1.entry((*step, bucket_of(*millis))).or_default() += 1;
            }
        }
    }
    groups.retain(|_, counted| !counted.0.is_empty());
    groups
}

/// Questions about a range from a time on, and about some of these tasks.
fn questions(
    zones: &'static [&'static str],
    from: i64,
    ids: Vec<MessageId>,
) -> impl Strategy<Value = Asked> {
    let buckets = [Bucket::Quarter, Bucket::Hour, Bucket::Day, Bucket::Week, Bucket::Total];
    let keys = [
        Key::Protocol,
        Key::Channel,
        Key::Vendor,
        Key::Reason,
        Key::Task,
        Key::Label,
        Key::DeviceType,
        Key::AppPackage,
    ];
    let keys = proptest::sample::subsequence(keys.to_vec(), 0..=4);
    let types = proptest::sample::subsequence(vec!["01".to_owned(), "08".to_owned()], 1..=2);
    let types = proptest::option::weighted(0.2, types);
    let packages = proptest::option::weighted(0.2, Just(vec![PACKAGE.to_owned()]));
    let ways = proptest::option::of(Just(vec![Way::Online]));
    let protocols = proptest::sample::subsequence(vec![Protocol::Ums, Protocol::Easemob], 1..=2);
    let protocols = proptest::option::weighted(0.2, protocols);
    let reasons = proptest::sample::subsequence(REASONS.to_vec(), 1..=REASONS.len());
    let reasons = proptest::option::weighted(0.2, reasons);
    let most = ids.len();
    let tasks = proptest::option::weighted(0.2, proptest::sample::subsequence(ids, 1..=most));
    let labels = proptest::sample::select(vec!["daily", "nobody's"]);
    let labels = proptest::option::weighted(0.2, labels.prop_map(|name| vec![name.to_owned()]));
    let bucket = proptest::sample::select(buckets.to_vec());
    let zone = proptest::sample::select(zones);
    let of_devices = (ways, types, packages);
    let of_pushes = (protocols, reasons, tasks, labels);
    (bucket, keys, of_devices, of_pushes, zone, 0_i64..8, 1_i64..200).prop_map(
        move |(bucket, keys, of_devices, of_pushes, zone, skip, quarters)| {
            let (ways, device_types, app_packages) = of_devices;
            let (protocols, reasons, tasks, labels) = of_pushes;
            let quarter = 900_000_000;
            let from = from - from.rem_euclid(quarter) + skip * quarter;
            let at = |micros| DateTime::<Utc>::from_timestamp_micros(micros).unwrap();
            let range = (at(from), at(from + quarters * quarter));
            let filter =
                Filter { protocols, ways, reasons, tasks, labels, device_types, app_packages };
            Asked::new(range, bucket, keys, filter, Some(zone)).unwrap()
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn any_question_is_answered_as_a_plain_fold_of_the_events_answers_it() {
    let world = World::with_clock().await;
    let from = world.clock.now();
    label(&world, "demo", "daily").await;
    user(&world, "demo", "nora", "daily").await;
    // A speaker, which says later that it is a mirror.
    for kind in ["08", "07"] {
        let mut body = registration("speaker");
        merge(&mut body, json!({ "deviceType": kind }));
        ok(&world.terminal("speaker"), "/ums/v2/register", &body).await;
    }
    live(&world, 3, 240).await;
    world.push("speaker", json!({ "n": 1 })).await;
    let mut walker = world.connect(&world.register("walker").await).await;
    for _ in 0..2 {
        let audience = domain::task::TaskAudience::Label("daily".to_owned());
        let new = tasks::task(audience, domain::route::Strategy::OnlineElseKept);
        let limits = domain::task::TaskLimits { running: 1_000, created: 1_000 };
        let new = pushledger::delivery::tasks::NewTask { limits, ..new };
        let task = tasks::create(&world, new).await;
        super::ended(&world, task).await;
        push(&world, "demo", &["nora"]).await;
        for stage in [3, 4] {
            let message = world.push("walker", json!({ "n": stage })).await;
            // Tasks for everyone come too.
            loop {
                let came = walker.next_within(PATIENCE).await.expect("nothing came");
                if matches!(came, sim::Incoming::Message { id, .. } if id == message) {
                    break;
                }
            }
            world.until_status(&message, 2).await;
            for stage in 3..=stage {
                world.clock.advance(std::time::Duration::from_millis(700));
                walker.report(&message, stage).await.unwrap();
                world.until_status(&message, stage.into()).await;
            }
        }
        // Into another day.
        world.clock.advance(std::time::Duration::from_secs(3_600 * 13));
    }
    drop(walker);
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    // The duties may still have things to end: nothing moves once the server is stopped.
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let views = bare.ledger.database().views.clone();
    let position = {
        let mut checkout = views.checkout().await.unwrap();
        delivery_stats::position(&mut checkout.conn()).await.unwrap()
    };
    let mut events = through_an_export(&bare, &place).await;
    events.retain(|event| event.position <= position);
    let deliveries = naive(&events);
    assert!(deliveries.len() > 100, "{} deliveries", deliveries.len());
    assert!(deliveries.iter().any(|delivery| delivery.label.is_some()));
    for kind in ["", "01", "08"] {
        for task in [true, false] {
            let own = |d: &&Naive| d.kind.0 == kind && d.task.is_some() == task;
            assert!(deliveries.iter().any(|d| own(&d)), "{kind:?} {task}");
        }
    }
    let measured = |step| deliveries.iter().any(|d| d.took.iter().any(|took| took.1 == step));
    assert!(Step::ALL.into_iter().all(measured));
    let ids: BTreeSet<MessageId> =
        deliveries.iter().filter_map(|delivery| delivery.task.map(MessageId)).collect();
    let ids: Vec<MessageId> = ids.into_iter().collect();
    let ended = |reason: &&Ending| deliveries.iter().any(|d| d.cell.ended == Some(**reason));
    assert!(REASONS.iter().filter(ended).count() >= 2, "endings are hardly told apart");
    const ZONES: &[&str] = &["UTC", "Asia/Shanghai", "Asia/Kathmandu", "America/St_Johns"];
    let handle = tokio::runtime::Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { cases: 160, failure_persistence: None, ..Default::default() };
        TestRunner::new(config)
            .run(
                &(questions(ZONES, from, ids), 0..=position, any::<bool>()),
                |(asked, then, past)| {
                    // As of a position what counts are the events up to it.
                    let as_of = past.then_some(then);
                    let asked = Asked { as_of, ..asked };
                    let read = handle.block_on(ask::read(&views, "demo", &asked)).unwrap();
                    prop_assert_eq!(read.position, as_of.unwrap_or(position));
                    let known = events.partition_point(|event| event.position <= read.position);
                    let then = past.then(|| naive(&events[..known]));
                    let deliveries = then.as_ref().unwrap_or(&deliveries);
                    let told: BTreeMap<Group, Counted> = read
                        .groups
                        .into_iter()
                        .map(|(group, tally)| {
                            add_up(&tally);
                            let times = tally.latencies.into_iter().flatten();
                            let times = times.flat_map(|(step, histogram)| {
                                histogram
                                    .into_iter()
                                    .map(move |(bucket, count)| ((step, bucket), count))
                            });
                            (group, (tally.cells, times.collect()))
                        })
                        .collect();
                    prop_assert_eq!(told, by_hand(deliveries, &asked));
                    Ok(())
                },
            )
            .map_err(Box::new)
    });
    checked.await.unwrap().unwrap();
    bare.close().await;
}

#[test]
fn days_and_hours_are_those_of_the_zone_also_where_it_changes() {
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    for (zone, from, to) in [
        ("America/New_York", "2026-03-01T05:00:00Z", "2026-03-20T00:00:00Z"),
        ("Europe/Berlin", "2026-10-20T00:00:00Z", "2026-11-05T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-03-30T00:00:00Z", "2026-04-10T00:00:00Z"),
        ("America/Santiago", "2026-08-30T00:00:00Z", "2026-09-12T00:00:00Z"),
    ] {
        for bucket in [Bucket::Quarter, Bucket::Hour, Bucket::Day, Bucket::Week] {
            let range = (at(from), at(to));
            let asked = Asked::new(range, bucket, vec![], Filter::default(), Some(zone)).unwrap();
            let spans = asked.spans();
            assert_eq!((spans[0].from, spans.last().unwrap().to), (asked.from, asked.to));
            assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from), "{zone}");
            let parts = asked.slices(7);
            assert_eq!((parts[0].from, parts.last().unwrap().to), (asked.from, asked.to));
            assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from), "{zone}");
            if bucket == Bucket::Day || bucket == Bucket::Week {
                for part in &parts[1..] {
                    let begin = DateTime::from_timestamp_micros(part.from).unwrap();
                    let local = begin.with_timezone(&asked.zone);
                    // Santiago skips the midnight on which its summer begins.
                    assert!(local.hour() <= 1 && local.minute() == 0, "{zone} {local}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_observe_is_neither_pending_nor_zero() {
    let post = crate::vendors::Post::new().await;
    let world = &post.world;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({ "n": 1 })).await;
    world.until_status(&id, 1).await;
    let shown =
        |stage: &str| format!("stage(of: {stage}) {{ reached pending ended unobservable }}");
    let query = format!(
        "{{ app(appId: \"demo\") {{ funnel(of: {{ message: \"{id}\" }}) {{ counts {{ targets {} \
         conversion(from: SENT, to: DISPLAYED) {{ base reached rate leftOut leftOutReached }} }} }} \
         deliveryStats(range: {{ from: \"2023-01-01T00:00:00Z\" }}, groupBy: [CHANNEL, VENDOR]) \
         {{ rows {{ channel vendor counts {{ {} latencies {{ step deliveries }} }} }} }} }} }}",
        shown("RECEIVED"),
        shown("SENT"),
    );
    let seen = world.graphql(&query).await["app"].clone();
    let counts = &seen["funnel"]["counts"];
    let unobservable = json!({ "reached": 0, "pending": 0, "ended": 0, "unobservable": 1 });
    assert_eq!(counts["stage"], unobservable);
    let nothing =
        json!({ "base": 0, "reached": 0, "rate": null, "leftOut": 1, "leftOutReached": 0 });
    assert_eq!(counts["conversion"], nothing);
    let row = &seen["deliveryStats"]["rows"][0];
    assert_eq!((&row["channel"], &row["vendor"]), (&json!("JPUSH"), &json!("JPUSH")));
    assert_eq!(row["counts"]["stage"]["reached"], 1);
    assert_eq!(row["counts"]["latencies"][0], json!({ "step": "HANDED_OVER", "deliveries": 1 }));
    // What the device says by itself counts, and stays out of the rate.
    let report = json!({ "appPackage": crate::harness::PACKAGE, "msgId": id, "status": 3 });
    ok(&caller, "/ums/v2/report", &report).await;
    let counts = world.graphql(&query).await["app"]["funnel"]["counts"].clone();
    assert_eq!(counts["stage"]["reached"], 1);
    assert_eq!(counts["conversion"]["leftOutReached"], 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_sent_has_its_reason() {
    let world = World::with_clock().await;
    label(&world, "demo", "news").await;
    user(&world, "demo", "ann", "news").await;
    push(&world, "demo", &["ann"]).await;
    let query = "{ app(appId: \"demo\") { whyNotSent(range: { from: \"2023-01-01T00:00:00Z\" }) \
                 { targets sent pending reasons { reason deliveries } } } }";
    let waiting = json!({ "targets": 1, "sent": 0, "pending": 1, "reasons": [] });
    assert_eq!(world.graphql(query).await["app"]["whyNotSent"], waiting);
    world.clock.advance(std::time::Duration::from_secs(61));
    crate::harness::until("it never expired", async || {
        let seen = world.graphql(query).await["app"]["whyNotSent"].clone();
        seen == json!({ "targets": 1, "sent": 0, "pending": 0,
                        "reasons": [{ "reason": "EXPIRED_OFFLINE", "deliveries": 1 }] })
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_export_says_what_the_query_says_to_those_who_may_ask() {
    let world = World::with_clock().await;
    label(&world, "demo", "=news, \"daily\"").await;
    user(&world, "demo", "ann", "=news, \"daily\"").await;
    let audience = domain::task::TaskAudience::Label("=news, \"daily\"".to_owned());
    let new = tasks::task(audience, domain::route::Strategy::OnlineElseKept);
    let task = tasks::create(&world, new).await;
    super::ended(&world, task).await;
    for _ in 0..3 {
        push(&world, "demo", &["ann"]).await;
        world.clock.advance(std::time::Duration::from_secs(86_400));
    }
    let head = world.head().await;
    let get = async |token: &str, path: &str| {
        let request = reqwest::Client::new().get(format!("{}{path}", world.url));
        let answer = request.bearer_auth(token).send().await.unwrap();
        let position = answer.headers().get("ledger-position");
        let position = position.map_or(0, |text| text.to_str().unwrap().parse::<i64>().unwrap());
        (answer.status().as_u16(), position, answer.text().await.unwrap())
    };
    let of = |app: &str, question: &str| format!("/admin/v1/apps/{app}/export?{question}");
    let question = format!(
        "from=2023-11-01T00:00:00Z&bucket=hour&groupBy=label,protocol&timeZone=Asia/Shanghai&atLeast={head}"
    );
    let analyst = operator(&world, "analyst", Some("demo")).await;
    let (status, position, csv) = get(&analyst.token, &of("demo", &question)).await;
    assert_eq!(status, 200, "{csv}");
    assert!(position >= head);
    let query = "{ app(appId: \"demo\") { deliveryStats(range: { from: \"2023-11-01T00:00:00Z\" }, \
                 bucket: HOUR, groupBy: [LABEL, PROTOCOL], timeZone: \"Asia/Shanghai\") \
                 { rows { begins label counts { targets } } } } }";
    let seen = answer(&world, &analyst, query).await;
    let rows = seen["data"]["app"]["deliveryStats"]["rows"].as_array().unwrap().clone();
    let lines: Vec<&str> = csv.trim_end().split("\r\n").collect();
    assert!(lines[0].starts_with(
        "begins,protocol,channel,vendor,reason,task,label,device_type,app_package,targets,"
    ));
    assert_eq!(lines.len(), rows.len() + 1, "{csv}");
    for (line, row) in lines[1..].iter().zip(&rows) {
        let begins: DateTime<Utc> = row["begins"].as_str().unwrap().parse().unwrap();
        let begins = begins.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let label = match &row["label"] {
            Value::Null => "",
            _ => "\"'=news, \"\"daily\"\"\"",
        };
        let targets = &row["counts"]["targets"];
        let expected = format!("{begins},easemob,,,,,{label},,,{targets},");
        assert!(line.starts_with(&expected), "{line} is not {expected}");
    }
    // As it was, however often it is asked.
    push(&world, "demo", &["ann"]).await;
    let more = world.head().await;
    world.running.server.views.reached(more, PATIENCE).await.unwrap();
    let then = format!("{question}&asOf={position}");
    let (_, at, again) = get(&analyst.token, &of("demo", &then)).await;
    assert_eq!((at, &again), (position, &csv));
    let now = format!("{question}&asOf=2023-11-14T22:13:20Z");
    let (status, at, before) = get(&analyst.token, &of("demo", &now)).await;
    assert!(status == 200 && at < head && before.len() < csv.len(), "{at} {before}");
    assert!(get(&analyst.token, &of("demo", &question)).await.2.len() > csv.len());
    let auditor = operator(&world, "auditor", None).await;
    assert_eq!(get(&auditor.token, &of("demo", &question)).await.0, 403);
    assert_eq!(get(&analyst.token, &of("other", &question)).await.0, 404);
    for wrong in [
        "",
        "from=yesterday",
        "from=2023-11-01T00:00:00Z&bucket=year",
        "from=2023-11-01T00:00:00Z&groupBy=shoeSize",
        "from=2023-11-01T00:00:00Z&reasons=none",
        "from=2023-11-01T00:00:00Z&tasks=x",
        "from=2023-11-01T00:00:00Z&timeZone=Moon/Tycho",
        "from=2023-11-01T00:00:00Z&to=2022-11-01T00:00:00Z",
        "from=1973-11-01T00:00:00Z&to=2023-11-01T00:00:00Z",
        "from=2023-11-01T00:00:00Z&surprise=1",
        "from=2023-11-01T00:00:00Z&asOf=-1",
        "from=2023-11-01T00:00:00Z&asOf=1000000",
        "from=2023-11-01T00:00:00Z&asOf=2099-01-01T00:00:00Z",
        "from=2023-11-01T00:00:00Z&asOf=then",
    ] {
        assert_eq!(get(&analyst.token, &of("demo", wrong)).await.0, 400, "{wrong}");
    }
    world.stop().await;
}

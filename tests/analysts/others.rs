//! No field leaks another app's data: whatever an analyst of one app asks for with names and numbers
//! of another, nothing of that comes back.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{Event, Stream, route::Strategy, task::TaskAudience};
use serde_json::{Value, json};

use super::{another, answer, ended, given_up, label, operator, push, uplink, user};
use crate::{harness::World, tasks};

/// A type of the schema: its kind, fields with arguments and types, and values.
struct Types(BTreeMap<String, Value>);

/// Name of a type within its wrappers.
fn inner(reference: &Value) -> (&str, &str) {
    match &reference["ofType"] {
        Value::Null => (reference["kind"].as_str().unwrap(), reference["name"].as_str().unwrap()),
        of => inner(of),
    }
}

impl Types {
    async fn read(world: &World, operator: &sim::Admin) -> Types {
        let reference = "kind name ofType { kind name ofType { kind name ofType { kind name ofType \
                         { kind name } } } }";
        let query = format!(
            "{{ __schema {{ types {{ kind name enumValues {{ name }} \
             inputFields {{ name type {{ {reference} }} }} fields {{ name \
             args {{ name type {{ {reference} }} defaultValue }} type {{ {reference} }} }} }} }} }}"
        );
        let seen = answer(world, operator, &query).await;
        let types = seen["data"]["__schema"]["types"].as_array().unwrap().iter();
        let named = types.map(|own| (own["name"].as_str().unwrap().to_owned(), own.clone()));
        Types(named.collect())
    }

    /// All that can be asked of a type, arguments aside, some levels deep.
    fn selection(&self, name: &str, depth: usize, guess: &Guess) -> String {
        let mut text = String::new();
        for field in self.0[name]["fields"].as_array().into_iter().flatten() {
            let (kind, own) = inner(&field["type"]);
            let scalar = kind == "SCALAR" || kind == "ENUM";
            if !scalar && depth == 0 {
                continue;
            }
            let Some(arguments) = self.arguments(field, guess) else { continue };
            let name = field["name"].as_str().unwrap();
            if scalar {
                let _ = write!(text, " {name}{arguments}");
                continue;
            }
            let below = self.selection(own, depth - 1, guess);
            if !below.is_empty() {
                let _ = write!(text, " {name}{arguments} {{{below} }}");
            }
        }
        text
    }

    /// Arguments of a field, guessed; optional ones only where a guess fits.
    fn arguments(&self, field: &Value, guess: &Guess) -> Option<String> {
        let mut given = Vec::new();
        for argument in field["args"].as_array().unwrap() {
            let (name, required) =
                (argument["name"].as_str().unwrap(), argument["type"]["kind"] == "NON_NULL");
            let required = required && argument["defaultValue"].is_null();
            match self.value(name, &argument["type"], guess) {
                Some(value) if required || guess.optional || name == "first" => {
                    given.push(format!("{name}: {value}"))
                }
                None if required => return None,
                _ => {}
            }
        }
        Some(if given.is_empty() { String::new() } else { format!("({})", given.join(", ")) })
    }

    fn value(&self, name: &str, reference: &Value, guess: &Guess) -> Option<String> {
        let (kind, own) = inner(reference);
        let value = match (name, kind, own) {
            ("first", ..) => "2".to_owned(),
            ("atLeast", ..) => return None,
            ("after", _, "String") => format!("\"{}\"", guess.after.as_ref()?),
            ("groupBy", ..) => "[TASK, LABEL, DEVICE_TYPE, APP_PACKAGE]".to_owned(),
            ("filter", _, "StatsFilter") => match guess.funnel.starts_with("task") {
                true => format!("{{ tasks: [\"{}\"] }}", guess.id),
                false => format!("{{ labels: [\"{}\"] }}", guess.name),
            },
            ("filter", ..) => "{ outcome: ANSWERED }".to_owned(),
            ("outcome", _, "CallbackOutcome") => "GIVEN_UP".to_owned(),
            ("appId", ..) => format!("\"{}\"", guess.app),
            ("share", ..) => "0.5".to_owned(),
            ("from", "ENUM", _) => "ACCEPTED".to_owned(),
            ("to", "ENUM", _) => "RECEIVED".to_owned(),
            ("stream", ..) => format!("\"{}\"", guess.stream),
            ("of", "INPUT_OBJECT", _) => format!("{{ {} }}", guess.funnel),
            ("range", ..) => {
                "{ from: \"2023-01-01T00:00:00Z\", to: \"2025-01-01T00:00:00Z\" }".to_owned()
            }
            ("timeZone", ..) => "\"UTC\"".to_owned(),
            ("types", ..) => return None,
            (_, "SCALAR", "Int") => guess.number.to_string(),
            (_, "SCALAR", "ID") => format!("\"{}\"", guess.id),
            (_, "SCALAR", "String") => format!("\"{}\"", guess.name),
            (_, "ENUM", own) => self.0[own]["enumValues"][0]["name"].as_str()?.to_owned(),
            _ => return None,
        };
        Some(value)
    }
}

/// What stands in for arguments.
struct Guess {
    app: String,
    id: String,
    number: i64,
    name: String,
    stream: String,
    funnel: String,
    optional: bool,
    as_of: Option<i64>,
    after: Option<String>,
}

/// What the other app has, and nobody else may be told.
struct Secrets {
    texts: Vec<String>,
    guesses: Vec<Guess>,
}

async fn fill(world: &World, app: &str, mark: &str) -> Secrets {
    let name = |what: &str| format!("{mark}-{what}");
    label(world, app, &name("label")).await;
    user(world, app, &name("ann"), &name("label")).await;
    let message = push(world, app, &[&name("ann")]).await;
    uplink(world, app, &name("phone"), &name("content")).await;
    let receiver = given_up(world, app, world.head().await).await;
    let new = tasks::task(TaskAudience::Label(name("label")), Strategy::OnlineElseKept);
    let context = pushledger::ledger::Context { app: app.to_owned(), ..Default::default() };
    let server = &world.running.server;
    let (task, _) = pushledger::delivery::tasks::create(server, context, new).await.unwrap();
    ended(world, task).await;
    let events = server.ledger.read(0, i64::MAX).await.unwrap().events;
    let own: Vec<_> = events.iter().filter(|event| event.app == app).collect();
    let number = own.iter().find(|event| matches!(event.event, Event::DeviceBound(_)));
    let number = number.unwrap().position;
    let mut texts = vec![mark.to_owned(), message.to_string(), task.to_string()];
    texts.push(receiver.to_string());
    texts.extend(own.iter().filter_map(|event| match &event.stream {
        Stream::App(_) => None,
        stream => Some(stream.to_string().split('/').nth(1).unwrap().to_owned()),
    }));
    let guess = |funnel: String, called: &str, optional, stream: String| Guess {
        app: "demo".to_owned(),
        id: if funnel.starts_with("task") { task.to_string() } else { message.to_string() },
        number,
        name: name(called),
        stream,
        funnel,
        optional,
        as_of: None,
        after: None,
    };
    let mut guesses = Vec::new();
    for (called, optional) in [("ann", false), ("ann", true), ("label", true)] {
        for funnel in [
            format!("message: \"{message}\""),
            format!("task: \"{task}\""),
            format!("label: \"{}\"", name("label")),
        ] {
            guesses.push(guess(funnel, called, optional, Stream::Message(message).to_string()));
        }
    }
    let label_of = format!("label: \"{}\"", name("label"));
    for event in &own {
        guesses.push(guess(label_of.clone(), "ann", true, event.stream.to_string()));
    }
    // As of a position at which all of it was there, and after an item of a list of its own.
    let begin = URL_SAFE_NO_PAD.encode(format!("{}:{receiver}", number + 1_000));
    for more in [(Some(world.head().await), None), (None, Some(begin))] {
        for (called, funnel) in [("ann", format!("task: \"{task}\"")), ("label", label_of.clone())]
        {
            let (as_of, after) = more.clone();
            let stream = Stream::Message(message).to_string();
            guesses.push(Guess { as_of, after, ..guess(funnel, called, true, stream) });
        }
    }
    Secrets { texts, guesses }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_tells_the_analyst_of_one_app_anything_of_another() {
    let world = World::with_clock().await;
    another(&world, "other").await;
    let own = fill(&world, "demo", "mine").await;
    let others = fill(&world, "other", "zqx").await;
    let auditor = operator(&world, "auditor", Some("demo")).await;
    let types = Types::read(&world, &auditor).await;
    // Every field of an app, and every other way into the schema.
    let fields = |of: &str| types.0[of]["fields"].as_array().unwrap().clone();
    let others_than_apps =
        |field: &Value| !["app", "apps", "asOf"].contains(&field["name"].as_str().unwrap());
    let ask = async |guess: &Guess| {
        let app = format!("app(appId: \"{}\")", guess.app);
        let mut ways = vec![(fields("App"), format!("{{ {app} {{"), "} }")];
        if let Some(position) = guess.as_of {
            let then = format!("{{ asOf(moment: {position}) {{ {app} {{");
            ways.push((fields("AppAsOf"), then, "} } }"));
        }
        let beside = fields("Query").into_iter().filter(others_than_apps).collect();
        ways.push((beside, "{".to_owned(), "}"));
        let all = ways.iter().flat_map(|(fields, begin, end)| {
            fields.iter().map(move |field| (field, begin.as_str(), *end))
        });
        let mut seen = String::new();
        for (field, begin, end) in all {
            let (kind, name) = inner(&field["type"]);
            let Some(arguments) = types.arguments(field, guess) else { continue };
            let below = match kind {
                "SCALAR" | "ENUM" => String::new(),
                _ => format!("{{{} }}", types.selection(name, 3, guess)),
            };
            let field = field["name"].as_str().unwrap();
            let query = format!("{begin} {field}{arguments} {below} {end}");
            let told = answer(&world, &auditor, &query).await;
            if let Some(error) = told["errors"][0]["message"].as_str() {
                assert!(
                    !error.contains("Unknown") && !error.contains("Invalid"),
                    "{error}: {query}"
                );
                assert!(!error.contains("complex"), "{error}: {query}");
            }
            seen += &told["data"].to_string();
        }
        seen
    };
    // With its own names and numbers it is told of all of them: the questions are good.
    let mut all = String::new();
    for guess in own.guesses.iter().take(9) {
        all += &ask(guess).await;
    }
    for text in own.texts.iter().take(4) {
        assert!(all.contains(text), "{text} is never told");
    }
    // With the other's it is told nothing.
    for guess in &others.guesses {
        let seen = ask(guess).await;
        for text in &others.texts {
            assert!(!seen.contains(text), "{text} is told: {seen:.2000}");
        }
    }
    // Nor is there any such app.
    for app in ["other", "nowhere"] {
        let guess = Guess { app: app.to_owned(), ..Guess::of(&others.guesses[0]) };
        let seen = ask(&guess).await;
        assert!(!seen.contains("zqx") && seen.contains("{\"app\":null}"), "{seen:.500}");
    }
    let everything = answer(&world, &auditor, "{ apps { appId } }").await;
    assert_eq!(everything["data"]["apps"], json!([{ "appId": "demo" }]));
    world.stop().await;
}

impl Guess {
    fn of(other: &Guess) -> Guess {
        Guess {
            app: other.app.clone(),
            id: other.id.clone(),
            number: other.number,
            name: other.name.clone(),
            stream: other.stream.clone(),
            funnel: other.funnel.clone(),
            optional: other.optional,
            as_of: other.as_of,
            after: other.after.clone(),
        }
    }
}

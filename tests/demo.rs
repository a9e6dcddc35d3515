//! The demo as a newcomer meets it: the real program, the calls that it prints, made as they are
//! printed, and what it tells of them.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
};

use serde_json::Value;

use crate::harness::{Place, until};

/// Longest wait for a line: a start registers thousands of users, and a crowd reports.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A demo, the lines that it prints, and what it logs.
struct Demo {
    child: Child,
    lines: Receiver<String>,
    /// All lines, whoever waits for which.
    heard: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<String>>,
    logging: Option<JoinHandle<()>>,
}

impl Demo {
    /// Starts a demo that logs as it is told to.
    fn start(place: &Place, level: Option<&str>) -> Demo {
        let config = place.config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
        command.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--data"]).arg(&config.data);
        command.args(["--database", &config.database]).env_remove("PUSHLEDGER_LOG");
        command.envs(level.map(|level| ("PUSHLEDGER_LOG", level)));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (printed, logged) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (told, lines) = channel();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            let lines = BufReader::new(printed).lines().map_while(Result::ok);
            // Who has heard enough has hung up.
            let lines = lines.inspect(|line| all.lock().unwrap().push(line.clone()));
            lines.map(|line| told.send(line)).all(|sent| sent.is_ok())
        });
        let log = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&log);
        let logging = std::thread::spawn(move || {
            for line in BufReader::new(logged).lines().map_while(Result::ok) {
                *into.lock().unwrap() += &(line + "\n");
            }
        });
        Demo { child, lines, heard, log, logging: Some(logging) }
    }

    /// Asks it to end (SIGTERM), which it has to do well; gives all that it logged.
    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "it did not end well");
        self.logging.take().unwrap().join().unwrap();
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// The lines up to the first that begins so, with that one.
    fn lines_to(&self, begin: &str) -> Vec<String> {
        self.lines_until(begin, |line| line.trim_start().starts_with(begin))
    }

    /// Waits until a line has that in it, whenever it was printed.
    async fn heard(&self, part: &str) {
        let found = async || self.heard.lock().unwrap().iter().any(|line| line.contains(part));
        until(&format!("no line had {part:?}"), found).await;
    }

    fn lines_until(&self, what: &str, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| {
                let log = self.log.lock().unwrap();
                panic!("no line was {what:?} ({error}) after {lines:#?} and {log}")
            });
            let found = is_last(&line);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the story of a message until the phone has answered it, and checks the order of its steps.
fn the_story_is_told_in_order(demo: &Demo, message: &str) {
    demo.lines_to(&format!("Message {message} from the app's server to 3 devices"));
    let told = demo.lines_until("phone-1 answered", |line| {
        line.contains("  answered ") && line.ends_with("  phone-1")
    });
    let place = |step: &str, who: &str| {
        let is = |line: &String| line.contains(&format!("  {step} ")) && line.contains(who);
        told.iter().position(is).unwrap_or_else(|| panic!("no {step} of {who} in {told:#?}"))
    };
    let steps = ["sent", "received", "displayed", "answered"].map(|step| place(step, "phone-1"));
    assert!(steps.is_sorted(), "{told:#?}");
    assert_eq!(place("accepted", "durable at position"), 0, "{told:#?}");
    assert!(place("kept", "tv-1   (not connected: it gets it when it comes)") < steps[0]);
}

/// The words of the calls among some lines, as a shell reads them.
fn calls(lines: &[String]) -> Vec<Vec<String>> {
    let text = lines.join("\n").replace("\\\n", " ");
    let calls = text.lines().filter(|line| line.starts_with("curl "));
    calls.map(words).collect()
}

/// The words of one line: bare, or in single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Makes a call as curl would.
async fn make(call: &[String]) -> Value {
    let (mut url, mut headers, mut body) = (String::new(), Vec::new(), None);
    let mut words = call.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-sS" => {}
            "-H" => headers.push(words.next().unwrap().split_once(": ").unwrap()),
            "-d" => body = words.next(),
            address => url = address.to_owned(),
        }
    }
    let client = reqwest::Client::new();
    let mut request = match body {
        Some(body) => client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.clone()),
        None => client.get(url),
    };
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{call:?}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// The numbers of a printed funnel by their names, and the reasons of its failures.
fn funnel(lines: &[String]) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
    let number = |text: &str| text.replace(',', "").parse::<i64>().ok();
    let (mut numbers, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, count, more @ ..] = words.as_slice() else { continue };
        let Some(count) = number(count).filter(|_| line.starts_with("    ")) else { continue };
        numbers.insert((*name).to_owned(), count);
        if *name == "failed" {
            let all = more.join(" ");
            for reason in all.split(", ").filter(|reason| !reason.is_empty()) {
                let (reason, count) = reason.split_once(' ').unwrap();
                reasons.insert(reason.to_owned(), number(count).unwrap());
            }
        }
    }
    (numbers, reasons)
}

/// Makes a printed push, and checks its funnel against itself and against the printed call for it.
async fn push(demo: &Demo, call: &[String], targets: i64, failing: &[&str]) -> i64 {
    make(call).await;
    let told = demo.lines_to("curl ");
    let (numbers, reasons) = funnel(&told);
    let of = |name: &str| numbers.get(name).copied().unwrap_or(0);
    assert_eq!(of("targets"), targets, "{told:#?}");
    assert_eq!(of("sent") + of("failed") + of("waiting"), targets, "{told:#?}");
    assert_eq!(reasons.values().sum::<i64>(), of("failed"), "{told:#?}");
    assert_eq!(reasons.keys().collect::<Vec<_>>(), failing, "{told:#?}");
    assert_eq!(of("received") + of("unobservable"), of("sent"), "{told:#?}");
    let steps = ["sent", "received", "displayed", "acknowledged"].map(of);
    assert!(steps.is_sorted_by(|one, next| one > next && *next > 0), "{steps:?}");

    let mut call =
        told.into_iter().skip_while(|line| !line.starts_with("curl ")).collect::<Vec<_>>();
    call.extend(demo.lines_to("-H"));
    let answer = make(&calls(&call)[0]).await;
    let same = ["targets", "sent", "received", "displayed", "acknowledged", "unobservable"];
    for name in same {
        assert_eq!(answer["data"][name], of(name), "{name}: {answer}");
    }
    of("failed")
}

/// Makes the printed calls that lead to callbacks, each of which is told with its sign verified.
async fn the_apps_server_is_told(demo: &Demo, printed: &[Vec<String>]) {
    for (path, code, told) in [
        ("/v4/openim/sendmsg", Some("ErrorCode"), "Callback Tencent (sign is right)"),
        ("/v2/message/client/push", None, "Callback Antelope device-message (sign is right)"),
        ("/uplink/v1/messages", None, "Callback UCloud uplink (no sign)"),
    ] {
        let call = printed.iter().find(|call| call[2].contains(path)).unwrap();
        let answer = make(call).await;
        assert!(code.is_none_or(|code| answer[code] == 0), "{answer}");
        demo.heard(told).await;
    }
    // Of the uplink a webhook is told too; and phone-1, linked as a cid, connected at the start.
    for told in ["Callback Webhook", "Callback Antelope device-state"] {
        demo.heard(&format!("{told} (sign is right)")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_calls_work_and_the_funnels_of_both_tasks_add_up() {
    let place = Place::new().await;
    let demo = Demo::start(&place, Some("info"));
    let introduced = demo.lines_to("Admin token");
    // A screen or two, whatever the demo's own beginnings cause.
    assert!(introduced.len() < 80, "{} lines", introduced.len());
    let printed = calls(&introduced);
    let of = |path: &str| printed.iter().find(|call| call[2].ends_with(path)).unwrap().clone();

    let answer = make(&of("/umse/v2/msgPush")).await;
    assert_eq!(answer["retCode"], "00000", "{answer}");
    let message = answer["data"]["msgId"].as_str().unwrap();
    the_story_is_told_in_order(&demo, message);

    push(&demo, &of("/push/list/label"), 2_000, &["no_binding"]).await;
    let failed = push(&demo, &of("/push/task"), 4_004, &["no_binding", "quota_exhausted"]).await;
    // A phone in 125, and the four UMS devices, have no token. JPush refused one call: that of a
    // chunk of 40, of whom one at most is such a phone.
    let refused = failed - (4_000 / 125 + 4);
    assert!((39..=40).contains(&refused), "{refused}");
    let answer = make(&of("/graphql")).await;
    assert_eq!(answer["data"]["app"]["messages"]["nodes"][0]["id"], message, "{answer}");
    the_apps_server_is_told(&demo, &printed).await;

    // The second start finds its users, and the app learns where JPush is now. Told nothing of
    // logs, it prints its lines and says nothing beside.
    assert!(demo.end().contains("\"address\""), "nothing was logged");
    let demo = Demo::start(&place, None);
    let introduced = demo.lines_to("Admin token");
    let title = introduced.iter().find(|line| line.contains("pushledger   http://")).unwrap();
    let printed = calls(&introduced);
    let url = title.split_whitespace().last().unwrap();
    assert!(printed.iter().all(|call| call.iter().any(|word| word.starts_with(url))), "{title}");
    let label = printed.iter().find(|call| call[2].ends_with("/push/list/label")).unwrap();
    push(&demo, label, 2_000, &["no_binding"]).await;
    assert_eq!(demo.end(), "");
}

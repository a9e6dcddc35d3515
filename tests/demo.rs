//! The demo as a newcomer meets it: the real program, the calls that it prints, made as they are
//! printed, and what it tells of them.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use serde_json::Value;

use crate::harness::{Place, Process};

/// Longest wait for a line: a start registers thousands of users, and a crowd reports.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A demo and the lines that it prints.
struct Demo {
    process: Process,
    lines: Receiver<String>,
}

impl Demo {
    async fn start(place: &Place) -> Demo {
        let config = place.config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
        command.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--data"]).arg(&config.data);
        command.args(["--database", &config.database]);
        command.env("PUSHLEDGER_LOG", "info").stdout(Stdio::piped());
        let mut process = Process::run(command).await;
        let printed = process.stdout().expect("a pipe");
        let (told, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(printed).lines().map_while(Result::ok);
            // Who has heard enough has hung up.
            lines.map(|line| told.send(line)).all(|sent| sent.is_ok())
        });
        Demo { process, lines }
    }

    /// The lines up to the first that begins so, with that one.
    fn lines_to(&self, begin: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| {
                panic!("no line began with {begin:?} ({error}) after {lines:#?}")
            });
            let found = line.trim_start().starts_with(begin);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }
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
        ("/v2/message/client/push", None, "Callback Antelope (sign is right)"),
        ("/uplink/v1/messages", None, "Callback UCloud uplink (no sign)"),
    ] {
        let call = printed.iter().find(|call| call[2].contains(path)).unwrap();
        let answer = make(call).await;
        assert!(code.is_none_or(|code| answer[code] == 0), "{answer}");
        demo.lines_to(told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_calls_work_and_the_funnels_of_both_tasks_add_up() {
    let place = Place::new().await;
    let demo = Demo::start(&place).await;
    let introduced = demo.lines_to("Admin token");
    let printed = calls(&introduced);
    let of = |path: &str| printed.iter().find(|call| call[2].ends_with(path)).unwrap().clone();

    let answer = make(&of("/umse/v2/msgPush")).await;
    assert_eq!(answer["retCode"], "00000", "{answer}");
    let message = answer["data"]["msgId"].as_str().unwrap();
    demo.lines_to(&format!("Message {message}"));

    push(&demo, &of("/push/list/label"), 2_000, &["no_binding"]).await;
    let failed = push(&demo, &of("/push/task"), 4_004, &["no_binding", "quota_exhausted"]).await;
    // A phone in 125, and the four UMS devices, have no token. JPush refused one call: that of a
    // chunk of 40, of whom one at most is such a phone.
    let refused = failed - (4_000 / 125 + 4);
    assert!((39..=40).contains(&refused), "{refused}");
    let answer = make(&of("/graphql")).await;
    assert_eq!(answer["data"]["app"]["messages"]["nodes"][0]["id"], message, "{answer}");
    the_apps_server_is_told(&demo, &printed).await;

    // The second start finds its users, and the app learns where JPush is now.
    assert!(demo.process.terminate().await);
    let demo = Demo::start(&place).await;
    let printed = calls(&demo.lines_to("Admin token"));
    let label = printed.iter().find(|call| call[2].ends_with("/push/list/label")).unwrap();
    push(&demo, label, 2_000, &["no_binding"]).await;
    assert!(demo.process.terminate().await);
}

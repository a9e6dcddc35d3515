//! UCloud's two pushes, as `docs/protocols/ucloud-uplink.md` words them: uplinks (`MsgType` 0) and
//! reports on deliveries (`MsgType` 2), in batches. The answer's `code` 0 is success. The protocol
//! has no id: a header names each entry, in order, so that a receiver can tell doubles.

use bytes::Bytes;
use domain::{
    Event, Recorded, Stream,
    callback::{Reason, Verdict},
    facts::{Fact, Key},
    message::{Message, Progress, RecallResult, Stage, Step},
    uplink::UplinkReceived,
};
use projections::Fault;
use serde::Serialize;

use super::kind::{Call, Entry, by_status};
use crate::{app::Server, outbound::Answer};

/// Header with the ids of the entries of a batch.
const IDS: &str = "x-entry-ids";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Uplink<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    extend_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    phone: &'a str,
    reply_content: &'a str,
    reply_time: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    session_no: String,
    phone: &'a str,
    cost_count: u32,
    receipt_time: i64,
    receipt_result: &'static str,
    receipt_code: &'a str,
    receipt_desc: &'a str,
}

pub(super) fn uplink_concerns(recorded: &Recorded) -> bool {
    matches!(recorded.event, Event::UplinkReceived(_))
}

pub(super) fn uplink_entry(recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    let Event::UplinkReceived(uplink) = &recorded.event else { return Ok(None) };
    let Some(private) = &uplink.private else { return Ok(None) };
    let content = text(uplink).unwrap_or_default();
    let body = json(&Uplink {
        extend_code: private.extend_code.as_deref(),
        user_id: private.user_id.as_deref(),
        phone: &private.from,
        reply_content: &content,
        reply_time: uplink.written_at,
    })?;
    Ok(Some(Entry {
        id: recorded.position.to_string(),
        order: 0,
        body: body.into(),
        query: String::new(),
    }))
}

/// What was written, as text: what is no text is its JSON.
pub(super) fn text(uplink: &UplinkReceived) -> Option<String> {
    let raw = uplink.private.as_ref()?.content.0.get();
    Some(serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned()))
}

pub(super) fn report_concerns(recorded: &Recorded) -> bool {
    matches!(recorded.event, Event::DeliveriesAdvanced(_) | Event::RecallRequested(_))
}

/// What became of a delivery: result, code and words.
type Told = (&'static str, &'static str, &'static str);

const DELIVERED: Told = ("发送成功", "Delivrd", "ok");

fn failed(reason: &'static str) -> Told {
    ("发送失败", reason, reason)
}

/// What a step means to who counts deliveries; nothing, if another said it or will say it.
fn told(step: &Step, before: Option<&Message>) -> Option<Told> {
    match step.what {
        Progress::Received => Some(DELIVERED),
        // A device may say so without ever having said that it received it.
        Progress::Displayed | Progress::Acknowledged => {
            let delivery = before?.deliveries.get(&step.device)?;
            (delivery.stage < Stage::Received).then_some(DELIVERED)
        }
        Progress::Ended(reason) => Some(failed(reason.name())),
        // What a vendor took is its to deliver, and mostly nobody tells whether it did.
        Progress::Sent => step.vendor.map(|vendor| ("状态未知", "Handed", vendor.name())),
        Progress::Failed(_) | Progress::Recalled(_) => None,
    }
}

/// A report for each delivery of which the event tells something.
pub(super) async fn report_entries(
    server: &Server,
    recorded: &Recorded,
) -> Result<Vec<Entry>, Fault> {
    let session = match &recorded.stream {
        Stream::Message(id) | Stream::Chunk(id, _) => *id,
        _ => return Ok(Vec::new()),
    };
    let before = before(server, recorded).await?;
    let mut all: Vec<(i64, Told)> = Vec::new();
    match &recorded.event {
        Event::DeliveriesAdvanced(e) => {
            for step in &e.steps {
                all.extend(told(step, before.as_ref()).map(|told| (step.device, told)));
            }
        }
        Event::RecallRequested(e) => {
            let stopped =
                |r: &&domain::message::Recalled| r.result == RecallResult::StoppedBeforeSending;
            let stopped = e.results.iter().filter(stopped);
            all.extend(stopped.map(|recalled| (recalled.device, failed("recalled"))));
        }
        _ => return Ok(Vec::new()),
    }
    let position = recorded.position;
    let mut entries = Vec::with_capacity(all.len());
    for (index, (device, told)) in all.into_iter().enumerate() {
        let (receipt_result, receipt_code, receipt_desc) = told;
        let Fact::Devices(found) = server.ledger.remembered(Key::Device(device)).await? else {
            continue;
        };
        let Some(device) = found.first() else { continue };
        let body = json(&Report {
            session_no: session.to_string(),
            phone: &device.identity.client_id,
            cost_count: 1,
            receipt_time: recorded.recorded_at / 1_000_000,
            receipt_result,
            receipt_code,
            receipt_desc,
        })?;
        // The place within the event stays even if a device before it is erased.
        let id = format!("{position}.{index}");
        entries.push(Entry { id, order: 0, body: body.into(), query: String::new() });
    }
    Ok(entries)
}

/// The message before a step that needs to know.
async fn before(server: &Server, recorded: &Recorded) -> Result<Option<Message>, Fault> {
    let Event::DeliveriesAdvanced(e) = &recorded.event else { return Ok(None) };
    let late = |step: &Step| matches!(step.what, Progress::Displayed | Progress::Acknowledged);
    if !e.steps.iter().any(late) {
        return Ok(None);
    }
    let stream = recorded.stream.to_string();
    let page = server.ledger.read_stream(&stream, 0, recorded.version - 1).await?;
    let fold = |message, event: &Recorded| Message::evolve(message, event.place(), &event.event);
    Ok(page.events.iter().fold(None, fold))
}

pub(super) fn call(msg_type: u8, entries: &[Entry]) -> Call {
    let mut body = format!("{{\"MsgType\":{msg_type},\"Data\":[").into_bytes();
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&entry.body);
    }
    body.extend_from_slice(b"]}");
    let ids = entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>().join(",");
    Call { body: Bytes::from(body), headers: vec![(IDS, ids)], query: String::new() }
}

/// The document knows only the body; a status that is no success never is one.
pub(super) fn verdict(answer: &Answer) -> Verdict {
    match by_status(answer.status) {
        Verdict::Accepted if is_ok(&answer.body) => Verdict::Accepted,
        Verdict::Accepted => Verdict::Failed { reason: Reason::Refused, wait_micros: None },
        other => other,
    }
}

/// Whether a body says `code` 0: as JSON, as a text, or as the document prints it, without quotes
/// around the name.
fn is_ok(body: &[u8]) -> bool {
    if let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) {
        let code = &answer["code"];
        return code.as_f64() == Some(0.0) || code.as_str().is_some_and(|code| code.trim() == "0");
    }
    let text = String::from_utf8_lossy(body);
    let Some(text) = text.trim().strip_prefix('{') else { return false };
    let field = |field: &str| {
        let (name, value) = field.split_once(':')?;
        (name.trim().trim_matches(['"', '\'']) == "code")
            .then(|| value.trim().trim_end_matches('}').trim().trim_matches(['"', '\'']) == "0")
    };
    text.split(',').find_map(field).unwrap_or(false)
}

fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|cause| Fault::stored("callback", cause))
}

#[cfg(test)]
mod tests {
    use super::is_ok;

    #[test]
    fn an_answer_is_success_by_its_code_however_that_is_written() {
        for body in [
            r#"{"code":0,"message":"ok"}"#,
            r#"{"code":"0"}"#,
            r#"{"message":"ok","code":0.0}"#,
            "{\n    code: 0,\n    message: \"ok\"\n}",
            "{message: 'ok', code: 0}",
        ] {
            assert!(is_ok(body.as_bytes()), "{body}");
        }
        for body in ["", "ok", "0", "{}", r#"{"code":1}"#, "{code: 10}", "{code: }", "[0]"] {
            assert!(!is_ok(body.as_bytes()), "{body}");
        }
    }
}

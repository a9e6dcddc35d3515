//! `C2C.CallbackBeforeSendMsg`: the app's server is asked whether a message may be sent, and may
//! change what is in it. It is asked while the sender waits, so once, and not for long.

use std::time::Duration;

use domain::{
    app::TencentCallback,
    chat::{Payload, elements::Elements},
    message::{MessageId, RawJson},
    route::Strategy,
};
use reqwest::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;

use super::{OWN_CODES, errors::Problem, gate::Call, send::MAX_MESSAGE_BYTES};
use crate::{app::Server, callback::tencent::question, outbound::Limits};

/// What a call may take: the protocol fixes the time.
const LIMITS: Limits = Limits { time: Duration::from_secs(2), bytes: 64 * 1024, cut: false };

/// What the app's server answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    error_code: u32,
    error_info: Option<String>,
    msg_body: Option<RawJson>,
    cloud_custom_data: Option<String>,
}

/// Whether the app wants to be asked.
pub(super) fn is_asked(call: &Call) -> bool {
    call.tencent().calls(TencentCallback::BeforeSend)
}

/// Asks whether a message may be sent, and changes it as the answer says.
pub(super) async fn ask(
    server: &Server,
    call: &Call,
    (payload, id, strategy): (&mut Payload, MessageId, Strategy),
) -> Result<(), Problem> {
    let tencent = call.tencent();
    let caller = call.caller.as_deref().unwrap_or_default();
    let (token, now) = (call.app.tencent_token.as_deref(), server.clock.now());
    let own = tencent.callback_url.as_ref().and_then(|url| call.app.url(url)).unwrap_or_default();
    let message = (&*payload, id, strategy);
    let (url, body) = question((tencent, &own), token, message, caller, now)?;
    let mut request = Request::new(Method::POST, url);
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    request.headers_mut().insert(CONTENT_TYPE, json);
    *request.body_mut() = Some(body.into());
    let answer = server.outbound.send(request, LIMITS).await;
    let answer = answer.ok().filter(|answer| answer.status == StatusCode::OK);
    let understood = answer.and_then(|answer| serde_json::from_slice(&answer.body).ok());
    match understood.and_then(|answer| judged(answer, payload)) {
        Some(judged) => judged,
        None if tencent.refuse_unanswered => Err(Problem::Unanswered),
        None => Ok(()),
    }
}

/// What an answer means; nothing, if it makes no sense.
fn judged(answer: Answer, payload: &mut Payload) -> Option<Result<(), Problem>> {
    match answer.error_code {
        0 => {}
        1 => return Some(Err(Problem::Refusal)),
        code if OWN_CODES.contains(&code) => {
            let info = answer.error_info.unwrap_or_default();
            return Some(Err(Problem::OwnRefusal(code, info)));
        }
        _ => return None,
    }
    if let Some(body) = answer.msg_body {
        let fits = body.0.get().len() <= MAX_MESSAGE_BYTES;
        Elements::parse(body.0.get()).ok().filter(|_| fits)?;
        payload.msg_body = body;
    }
    if let Some(data) = answer.cloud_custom_data {
        payload.cloud_custom_data = Some(data);
    }
    Some(Ok(()))
}

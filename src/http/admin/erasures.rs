//! `/admin/v1/apps/{appId}/erasures`: somebody's right to be forgotten, and who asked for it and why.
//! The event takes effect at once; blanking what lies in the ledger follows, and is `done` then.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::erasure::{EraseSubject, Grounds, Subject};
use projections::registry::{self, ErasureRow, Names};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Call, One, Refusal, positioned};
use crate::{apps::named, audit::eraser, feed::effects};

/// Longest name of a subject, in characters.
const MAX_NAME: usize = 100;
/// Erasures of a page.
const MAX_PAGE: i64 = 100;

/// The protocol of a user's name.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NameOf {
    /// A UMS `userId`.
    Ums,
    /// An Easemob username.
    Easemob,
    /// A Tencent `UserID`.
    Tencent,
}

/// Who is to be erased: a user, a device, or a phone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SubjectInput {
    /// A user, with all devices that it has.
    User {
        /// Of which protocol the name is.
        protocol: NameOf,
        /// The name.
        name: String,
    },
    /// A device, by its number.
    Device(i64),
    /// A phone, as the SMS gateway writes it: its uplinks.
    Phone(String),
}

/// Who is to be erased and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErasureInput {
    /// Who.
    subject: SubjectInput,
    /// `no_longer_needed`, `consent_withdrawn`, `objection`, `unlawful`, `legal_obligation` or
    /// `child`: the grounds of article 17 (1) of the GDPR.
    #[schema(value_type = String)]
    reason: Grounds,
}

/// An erasure. It names nobody.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasureOutput {
    /// Position of its event: what was private to the subject up to there is blank.
    position: i64,
    /// Why.
    #[schema(value_type = String)]
    reason: Grounds,
    /// Who asked for it (`operator:3`).
    asked_by: String,
    /// When, in ms since the epoch.
    erased_at: i64,
    /// The accounts that ended.
    #[schema(value_type = Vec<String>)]
    accounts: Vec<Uuid>,
    /// Numbers of the devices that ended.
    devices: Vec<i64>,
    /// Whether it is a phone.
    phone: bool,
    /// Whether all of it is blank by now, in the database's files too.
    done: bool,
}

/// Which of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    before: Option<i64>,
    limit: Option<i64>,
}

fn output(row: ErasureRow, done: Option<i64>) -> ErasureOutput {
    let ErasureRow { position, asked_by, erased_at, erased, .. } = row;
    ErasureOutput {
        position,
        reason: erased.grounds,
        asked_by,
        erased_at: erased_at / 1_000,
        accounts: erased.accounts,
        devices: erased.devices.iter().map(|erased| erased.device).collect(),
        phone: erased.phone,
        done: done.is_some_and(|done| position <= done),
    }
}

/// Erases a subject: it ends now, and what is private to it in the history is blanked.
///
/// Asked for again, the answer is 200 with the erasure that there was.
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/erasures", tag = "admin",
    params(("appId" = String, Path)), request_body = ErasureInput,
    responses((status = 202, body = ErasureOutput), (status = 200, body = ErasureOutput),
        (status = 400, body = Refusal), (status = 404, body = Refusal)))]
pub async fn erase(call: Call, Path(app_id): One, body: Bytes) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: ErasureInput = call.body(&body)?;
    let subject = subject(&call, app.id(), input.subject).await?;
    if let Some(row) = before(&call, app.id(), &subject).await? {
        let done = effects::position(&call.server.ledger, eraser::NAME).await?;
        return Ok(Json(output(row, done)).into_response());
    }
    let nobody = || Refusal::new(StatusCode::NOT_FOUND, "no such subject");
    match &subject {
        Subject::Users(users) if users.is_empty() => return Err(nobody()),
        Subject::Device(number) if !is_of(&call, app.id(), *number).await? => return Err(nobody()),
        Subject::Users(_) | Subject::Device(_) | Subject::Phone(_) => {}
    }
    let (app, grounds) = (app.id().to_owned(), input.reason);
    let command = EraseSubject { app, subject, grounds, erasure: Uuid::now_v7() };
    let done = call.execute(&app_id, &body, command).await?;
    let mut checkout = call.server.ledger.database().ledger_read.checkout().await?;
    let rows = registry::erasure_page(&mut checkout.conn(), &app_id, done.last + 1, 1).await?;
    drop(checkout);
    let row = rows.into_iter().next().ok_or_else(nobody)?;
    let finished = effects::position(&call.server.ledger, eraser::NAME).await?;
    let answer = (StatusCode::ACCEPTED, Json(output(row, finished)));
    Ok(positioned(done, answer))
}

/// Lists erasures, the newest first; `before` goes on before a position.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}/erasures", tag = "admin",
    params(("appId" = String, Path), ("before" = Option<i64>, Query),
        ("limit" = Option<i64>, Query, description = "at most 100")),
    responses((status = 200, body = Vec<ErasureOutput>), (status = 400, body = Refusal),
        (status = 404, body = Refusal)))]
pub async fn list(
    call: Call,
    Path(app_id): One,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vec<ErasureOutput>>, Refusal> {
    let app = call.app(&app_id).await?;
    let Query(page) = page.map_err(Refusal::bad)?;
    let limit = page.limit.unwrap_or(MAX_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::bad("limit is 1 to 100"));
    }
    let before = page.before.unwrap_or(i64::MAX);
    let mut checkout = call.server.ledger.database().ledger_read.checkout().await?;
    let rows = registry::erasure_page(&mut checkout.conn(), app.id(), before, limit).await?;
    drop(checkout);
    let done = effects::position(&call.server.ledger, eraser::NAME).await?;
    Ok(Json(rows.into_iter().map(|row| output(row, done)).collect()))
}

/// Who is meant: of a user all accounts that ever had the name, closed ones too.
async fn subject(call: &Call, app: &str, input: SubjectInput) -> Result<Subject, Refusal> {
    let (protocol, name) = match input {
        SubjectInput::Device(number) => return Ok(Subject::Device(number)),
        SubjectInput::Phone(phone) => {
            named("phone", &phone, MAX_NAME)?;
            return Ok(Subject::Phone(phone));
        }
        SubjectInput::User { protocol, name } => (protocol, name),
    };
    named("name", &name, MAX_NAME)?;
    let (names, name) = match protocol {
        NameOf::Ums => (Names::Ums, name),
        NameOf::Easemob => (Names::Easemob, name.to_lowercase()),
        NameOf::Tencent => (Names::Tencent, name),
    };
    let mut checkout = call.server.ledger.database().ledger_read.checkout().await?;
    let accounts = registry::accounts_ever(&mut checkout.conn(), app, names, &name).await?;
    Ok(Subject::Users(accounts))
}

/// The erasure that ended the subject before, whether or not it is blank yet.
async fn before(call: &Call, app: &str, subject: &Subject) -> Result<Option<ErasureRow>, Refusal> {
    let mut checkout = call.server.ledger.database().ledger_read.checkout().await?;
    let all = registry::erasures_to(&mut checkout.conn(), i64::MAX).await?;
    let of_it = |row: &ErasureRow| match subject {
        Subject::Users(users) => {
            !users.is_empty() && users.iter().all(|user| row.erased.has_account(*user))
        }
        Subject::Device(number) => row.erased.has_device(*number),
        Subject::Phone(_) => false,
    };
    Ok(all.into_iter().find(|row| row.app == app && of_it(row)))
}

/// Whether a device is one of the app's.
async fn is_of(call: &Call, app: &str, number: i64) -> Result<bool, Refusal> {
    let mut checkout = call.server.ledger.database().ledger_read.checkout().await?;
    let found = registry::by_numbers(&mut checkout.conn(), &[number]).await?;
    Ok(found.iter().any(|(of, _)| of == app))
}

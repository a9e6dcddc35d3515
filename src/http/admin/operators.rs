//! `/admin/v1/operators`: bearer tokens for people, with roles: made, listed and withdrawn.

use axum::{
    Json,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Call, One, Refusal};
use crate::apps::named;
use crate::tokens::Role;

/// Longest name, in characters.
const MAX_NAME: usize = 100;

/// Who gets the token, and what it may do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorInput {
    /// Whose it is, for people.
    name: String,
    /// `admin`, `analyst`, `auditor` or `uplink`.
    #[schema(value_type = String)]
    role: Role,
    /// The one app that it is bound to; all if absent.
    app_id: Option<String>,
}

/// The token; only its hash is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorOutput {
    /// To be sent as `Authorization: Bearer …`.
    token: String,
}

/// An operator; the token itself is never shown again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorEntry {
    /// Number of the token, as the history names it (`operator:3`).
    number: i64,
    /// Whose it is.
    name: String,
    /// `admin`, `analyst`, `auditor` or `uplink`.
    #[schema(value_type = String)]
    role: Role,
    /// The one app that it is bound to; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
}

/// Lists all operators.
#[utoipa::path(get, path = "/admin/v1/operators", tag = "admin",
    responses((status = 200, body = Vec<OperatorEntry>), (status = 403, body = Refusal)))]
pub async fn list(call: Call) -> Result<Response, Refusal> {
    call.everywhere()?;
    let operators = call.server.tokens.operators().await?.into_iter();
    let entry = |(name, operator): (String, crate::tokens::Operator)| OperatorEntry {
        number: operator.number,
        name,
        role: operator.role,
        app_id: operator.app,
    };
    Ok(Json(operators.map(entry).collect::<Vec<_>>()).into_response())
}

/// Withdraws an operator's token.
#[utoipa::path(delete, path = "/admin/v1/operators/{number}", tag = "admin",
    params(("number" = i64, Path)),
    responses((status = 204), (status = 403, body = Refusal), (status = 404, body = Refusal)))]
pub async fn withdraw(call: Call, Path(number): One) -> Result<Response, Refusal> {
    call.everywhere()?;
    let gone = match number.parse() {
        Ok(number) => call.server.tokens.withdraw(number).await?,
        Err(_) => false,
    };
    if gone {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Refusal::new(StatusCode::NOT_FOUND, "no such operator"))
    }
}

/// Creates an operator.
#[utoipa::path(post, path = "/admin/v1/operators", tag = "admin", request_body = OperatorInput,
    responses((status = 201, body = OperatorOutput), (status = 400, body = Refusal),
        (status = 403, body = Refusal)))]
pub async fn create(call: Call, body: Bytes) -> Result<Response, Refusal> {
    call.everywhere()?;
    let input: OperatorInput = call.body(&body)?;
    named("name", &input.name, MAX_NAME)?;
    if let Some(app) = &input.app_id {
        call.app(app).await?;
    }
    let (name, role, app) = (&input.name, input.role, input.app_id.as_deref());
    let token = call.server.tokens.create_operator(name, role, app, None).await?;
    Ok((StatusCode::CREATED, Json(OperatorOutput { token })).into_response())
}

//! `POST /admin/v1/operators`: a bearer token for somebody, with a role.

use axum::{
    Json,
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Call, Refusal};
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
    /// `admin`, `analyst` or `auditor`.
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

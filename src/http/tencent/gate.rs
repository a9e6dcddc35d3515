//! The gate before every call: the query says which app and which account calls, and shows a
//! signature of it. Only the app's own account may call.

use std::{collections::HashMap, sync::Arc};

use axum::{body::Bytes, extract::Query, http::request::Parts};
use domain::{Decide, IdempotencyRef, Metadata, app::TencentConfig, object::Object};
use uuid::Uuid;

use super::errors::Problem;
use crate::{
    access::{Access, Origin},
    app::Server,
    directory::AppEntry,
    http::RequestId,
    ledger::{Context, Done, Lane},
    tencent::verify,
};
use projections::registry;

/// An authenticated call.
pub struct Call {
    /// The app.
    pub app: Arc<AppEntry>,
    /// The caller's address, if it is known.
    pub caller: Option<String>,
    body: Bytes,
    metadata: Metadata,
    origin: Origin,
}

impl Call {
    /// Lets a call in, or says why not.
    pub async fn authenticate(
        server: &Server,
        parts: &Parts,
        body: Bytes,
        request: &RequestId,
    ) -> Result<Call, Problem> {
        let query = Query::<HashMap<String, String>>::try_from_uri(&parts.uri);
        let query = query.map(|Query(query)| query).unwrap_or_default();
        let (app, _) = holder(server, &query, "identifier", true).await?;
        let metadata = Metadata {
            actor: "cloud".to_owned(),
            via: "tencent".to_owned(),
            request: Some(request.0.to_string()),
            ..Metadata::default()
        };
        let origin = Origin::noted(&parts.extensions);
        let caller = origin.address();
        Ok(Call { app, caller, body, metadata, origin })
    }

    /// Logs what the app's server is about to be told of accounts.
    pub fn tells(
        &self,
        server: &Server,
        operation: &str,
        records: usize,
        accounts: [Uuid; 2],
    ) -> Result<(), Problem> {
        let about = accounts.map(|account| format!("account:{account}"));
        let access = self.origin.answered(format!("app:{}", self.app.id()));
        let access = Access {
            role: Some("cloud".to_owned()),
            operation: format!("POST {operation}"),
            ..access.of(self.app.id().to_owned()).with(records).about(about)
        };
        server.access.told(access).map_err(|_| Problem::Busy)
    }

    /// The app's Tencent side.
    #[expect(clippy::expect_used, reason = "an app without that side was refused before")]
    pub fn tencent(&self) -> &TencentConfig {
        self.app.config.tencent.as_ref().expect("a Tencent side")
    }

    /// The body, which is a JSON object.
    pub fn body(&self) -> Result<Object, Problem> {
        let text = std::str::from_utf8(&self.body).map_err(|_| Problem::NotJson)?;
        Object::parse(text).ok_or(Problem::NotJson)
    }

    /// The account of a `UserID`.
    pub async fn account(&self, server: &Server, user: &str) -> Result<Option<Uuid>, Problem> {
        let mut checkout = server.ledger.database().ledger_read.checkout().await?;
        Ok(registry::tencent(&mut checkout.conn(), self.app.id(), user).await?)
    }

    /// Has the ledger execute a command; what has the same key is the same call.
    pub async fn execute(
        &self,
        server: &Server,
        key: Option<String>,
        command: impl Decide + Send + Sync + 'static,
    ) -> Result<Done, Problem> {
        let idempotency = key.map(|key| IdempotencyRef { request: key.clone(), key });
        let metadata = Metadata { idempotency, ..self.metadata.clone() };
        let context = Context { app: self.app.id().to_owned(), metadata };
        Ok(server.ledger.execute(Lane::Interactive, context, command).await?)
    }
}

/// The app and the account that a query shows a signature of.
pub async fn holder<'q>(
    server: &Server,
    query: &'q HashMap<String, String>,
    name: &str,
    admin: bool,
) -> Result<(Arc<AppEntry>, &'q str), Problem> {
    let get = |name: &str| query.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let id = get("sdkappid").ok_or(Problem::NoApp)?;
    let id: u32 = id.parse().map_err(|_| Problem::BadApp)?;
    let app = server.directory.tencent(id).await?.ok_or(Problem::UnknownApp)?;
    let user = get(name).ok_or(Problem::NoIdentifier)?;
    let sig = get("usersig").unwrap_or_default();
    let now = server.clock.now().div_euclid(1_000_000);
    verify(&app.tencent_keys, id, user, sig, now).map_err(Problem::Sig)?;
    let own = app.config.tencent.as_ref().is_some_and(|tencent| tencent.admin == user);
    if admin && !own {
        return Err(Problem::NotAdmin);
    }
    Ok((app, user))
}

//! `/{org}/{app}/push/label`: labels, which are named sets of users.

use std::sync::Arc;

use domain::{
    Rejection,
    facts::{Fact, Key},
    label::{CreateLabel, DeleteLabel, Label},
};
use projections::registry;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Reply,
    errors::Problem,
    fields::{MAX_LABEL, MAX_PAGE, Page, cursor, short, wrong},
    gate::Call,
    millis,
};
use crate::app::Server;

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 255;

pub(super) async fn create(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let name = fields.required("name")?;
    if !is_legal(&name) {
        let how = format!("must have 1 to {MAX_LABEL} letters, digits and _ . -");
        return Err(wrong("name", &how));
    }
    let description = fields.text("description")?.unwrap_or_default();
    short("description", &description, MAX_DESCRIPTION)?;
    let command = CreateLabel {
        app: call.app.id().to_owned(),
        name: name.clone(),
        description: description.clone(),
        most: i64::from(call.easemob().limits.labels),
        new_label: Uuid::now_v7(),
    };
    let done = call.execute(server, command).await?;
    let label = find(server, call, &name).await?;
    let mut created = shown(&label);
    if let Some(fields) = created.as_object_mut() {
        fields.remove("count");
    }
    Ok(Reply::data(created).after(done))
}

pub(super) async fn read(server: &Server, call: &Call) -> Result<Reply, Problem> {
    Ok(Reply::data(shown(&*find(server, call, call.name()).await?)))
}

pub(super) async fn list(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let page = Page::of(&call.query, MAX_PAGE)?;
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let (app, limit) = (call.app.id(), page.limit + 1);
    let mut found = registry::label_page(&mut checkout.conn(), app, page.position(), limit).await?;
    let cursor = page.more(&mut found).map(|(position, _)| cursor(*position, ""));
    let labels: Vec<Value> = found.iter().map(|(_, label)| shown(label)).collect();
    Ok(Reply { cursor, ..Reply::data(labels) })
}

pub(super) async fn delete(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let name = legal(call.name())?.to_owned();
    let command = DeleteLabel { app: call.app.id().to_owned(), name };
    let done = call.execute(server, command).await?;
    Ok(Reply::data("success").after(done))
}

/// The label of a name, as the ledger has it now.
pub(super) async fn find(server: &Server, call: &Call, name: &str) -> Result<Arc<Label>, Problem> {
    let found = match server.ledger.fact(Key::label(call.app.id(), legal(name)?)).await? {
        Fact::Label(label) => label,
        _ => None,
    };
    found.ok_or_else(|| Rejection::UnknownLabel(name.to_owned()).into())
}

/// A name that a label can have; there is none of another.
pub(super) fn legal(name: &str) -> Result<&str, Problem> {
    let legal = Some(name).filter(|name| is_legal(name));
    legal.ok_or_else(|| Rejection::UnknownLabel(name.to_owned()).into())
}

fn is_legal(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=MAX_LABEL).contains(&name.len()) && name.bytes().all(plain)
}

fn shown(label: &Label) -> Value {
    json!({ "name": label.name, "description": label.description, "count": label.members,
            "createdAt": millis(label.created_at) })
}

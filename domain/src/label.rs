//! A label: a named set of Easemob users that one push can address. Its name is no person's, so it
//! is part of an event's body; who is in it are account numbers.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Event, Rejection, Stream,
    event::without_private,
    facts::{Facts, Key, Place, Stop},
};

/// A label was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelCreated {
    /// Its name, unique in the app, compared to the letter.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A label was deleted, with its memberships.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelDeleted {
    /// Its name, which is free again.
    pub name: String,
}

/// Users joined or left a label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelMembersChanged {
    /// Its name.
    pub name: String,
    /// Accounts that joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Uuid>,
    /// Accounts that left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Uuid>,
}

without_private!(LabelCreated, LabelDeleted, LabelMembersChanged);

/// A label as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its stream.
    pub stream: Uuid,
    /// Version of the stream.
    pub version: i64,
    /// When it was created, in µs since the epoch.
    pub created_at: i64,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How many users are in it.
    pub members: i64,
}

impl Label {
    /// The label of a name after one more event that concerns it.
    pub(crate) fn evolve(
        before: Option<Arc<Label>>,
        stream: Uuid,
        place: Place<'_>,
        event: &Event,
    ) -> Option<Arc<Label>> {
        let version = place.version;
        if let Event::LabelCreated(e) = event {
            let (name, description) = (e.name.clone(), e.description.clone());
            let created_at = place.recorded_at;
            let label = Label { stream, version, created_at, name, description, members: 0 };
            return Some(Arc::new(label));
        }
        let mut label = Arc::unwrap_or_clone(before?);
        label.version = version;
        if let Event::LabelMembersChanged(e) = event {
            label.members += count(&e.joined) - count(&e.left);
        }
        let gone = matches!(event, Event::LabelDeleted(_));
        (!gone).then(|| Arc::new(label))
    }
}

fn count(accounts: &[Uuid]) -> i64 {
    i64::try_from(accounts.len()).unwrap_or(i64::MAX)
}

/// Creates a label.
#[derive(Debug, Clone)]
pub struct CreateLabel {
    /// The app.
    pub app: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Labels that the app may have.
    pub most: i64,
    /// Its stream.
    pub new_label: Uuid,
}

/// Deletes a label.
#[derive(Debug, Clone)]
pub struct DeleteLabel {
    /// The app.
    pub app: String,
    /// Its name.
    pub name: String,
}

/// Puts users into a label, or takes them out. Users that do not exist, and changes that are none,
/// are left out: the caller asks the registry who they were.
#[derive(Debug, Clone)]
pub struct ChangeMembers {
    /// The app.
    pub app: String,
    /// The label's name.
    pub name: String,
    /// The users, in lower case.
    pub usernames: Vec<String>,
    /// Whether they join or leave.
    pub join: bool,
    /// Users that a label may have.
    pub most: i64,
}

impl Decide for CreateLabel {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        if facts.label(&self.app, &self.name)?.is_some() {
            return Err(Rejection::LabelTaken(self.name.clone()).into());
        }
        if facts.label_count(&self.app)? >= self.most {
            return Err(Rejection::TooManyLabels { limit: self.most }.into());
        }
        let (name, description) = (self.name.clone(), self.description.clone());
        let event = LabelCreated { name, description }.into();
        Ok(vec![Append { stream: Stream::Label(self.new_label), version: 1, event }])
    }
}

impl Decide for DeleteLabel {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let label = known(facts, &self.app, &self.name)?;
        let event = LabelDeleted { name: self.name.clone() }.into();
        Ok(vec![append(&label, event)])
    }

    /// Its users are in one label less, and no key tells who they are.
    fn alone(&self) -> bool {
        true
    }
}

impl Decide for ChangeMembers {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let label = known(facts, &self.app, &self.name)?;
        let users: BTreeSet<&String> = self.usernames.iter().collect();
        facts.want(users.iter().map(|user| Key::user(&self.app, user)))?;
        let mut accounts = Vec::new();
        for user in users {
            accounts.extend(facts.user(&self.app, user)?.map(|user| user.account));
        }
        let member = |account: &Uuid| Key::Member { label: label.stream, account: *account };
        facts.want(accounts.iter().map(member))?;
        let mut changed = Vec::new();
        for account in accounts {
            if facts.is_member(label.stream, account)? != self.join {
                changed.push(account);
            }
        }
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        if self.join && label.members + count(&changed) > self.most {
            return Err(Rejection::LabelFull { limit: self.most }.into());
        }
        let (joined, left) = if self.join { (changed, Vec::new()) } else { (Vec::new(), changed) };
        Ok(vec![append(&label, members_changed(&label, joined, left))])
    }
}

fn known(facts: &Facts, app: &str, name: &str) -> Result<Arc<Label>, Stop> {
    let label = facts.label(app, name)?;
    label.ok_or_else(|| Rejection::UnknownLabel(name.to_owned()).into())
}

fn append(label: &Label, event: Event) -> Append {
    Append { stream: Stream::Label(label.stream), version: label.version + 1, event }
}

fn members_changed(label: &Label, joined: Vec<Uuid>, left: Vec<Uuid>) -> Event {
    LabelMembersChanged { name: label.name.clone(), joined, left }.into()
}

/// Takes an account out of every label that it is in.
pub(crate) fn leave_all(facts: &Facts, app: &str, account: Uuid) -> Result<Vec<Append>, Stop> {
    let labels = facts.labels_of_account(account)?;
    facts.want(labels.iter().map(|(_, name)| Key::label(app, name)))?;
    let mut appends = Vec::new();
    for (stream, name) in labels.iter() {
        let label = facts.label(app, name)?.filter(|label| label.stream == *stream);
        let left = |label: &Label| members_changed(label, Vec::new(), vec![account]);
        appends.extend(label.map(|label| append(&label, left(&label))));
    }
    Ok(appends)
}

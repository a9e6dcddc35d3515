//! A message of a conversation between two accounts, as Tencent IM has it: it goes to every device
//! of one account, is known to both by a key that its sender chose most of, counts as unread until a
//! device shows it, and can be asked for again. [`elements`] judges what it is made of, [`shown`]
//! says what a push vendor shows of it.

pub mod elements;
pub mod shown;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream, USUAL_BYTES, account,
    event::with_private,
    facts::{Facts, Key, Stop},
    message::{MessageAccepted, MessageId, MessagePrivate, Protocol, RawJson, Sender, Target},
    push::MAX_DELIVERIES,
    route::Strategy,
};

/// A message's place in the conversation between its sender and another account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// The account that it is for.
    pub to: Uuid,
    /// Its number, as the sender or the server chose it (`MsgSeq`).
    pub seq: u32,
    /// The sender's random number (`MsgRandom`).
    pub random: u32,
    /// When it was sent, in seconds since the epoch (`MsgTime`).
    pub time: i64,
    /// Whether it does not count as unread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncounted: bool,
    /// Whether its sender does not find it in the conversation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsynced: bool,
}

impl Chat {
    /// What both accounts know the message by (`MsgKey`).
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}_{}_{}", self.seq, self.random, self.time)
    }
}

/// A message was stopped by its app's list of words: its sender was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageFiltered {
    /// The account that sent it.
    pub sender: Uuid,
    /// Its place in the conversation that it never got to.
    pub chat: Chat,
    /// How it wanted to travel.
    pub strategy: Strategy,
    /// Whether the app's server is to be told of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub callback: bool,
    /// What was to be sent and to whom; `None` once erased.
    #[serde(skip)]
    pub private: Option<MessagePrivate>,
}

with_private!(MessageFiltered);

/// The payload of a message: what its devices see, and its callbacks are worded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Payload {
    /// `UserID` of the account that sent it.
    #[serde(rename = "From_Account")]
    pub from: String,
    /// `UserID` of the account that it is for.
    #[serde(rename = "To_Account")]
    pub to: String,
    /// Its number.
    pub msg_seq: u32,
    /// Its random number.
    pub msg_random: u32,
    /// When it was sent, in seconds since the epoch.
    pub msg_time: i64,
    /// What it is known by.
    pub msg_key: String,
    /// Its elements, as they came.
    pub msg_body: RawJson,
    /// The sender's own words to the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_custom_data: Option<String>,
    /// What a push vendor is to show, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_push_info: Option<RawJson>,
}

/// Sends a message to one account or, by name, to many.
#[derive(Debug, Clone)]
pub struct SendChat {
    /// The app.
    pub app: String,
    /// `UserID` of the account that sends.
    pub from: String,
    /// Its account, if this opens it: the one in whose name the app's server calls is not imported.
    pub new_sender: Option<Uuid>,
    /// Whom it is for, each once.
    pub to: Vec<Recipient>,
    /// Its number.
    pub seq: u32,
    /// Its random number.
    pub random: u32,
    /// The time of the call, in seconds since the epoch.
    pub time: i64,
    /// How it is to travel.
    pub strategy: Strategy,
    /// When it expires, in µs since the epoch.
    pub expires_at: i64,
    /// Whether it does not count as unread.
    pub uncounted: bool,
    /// Whether its sender is not to find it in the conversation.
    pub unsynced: bool,
    /// Whether the app's server is to be told of it.
    pub callback: bool,
    /// Words that the app does not let through, in lower case.
    pub words: Vec<String>,
    /// What is looked through for them, in lower case.
    pub text: String,
}

/// Whom a message is for.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// `UserID` of the account.
    pub name: String,
    /// The id of its message.
    pub id: MessageId,
    /// The id of the copy for those of the sender's devices that are connected, if they get one.
    pub copy: Option<MessageId>,
    /// The caller's own words.
    pub private: MessagePrivate,
}

impl Decide for SendChat {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let names = std::iter::once(&self.from).chain(self.to.iter().map(|to| &to.name));
        facts.want(names.map(|name| Key::tencent(&self.app, name)))?;
        let sender = facts.tencent(&self.app, &self.from)?;
        let opened = self.new_sender.filter(|_| sender.is_none());
        let sender = sender.or(opened).ok_or(Rejection::IllegalUser)?;
        let mut known = Vec::with_capacity(self.to.len());
        for to in &self.to {
            known.extend(facts.tencent(&self.app, &to.name)?.map(|account| (account, to)));
        }
        if known.is_empty() {
            let unknown = self.to.first().map(|to| to.name.clone()).unwrap_or_default();
            return Err(Rejection::UnknownUser(unknown).into());
        }
        let mut appends: Vec<Append> =
            opened.map(|account| account::imported(account, &self.from)).into_iter().collect();
        if self.words.iter().any(|word| self.text.contains(word)) {
            appends.extend(known.into_iter().map(|to| self.filtered(sender, to)));
            return Ok(appends);
        }
        let accounts = known.iter().map(|(account, _)| *account).chain([sender]);
        facts.want(accounts.map(Key::AccountDevices))?;
        for (account, to) in known {
            let chat = Some(self.chat(account));
            appends.push(self.accepted(facts, sender, account, (to.id, chat), to)?);
            if let Some(copy) = to.copy {
                let copy = self.accepted(facts, sender, sender, (copy, None), to)?;
                appends.push(copy);
            }
        }
        Ok(appends)
    }

    fn bytes(&self) -> usize {
        // A message and, at most, its copy.
        self.to.iter().map(|to| 2 * (USUAL_BYTES + to.private.bytes())).sum()
    }
}

impl SendChat {
    fn chat(&self, to: Uuid) -> Chat {
        let SendChat { seq, random, time, uncounted, unsynced, .. } = *self;
        Chat { to, seq, random, time, uncounted, unsynced }
    }

    fn filtered(&self, sender: Uuid, (account, to): (Uuid, &Recipient)) -> Append {
        let event = MessageFiltered {
            sender,
            chat: self.chat(account),
            strategy: self.strategy,
            callback: self.callback,
            private: Some(to.private.clone()),
        };
        Append { stream: Stream::Message(to.id), version: 1, event: event.into() }
    }

    /// The message to the devices of an account. What is no part of the conversation is a copy for
    /// the sender's own, which is for those that are there.
    fn accepted(
        &self,
        facts: &Facts,
        sender: Uuid,
        account: Uuid,
        (id, chat): (MessageId, Option<Chat>),
        to: &Recipient,
    ) -> Result<Append, Stop> {
        let devices = facts.devices_of_account(account)?;
        let registered = devices.iter().filter(|device| device.registered());
        let target = |number| Target { device: number, account: Some(account) };
        let targets: Vec<Target> = registered.map(|device| target(device.number)).collect();
        if targets.len() > MAX_DELIVERIES {
            let (reached, limit) = (targets.len(), MAX_DELIVERIES);
            return Err(Rejection::TooManyDeliveries { reached, limit }.into());
        }
        let event = MessageAccepted {
            protocol: Protocol::Tencent,
            sender: Sender::User(sender),
            strategy: if chat.is_some() { self.strategy } else { Strategy::PresentOnly },
            expires_at: self.expires_at,
            burn: false,
            resend: None,
            callback: self.callback && chat.is_some(),
            unresolved: 0,
            chat,
            users: 1,
            unbound: u32::from(targets.is_empty()),
            targets,
            private: Some(to.private.clone()),
        };
        Ok(Append { stream: Stream::Message(id), version: 1, event: event.into() })
    }
}

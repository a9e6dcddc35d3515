//! Given a history, when a command comes, then these events or that refusal. What a command
//! caused is part of the history of the next one, so that a scenario can go on.

use std::sync::Arc;

use domain::{
    Append, Decide, Event, Rejection, Stream,
    account::User,
    app::App,
    device::Device,
    facts::{Fact, Key},
    label::Label,
    message::{Delivery, Message},
};

use crate::{
    cast::{APP, MESSAGE},
    ledger::{Decision, Ledger},
};

/// An event and where it belongs; its version follows from those before it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    app: &'static str,
    stream: Stream,
    event: Event,
}

impl Entry {
    /// An event of the app that most tests play in.
    pub(crate) fn new(stream: Stream, event: impl Into<Event>) -> Self {
        Entry { app: APP, stream, event: event.into() }
    }

    /// What happened.
    pub(crate) fn event(self) -> Event {
        self.event
    }

    /// The same in another app.
    pub(crate) fn of_app(self, app: &'static str) -> Self {
        Entry { app, ..self }
    }
}

/// A history, ready for a command.
#[derive(Debug)]
pub(crate) struct Scenario {
    ledger: Ledger,
}

/// A history and what a command came to.
#[derive(Debug)]
#[must_use]
pub(crate) struct Decided {
    ledger: Ledger,
    decision: Decision,
}

/// Starts with a history.
pub(crate) fn given(entries: impl IntoIterator<Item = Entry>) -> Scenario {
    Scenario { ledger: Ledger::default() }.and(entries)
}

impl Scenario {
    /// Goes on with more history.
    pub(crate) fn and(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        for Entry { app, stream, event } in entries {
            let version = self.ledger.version(&stream) + 1;
            self.ledger.append(app, Append { stream, version, event });
        }
        self
    }

    /// Decides a command.
    pub(crate) fn when(self, command: impl Decide) -> Decided {
        let decision = self.ledger.decide(&command);
        Decided { ledger: self.ledger, decision }
    }

    /// The events that a command causes, whatever they are.
    pub(crate) fn decided(self, command: impl Decide) -> Vec<Append> {
        self.ledger.decide(&command).outcome.expect("an accepted command")
    }

    /// The message that tests play with, as it is now.
    pub(crate) fn message(&self) -> Arc<Message> {
        self.ledger.message(MESSAGE)
    }

    /// A delivery of that message, as it is now.
    pub(crate) fn delivery(&self, device: i64) -> Delivery {
        self.message().deliveries.get(&device).expect("a delivery to that device").clone()
    }

    /// A device by its number, as it is now.
    pub(crate) fn device(&self, client: &str, number: i64) -> Arc<Device> {
        let key = Key::Client { app: APP.to_owned(), client: client.to_owned() };
        match self.ledger.fact(&key) {
            Fact::Devices(devices) => {
                let device = devices.iter().find(|device| device.number == number);
                Arc::clone(device.expect("a device with that number"))
            }
            other => panic!("not devices: {other:?}"),
        }
    }

    /// A device of whichever protocol by its number, as it is now.
    pub(crate) fn numbered(&self, number: i64) -> Arc<Device> {
        match self.ledger.fact(&Key::Device(number)) {
            Fact::Devices(devices) => {
                Arc::clone(devices.first().expect("a device with that number"))
            }
            other => panic!("not devices: {other:?}"),
        }
    }

    /// An Easemob user, as it is now.
    pub(crate) fn user(&self, username: &str) -> Option<Arc<User>> {
        match self.ledger.fact(&Key::user(APP, username)) {
            Fact::User(user) => user,
            other => panic!("not a user: {other:?}"),
        }
    }

    /// A label, as it is now.
    pub(crate) fn label(&self, name: &str) -> Option<Arc<Label>> {
        match self.ledger.fact(&Key::label(APP, name)) {
            Fact::Label(label) => label,
            other => panic!("not a label: {other:?}"),
        }
    }

    /// All apps, as they are now.
    pub(crate) fn apps(&self) -> Arc<Vec<App>> {
        match self.ledger.fact(&Key::Apps) {
            Fact::Apps(apps) => apps,
            other => panic!("not apps: {other:?}"),
        }
    }
}

impl Decided {
    /// Holds if the command caused exactly these events, at the next versions of their streams.
    #[track_caller]
    pub(crate) fn then(mut self, expected: impl IntoIterator<Item = Entry>) -> Scenario {
        let mut appends: Vec<Append> = Vec::new();
        for Entry { stream, event, .. } in expected {
            let earlier = appends.iter().filter(|append| append.stream == stream).count();
            let version = self.ledger.version(&stream) + 1 + i64::try_from(earlier).unwrap();
            appends.push(Append { stream, version, event });
        }
        assert_eq!(self.decision.outcome, Ok(appends.clone()));
        for append in appends {
            self.ledger.append(APP, append);
        }
        Scenario { ledger: self.ledger }
    }

    /// Holds if the command was accepted and had nothing to say.
    #[track_caller]
    pub(crate) fn then_nothing(self) -> Scenario {
        self.then([])
    }

    /// Holds if the command was refused for that reason.
    #[track_caller]
    pub(crate) fn then_rejected(self, rejection: Rejection) -> Scenario {
        assert_eq!(self.decision.outcome, Err(rejection));
        Scenario { ledger: self.ledger }
    }
}

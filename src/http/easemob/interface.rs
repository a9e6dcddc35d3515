//! The calls, as one table: method, path below `/{org}/{app}/`, which limit they share, and who may
//! call. Everything else follows from it: routing, the refusal of other methods, the description.

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::easemob::limits::Group;

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// Asks for a token.
    Token,
    /// Registers users.
    RegisterUsers,
    /// Lists users.
    ListUsers,
    /// Removes a page of users.
    RemoveUsers,
    /// Reads a user.
    User,
    /// Removes a user.
    RemoveUser,
    /// Whether a user is online.
    UserStatus,
    /// Whether some users are online.
    UsersStatus,
    /// Binds a device to a push vendor, or ends that.
    Bind,
    /// The bindings of a user.
    Bindings,
    /// Creates a label.
    CreateLabel,
    /// Lists labels.
    Labels,
    /// Reads a label.
    Label,
    /// Deletes a label.
    DeleteLabel,
    /// Puts users into a label.
    AddMembers,
    /// Lists the users of a label.
    Members,
    /// Whether a user is in a label.
    Member,
    /// Takes users out of a label.
    RemoveMembers,
    /// Pushes to a user, and waits for what becomes of it.
    PushSync,
    /// Pushes to a user.
    PushAsync,
    /// Pushes to some users.
    PushSingle,
    /// Pushes to a label, as a task.
    PushLabel,
    /// Pushes to a list of users, as a task.
    PushList,
    /// Pushes to everyone, as a task.
    PushEveryone,
    /// Keeps a notification, to be pushed to everyone by its id.
    KeepMessage,
    /// Reads a notification that is kept.
    Message,
    /// The same, by the method that the document names beside an example with the other.
    MessageByPost,
    /// Pushes a notification that is kept to everyone, as a task.
    Broadcast,
    /// What Huawei tells of messages that it took.
    HuaweiReceipts,
    /// How a task is doing.
    Task,
    /// What became of a task's deliveries.
    TaskStatistics,
    /// Cancels a task.
    CancelTask,
}

/// Which of the two families of answers a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `data` between `timestamp` and `duration`, and no more; the push service must be open.
    Push,
    /// Users: `entities` or `data` with what was asked.
    User,
    /// Bindings: `entities`, with the action alone.
    Binding,
    /// Tokens: plain JSON.
    Token,
    /// Calls of push vendors: plain JSON, as each of them wants it.
    Vendor,
}

struct Row(Interface, Method, &'static str, Group, Family);

static ROWS: [Row; 32] = {
    use Family::{Binding, Push, Token, User, Vendor};
    use Group::{
        Async, BatchDelete, BatchStatus, Bindings, Broadcast, Everyone, KeptMessages, LabelUsers,
        Labels, Lists, Messages, Receipts, Registration, Single, Sync, TaskQueries, Users,
    };
    [
        Row(Interface::Token, Method::POST, "token", Group::Token, Token),
        Row(Interface::RegisterUsers, Method::POST, "users", Registration, User),
        Row(Interface::ListUsers, Method::GET, "users", Users, User),
        Row(Interface::RemoveUsers, Method::DELETE, "users", BatchDelete, User),
        Row(Interface::UsersStatus, Method::POST, "users/batch/status", BatchStatus, User),
        Row(Interface::User, Method::GET, "users/{username}", Users, User),
        Row(Interface::RemoveUser, Method::DELETE, "users/{username}", Users, User),
        Row(Interface::UserStatus, Method::GET, "users/{username}/status", Users, User),
        Row(Interface::Bind, Method::PUT, "users/{username}/push/binding", Bindings, Binding),
        Row(Interface::Bindings, Method::GET, "users/{username}/push/binding", Bindings, Binding),
        Row(Interface::CreateLabel, Method::POST, "push/label", Labels, Push),
        Row(Interface::Labels, Method::GET, "push/label", Labels, Push),
        Row(Interface::Label, Method::GET, "push/label/{label}", Labels, Push),
        Row(Interface::DeleteLabel, Method::DELETE, "push/label/{label}", Labels, Push),
        Row(Interface::AddMembers, Method::POST, "push/label/{label}/user", LabelUsers, Push),
        Row(Interface::Members, Method::GET, "push/label/{label}/user", LabelUsers, Push),
        Row(Interface::RemoveMembers, Method::DELETE, "push/label/{label}/user", LabelUsers, Push),
        Row(Interface::Member, Method::GET, "push/label/{label}/user/{user}", LabelUsers, Push),
        Row(Interface::PushSync, Method::POST, "push/sync/{target}", Sync, Push),
        Row(Interface::PushAsync, Method::POST, "push/async/{target}", Async, Push),
        Row(Interface::PushSingle, Method::POST, "push/single", Single, Push),
        Row(Interface::PushLabel, Method::POST, "push/list/label", Lists, Push),
        Row(Interface::PushList, Method::POST, "push/list", Lists, Push),
        Row(Interface::PushEveryone, Method::POST, "push/task", Everyone, Push),
        Row(Interface::KeepMessage, Method::POST, "push/message", Messages, Push),
        Row(Interface::Message, Method::GET, "push/message/{id}", KeptMessages, Push),
        Row(Interface::MessageByPost, Method::POST, "push/message/{id}", KeptMessages, Push),
        Row(Interface::Broadcast, Method::POST, "push/task/broadcast", Broadcast, Push),
        Row(Interface::HuaweiReceipts, Method::POST, "push/report/huawei", Receipts, Vendor),
        Row(Interface::Task, Method::GET, "push/task/{id}", TaskQueries, Push),
        Row(Interface::TaskStatistics, Method::GET, "push/task/{id}/statistics", TaskQueries, Push),
        Row(Interface::CancelTask, Method::DELETE, "push/task/{id}", TaskQueries, Push),
    ]
};

/// What a path and a method lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A call, with the names in its path in their order.
    Call(Interface, Vec<String>),
    /// A path that has other methods.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// The call behind a path below `/{org}/{app}/`, as it came.
#[must_use]
pub fn find(method: &Method, path: &str) -> Found {
    let mut others = Vec::new();
    for row in ROWS.iter() {
        let Some(names) = names(row.2, path) else { continue };
        if row.1 == *method {
            return Found::Call(row.0, names);
        }
        others.push(row.1.clone());
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
}

/// The names in a path, if it has that pattern. An escaped slash is part of a name.
fn names(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut parts = path.split('/');
    let mut names = Vec::new();
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        let part = percent_decode_str(part).decode_utf8().ok()?;
        if wanted.starts_with('{') {
            if part.is_empty() {
                return None;
            }
            names.push(part.into_owned());
        } else if part != wanted {
            return None;
        }
    }
    parts.next().is_none().then_some(names)
}

impl Interface {
    /// All calls, in the order of the table.
    pub fn all() -> impl Iterator<Item = Interface> {
        ROWS.iter().map(|row| row.0)
    }

    #[expect(clippy::expect_used, reason = "a test finds every call in the table")]
    fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.0 == self).expect("every call has a row")
    }

    /// Its method.
    #[must_use]
    pub fn method(self) -> &'static Method {
        &self.row().1
    }

    /// Its path below `/{org}/{app}/`, with names in braces.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.row().2
    }

    /// Method and pattern of its whole path.
    #[must_use]
    pub fn route(self) -> String {
        format!("{} /{{org}}/{{app}}/{}", self.method(), self.path())
    }

    /// Whether its answer names people, or says what they do.
    #[must_use]
    pub fn tells_of_people(self) -> bool {
        match self {
            Interface::ListUsers
            | Interface::User
            | Interface::UserStatus
            | Interface::UsersStatus
            | Interface::Bindings
            | Interface::Members
            | Interface::Member => true,
            Interface::Token
            | Interface::RegisterUsers
            | Interface::RemoveUsers
            | Interface::RemoveUser
            | Interface::Bind
            | Interface::CreateLabel
            | Interface::Labels
            | Interface::Label
            | Interface::DeleteLabel
            | Interface::AddMembers
            | Interface::RemoveMembers
            | Interface::PushSync
            | Interface::PushAsync
            | Interface::PushSingle
            | Interface::PushLabel
            | Interface::PushList
            | Interface::PushEveryone
            | Interface::KeepMessage
            | Interface::Message
            | Interface::MessageByPost
            | Interface::Broadcast
            | Interface::HuaweiReceipts
            | Interface::Task
            | Interface::TaskStatistics
            | Interface::CancelTask => false,
        }
    }

    /// The limit that it shares.
    #[must_use]
    pub fn group(self) -> Group {
        self.row().3
    }

    /// How it answers.
    #[must_use]
    pub fn family(self) -> Family {
        self.row().4
    }

    /// Whether its body is read.
    #[must_use]
    pub fn reads_body(self) -> bool {
        match self {
            Interface::Token
            | Interface::RegisterUsers
            | Interface::UsersStatus
            | Interface::Bind
            | Interface::CreateLabel
            | Interface::AddMembers
            | Interface::RemoveMembers
            | Interface::PushSync
            | Interface::PushAsync
            | Interface::PushSingle
            | Interface::PushLabel
            | Interface::PushList
            | Interface::PushEveryone
            | Interface::KeepMessage
            | Interface::Broadcast
            | Interface::HuaweiReceipts => true,
            Interface::ListUsers
            | Interface::RemoveUsers
            | Interface::User
            | Interface::RemoveUser
            | Interface::UserStatus
            | Interface::Bindings
            | Interface::Labels
            | Interface::Label
            | Interface::DeleteLabel
            | Interface::Members
            | Interface::Member
            | Interface::Message
            | Interface::MessageByPost
            | Interface::Task
            | Interface::TaskStatistics
            | Interface::CancelTask => false,
        }
    }

    /// Whether a user may make it for itself, with a token of its own.
    #[must_use]
    pub fn of_user(self) -> bool {
        matches!(self, Interface::User | Interface::Bind | Interface::Bindings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Found {
        find(&method, path)
    }

    fn call(interface: Interface, names: &[&str]) -> Found {
        Found::Call(interface, names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn every_call_is_found_by_its_own_method_and_path() {
        for interface in Interface::all() {
            let Found::Call(found, _) = find(interface.method(), interface.path()) else {
                unreachable!("{interface:?} is not found");
            };
            assert_eq!(found, interface);
        }
    }

    #[test]
    fn names_are_taken_out_of_a_path_and_decoded() {
        let expected = call(Interface::Member, &["a.b", "ann"]);
        assert_eq!(found(Method::GET, "push/label/a%2Eb/user/ann"), expected);
        assert_eq!(found(Method::GET, "users/a%2Fb"), call(Interface::User, &["a/b"]));
        assert_eq!(found(Method::POST, "users/batch/status"), call(Interface::UsersStatus, &[]));
        assert_eq!(
            found(Method::GET, "users/batch/status"),
            call(Interface::UserStatus, &["batch"])
        );
    }

    #[test]
    fn what_is_no_path_of_the_protocol_is_nothing() {
        for path in
            ["", "users/", "users//status", "user", "users/%ff", "push/sync", "push/sync/a/b"]
        {
            assert_eq!(found(Method::GET, path), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let others = vec![Method::POST, Method::GET, Method::DELETE];
        assert_eq!(found(Method::PUT, "users"), Found::OtherMethods(others));
    }
}

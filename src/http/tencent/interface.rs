//! The calls, as one table: path and service. Routing, the refusal of what is no call, and the
//! description follow from it. All of them are `POST`.

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// Imports an account.
    AccountImport,
    /// Imports accounts by their names.
    MultiAccountImport,
    /// Sends a message to an account.
    SendMsg,
    /// Sends a message to many accounts.
    BatchSendMsg,
    /// Withdraws a message.
    MsgWithdraw,
    /// Reads a conversation back.
    GetRoamMsg,
}

/// The call behind a path.
#[must_use]
pub fn find(path: &str) -> Option<Interface> {
    Interface::ALL.into_iter().find(|interface| interface.path() == path)
}

impl Interface {
    /// All calls.
    pub const ALL: [Interface; 6] = [
        Interface::AccountImport,
        Interface::MultiAccountImport,
        Interface::SendMsg,
        Interface::BatchSendMsg,
        Interface::MsgWithdraw,
        Interface::GetRoamMsg,
    ];

    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Interface::AccountImport => "/v4/im_open_login_svc/account_import",
            Interface::MultiAccountImport => "/v4/im_open_login_svc/multiaccount_import",
            Interface::SendMsg => "/v4/openim/sendmsg",
            Interface::BatchSendMsg => "/v4/openim/batchsendmsg",
            Interface::MsgWithdraw => "/v4/openim/admin_msgwithdraw",
            Interface::GetRoamMsg => "/v4/openim/admin_getroammsg",
        }
    }

    /// Whether it is about accounts, and not about messages: refusals have other codes there.
    #[must_use]
    pub fn of_accounts(self) -> bool {
        matches!(self, Interface::AccountImport | Interface::MultiAccountImport)
    }
}

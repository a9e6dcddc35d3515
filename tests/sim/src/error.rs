//! What can go wrong between a simulated client and the server. An answer that says no is not an
//! error of a call, only of a handshake.

use std::io;

/// A call, a handshake or a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be sent, or no answer came in time.
    #[error("no answer: {0}")]
    Http(#[from] reqwest::Error),
    /// The answer is not the JSON that the protocol promises.
    #[error("status {status} with an unreadable body: {body}")]
    Unreadable {
        /// HTTP status.
        status: u16,
        /// The body as it came.
        body: String,
    },
    /// The socket's handshake was answered with something else than 101.
    #[error("handshake refused with status {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The body, as far as it came together with the head.
        body: String,
    },
    /// An option cannot be part of a request: a bad URL, or a value that no header can carry.
    #[error("unusable option: {0}")]
    Option(String),
    /// The connection failed.
    #[error("socket: {0}")]
    Socket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The network said nothing for too long.
    #[error("network: {0}")]
    Network(#[from] io::Error),
}

impl From<tokio_tungstenite::tungstenite::Error> for Error {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Error::Socket(Box::new(error))
    }
}

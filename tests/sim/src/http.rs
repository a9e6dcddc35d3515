//! The process's one pool of HTTP connections, and one exchange over it.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use reqwest::{Client, RequestBuilder};

use crate::Error;

/// How long any request may take, in seconds.
pub(crate) const REQUEST_SECONDS_MAX: u64 = 30;

/// An answer before anybody reads its body.
pub(crate) struct Exchange {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// The client of this process. An open connection belongs to the runtime that opened it: callers
/// on several runtimes should talk to different servers, as tests with a server each do.
pub(crate) fn client() -> Result<Client, Error> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client.clone());
    }
    let timeout = Duration::from_secs(REQUEST_SECONDS_MAX);
    // It speaks plain HTTP, so it works where a machine has no certificates.
    let client = Client::builder().timeout(timeout).no_proxy().tls_certs_only([]).build()?;
    Ok(CLIENT.get_or_init(|| client).clone())
}

/// Sends a request and reads the whole answer.
pub(crate) async fn exchange(request: RequestBuilder) -> Result<Exchange, Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    let body = text(&response.bytes().await?);
    Ok(Exchange { status, headers, body })
}

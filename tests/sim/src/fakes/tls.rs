//! TLS for clients that insist on it, under a committed certificate for `localhost` and
//! `127.0.0.1` that signs itself. The server tells it from plain HTTP by the first byte.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// The first byte of a TLS connection: a record with a handshake.
const HANDSHAKE: u8 = 0x16;

/// Speaks TLS as the only protocol or as HTTP/2; none if the certificate cannot be read.
pub(super) fn acceptor(http2: bool) -> Option<TlsAcceptor> {
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("../../keys/tls.cert.pem")).ok()?;
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../keys/tls.key.pem")).ok()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .ok()?;
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Some(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the peer begins with TLS.
pub(super) async fn begins(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == HANDSHAKE
}

//! TLS on the same port, for clients that speak nothing else.

use reqwest::Client;
use sim::fakes::{Apns, Fake, Options};

use crate::caller::{apns, device};

#[tokio::test]
async fn a_client_with_tls_is_served_on_the_port_of_those_without() {
    let fake = Fake::start(Apns::default(), Options::default()).await.unwrap();
    let certificate = include_bytes!("../../keys/tls.cert.pem");
    let certificate = reqwest::Certificate::from_pem(certificate).unwrap();
    let client = Client::builder().tls_certs_only([certificate]).build().unwrap();
    let mut push = apns(&fake, &device(1));
    assert_eq!(push.send().await.status, 200);
    push.url = push.url.replace("http://", "https://");
    assert_eq!(push.through(client).send().await.status, 200);
    assert_eq!(fake.requests()[1].version, "HTTP/2.0");
}

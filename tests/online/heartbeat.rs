//! Pings, and what becomes of a device that answers none. The clock is the test's.

use std::time::Duration;

use serde_json::json;
use sim::ums::sign;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::nothing_else_comes;
use crate::harness::{PACKAGE, PATIENCE, UMS_APP, UMS_KEY, World};

/// Time between two pings.
const PING: Duration = Duration::from_secs(30);
/// Kinds of frame (RFC 6455), each the last of its message.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PINGS: u8 = 0x89;

/// A connection on which nobody answers anything.
struct Mute(TcpStream);

impl Mute {
    async fn connect(world: &World, client: &str) -> Mute {
        let mut stream = TcpStream::connect(world.running.address).await.unwrap();
        let sign = sign("/connect", b"", UMS_APP, UMS_KEY, "1");
        let request = format!(
            "GET /connect?appId={UMS_APP}&clientId={client}&appPackage={PACKAGE}&timestamp=1\
             &sign={sign} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Mute(stream)
    }

    /// The next frame: its kind and what is in it.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let kind = self.0.read_u8().await.unwrap();
            let length = match self.0.read_u8().await.unwrap() {
                126 => self.0.read_u16().await.unwrap().into(),
                short => usize::from(short),
            };
            let mut content = vec![0; length];
            self.0.read_exact(&mut content).await.unwrap();
            (kind, content)
        };
        timeout(PATIENCE, read).await.expect("no frame came")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_answers_no_ping_is_dropped_at_the_third() {
    let world = World::with_clock().await;
    world.register("c-1").await;
    world.push("c-1", json!({})).await;
    let mut mute = Mute::connect(&world, "c-1").await;
    // With its first frame the connection has begun to count the time.
    assert_eq!(mute.frame().await.0, TEXT);
    for _ in 0..2 {
        world.clock.advance(PING);
        assert_eq!(mute.frame().await.0, PINGS);
    }
    world.clock.advance(PING);
    let (kind, content) = mute.frame().await;
    assert_eq!((kind, &content[..2]), (CLOSE, &1011_u16.to_be_bytes()[..]));
    let rest = timeout(PATIENCE, mute.0.read(&mut [0; 16])).await.expect("it stays open");
    assert_eq!(rest.unwrap(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_answers_its_pings_stays() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    for _ in 0..5 {
        world.clock.advance(PING);
        // The answer to the ping leaves before the acknowledgement that this waits for.
        let id = world.push("c-1", json!({})).await;
        assert_eq!(crate::harness::message(&mut device).await.0, id);
        world.until_status(&id, 2).await;
    }
    drop(device);
    world.stop().await;
}

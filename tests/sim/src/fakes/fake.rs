//! The handle on a running fake vendor, and on all of them.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Apns, ApnsFake, Fault, Fcm, FcmFake, Huawei, HuaweiFake, Jpush, JpushFake, Outage, Recorded,
    Stats, TokenFault, TokenRule, Vendor, VendorClock,
    server::{self, House},
};

/// How closely requests are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// All that the vendor checks.
    #[default]
    Strict,
    /// Credentials and targets only, for load runs.
    Load,
}

/// How a fake is set up. What is left out of [`Options::default`] and [`Options::load`] is the
/// vendor's own, such as its credentials.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How closely requests are looked at.
    pub mode: Mode,
    /// How long every answer takes, in milliseconds.
    pub latency_ms: u64,
    /// The last requests that are kept; 0 for none.
    pub requests_kept: usize,
    /// Different tokens whose acceptances are counted; 0 for none.
    pub tokens_counted: usize,
    /// Which tokens are bad.
    pub token_rules: Vec<TokenRule>,
    /// Its time.
    pub clock: VendorClock,
}

/// Requests that a fake keeps unless told otherwise.
const REQUESTS_KEPT: usize = 10_000;
/// Tokens that a fake counts unless told otherwise: 12 bytes each, about 100 MB with the table.
const TOKENS_COUNTED: usize = 4_000_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            mode: Mode::Strict,
            latency_ms: 0,
            requests_kept: REQUESTS_KEPT,
            tokens_counted: TOKENS_COUNTED,
            token_rules: vec![TokenRule::prefix("dead", TokenFault::Dead)],
            clock: VendorClock::system(),
        }
    }
}

impl Options {
    /// For load runs: it looks at credentials and targets only, keeps no requests, and has no
    /// dead tokens until told of some, as any token may begin with `dead` there.
    #[must_use]
    pub fn load() -> Self {
        let token_rules = Vec::new();
        Self { mode: Mode::Load, requests_kept: 0, token_rules, ..Self::default() }
    }
}

/// A running vendor. It ends, with all its connections, when this is dropped.
pub struct Fake<V: Vendor> {
    pub(super) house: Arc<House<V>>,
    address: SocketAddr,
    orders: mpsc::Sender<(Outage, oneshot::Sender<()>)>,
    task: JoinHandle<()>,
}

impl<V: Vendor> Fake<V> {
    /// Starts it on the runtime of the caller.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(vendor: V, options: Options) -> io::Result<Self> {
        let listener = server::listen(options.listen)?;
        let address = listener.local_addr()?;
        vendor.listening(&format!("http://{address}"));
        let house = Arc::new(House::new(vendor, &options));
        let (orders, received) = mpsc::channel(1);
        let task = tokio::spawn(server::run(Arc::clone(&house), listener, address, received));
        Ok(Self { house, address, orders, task })
    }

    /// Its base URL, without a slash at the end. APNs speaks HTTP/2 with prior knowledge there.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same with TLS, under a certificate that it signed itself.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The last requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.house.books.requests()
    }

    /// How often a push to this token was accepted, answered or not.
    #[must_use]
    pub fn accepted(&self, token: &str) -> u32 {
        self.house.books.accepted(token)
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.house.books.stats()
    }

    /// Waits until its counters are such. A test puts its own time limit around it.
    pub async fn until(&self, reached: impl Fn(&Stats) -> bool) -> Stats {
        self.house.books.until(reached).await
    }

    /// Its time, to be moved.
    #[must_use]
    pub fn clock(&self) -> &VendorClock {
        &self.house.books.clock
    }

    /// The next pushes meet these faults, one each.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.house.pushes.add(faults);
    }

    /// So many pushes in a thousand meet this fault.
    pub fn plan_share(&self, fault: Fault, per_mille: u16) {
        self.house.pushes.add_share(fault, per_mille);
    }

    /// The next calls of the token endpoint meet these faults, one each.
    pub fn plan_token_calls(&self, faults: impl IntoIterator<Item = Fault>) {
        self.house.token_calls.add(faults);
    }

    /// Nothing that was planned happens any more, and what was slow is answered.
    pub fn clear_plans(&self) {
        self.house.pushes.clear();
        self.house.token_calls.clear();
    }

    /// Gives this token a fault, or takes away what was given so.
    pub fn set_token(&self, token: &str, fault: Option<TokenFault>) {
        self.house.books.tokens.set(token, fault);
    }

    /// Gives all tokens of a kind a fault.
    pub fn add_token_rule(&self, rule: TokenRule) {
        self.house.books.tokens.add(rule);
    }

    /// Begins or ends an outage; returns when it holds.
    pub async fn set_outage(&self, outage: Outage) {
        let (done, waits) = oneshot::channel();
        if self.orders.send((outage, done)).await.is_ok() {
            // The server ends only with this handle.
            let _ = waits.await;
        }
    }
}

impl<V: Vendor> Drop for Fake<V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All the vendors, with one time.
pub struct Fakes {
    /// JPush v3.
    pub jpush: JpushFake,
    /// FCM HTTP v1.
    pub fcm: FcmFake,
    /// APNs.
    pub apns: ApnsFake,
    /// Huawei Push Kit.
    pub huawei: HuaweiFake,
}

impl Fakes {
    /// Starts them on the four ports that follow that of `options`, or on free ones if it is 0.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        let port = options.listen.port();
        let on = |place: u16| {
            let port = if port == 0 { 0 } else { port.saturating_add(place) };
            Options { listen: SocketAddr::new(options.listen.ip(), port), ..options.clone() }
        };
        Ok(Self {
            jpush: Fake::start(Jpush::default(), on(1)).await?,
            fcm: Fake::start(Fcm::default(), on(2)).await?,
            apns: Fake::start(Apns::default(), on(3)).await?,
            huawei: Fake::start(Huawei::default(), on(4)).await?,
        })
    }
}

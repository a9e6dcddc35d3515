//! The apps with their keys, opened and in memory: what every call is authenticated against. It
//! follows the ledger, so that a change on any node is known here within a moment.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    Event,
    app::{App, AppConfig, CallUrl, JwtKeys, SecretRef, VendorRef},
    facts::{Fact, Key},
};
use projections::{Fault, db::Conn};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    callback::{self, Endpoint},
    delivery::channel::{Channel, VendorConfig},
    feed::follow::Follower,
    jwt::Verifier,
    ledger::Ledger,
    secrets::{MasterKey, SecretError},
};

/// Time between two looks at what was committed.
const PACE: Duration = Duration::from_millis(20);
/// Time between two looks for ids that are not known, and after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An app with its keys.
#[derive(Debug)]
pub struct AppEntry {
    /// Its configuration.
    pub config: AppConfig,
    /// Version of its stream.
    pub version: i64,
    /// Its zone.
    pub timezone: Tz,
    /// Keys that may sign UMS terminal calls.
    pub ums_app_keys: Vec<String>,
    /// Keys that may sign UMS cloud calls.
    pub ums_system_keys: Vec<String>,
    /// What the app's own access tokens are checked with, if it signs any.
    pub ums_jwt: Option<Verifier>,
    /// Secrets that may ask for Easemob app tokens, each with its fingerprint.
    pub easemob_secrets: Vec<(String, String)>,
    /// Keys that its server may show over Antelope's interface, and that may sign tokens there.
    pub antelope_keys: Vec<String>,
    /// Keys that signatures of its Tencent accounts may be made with.
    pub tencent_keys: Vec<String>,
    /// What calls to its server about Tencent messages are signed with.
    pub tencent_token: Option<String>,
    /// Secrets that calls to its webhooks are signed with, newest first, by webhook.
    pub webhook_secrets: HashMap<Uuid, Vec<String>>,
    /// URLs of the configuration that are sealed, whole, by reference.
    urls: HashMap<String, String>,
    /// Whom to call back, as it is configured now.
    pub callbacks: Vec<Arc<Endpoint>>,
    /// Its push vendors that can be spoken to, in the order of its configuration.
    pub vendors: Vec<(VendorRef, Arc<Channel>)>,
}

impl AppEntry {
    /// The app's own id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.app_id
    }

    /// A URL of its configuration, whole.
    #[must_use]
    pub fn url(&self, url: &CallUrl) -> Option<String> {
        match url {
            CallUrl::Open(url) => Some(url.clone()),
            CallUrl::Sealed { secret, .. } => self.urls.get(&secret.reference).cloned(),
        }
    }

    /// Packages that may register over UMS; empty: any.
    #[must_use]
    pub fn ums_packages(&self) -> &[String] {
        self.config.ums.as_ref().map_or(&[], |ums| &ums.app_packages)
    }

    /// A time in the app's zone, as UMS writes it.
    #[must_use]
    pub fn time(&self, micros: i64) -> String {
        let utc = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
        utc.with_timezone(&self.timezone).format("%Y-%m-%d %H:%M:%S").to_string()
    }
}

#[derive(Debug, Default)]
struct Apps {
    by_id: HashMap<String, Arc<AppEntry>>,
    by_ums_app: HashMap<String, Arc<AppEntry>>,
    by_ums_system: HashMap<String, Arc<AppEntry>>,
    /// By organization and name, both in lower case.
    by_easemob: HashMap<(String, String), Arc<AppEntry>>,
    by_antelope_app: HashMap<String, Arc<AppEntry>>,
    by_tencent: HashMap<u32, Arc<AppEntry>>,
    /// First and last number of each range of Antelope devices.
    by_cid: Vec<(u32, u32, Arc<AppEntry>)>,
}

/// All apps that are not deleted.
pub struct Directory {
    ledger: Ledger,
    master: MasterKey,
    apps: RwLock<Arc<Apps>>,
    /// When the last look at the database began.
    looked: Mutex<Instant>,
    as_of: AtomicI64,
}

impl Directory {
    /// Loads all apps.
    ///
    /// # Errors
    /// [`SecretError`] when a key cannot be opened or the database fails.
    pub async fn load(ledger: Ledger, master: MasterKey) -> Result<Arc<Directory>, SecretError> {
        let apps = RwLock::default();
        let (looked, as_of) = (Mutex::new(Instant::now()), AtomicI64::new(0));
        let directory = Arc::new(Directory { ledger, master, apps, looked, as_of });
        directory.reload().await?;
        Ok(directory)
    }

    /// Follows the ledger and loads again whenever an app changes.
    pub async fn follow(self: Arc<Self>, after: i64, stop: CancellationToken) {
        let mut follower = Follower::new(&self.ledger, after).paced(PACE);
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = follower.next() => batch,
            };
            let concerned = match &batch {
                Ok(batch) => batch.events().iter().any(|e| concerns_apps(&e.event)),
                Err(_) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    true
                }
            };
            if concerned && let Err(error) = self.reload().await {
                tracing::error!(%error, "the apps cannot be loaded");
            }
        }
    }

    /// Loads all apps anew.
    ///
    /// # Errors
    /// [`SecretError`] when a key cannot be opened or the database fails.
    pub async fn reload(&self) -> Result<(), SecretError> {
        self.look(&mut *self.looked.lock().await).await
    }

    async fn look(&self, looked: &mut Instant) -> Result<(), SecretError> {
        let began = Instant::now();
        // What is read now includes all that is known to be there now.
        let head = self.ledger.head();
        let Fact::Apps(all) = self.ledger.fact(Key::Apps).await? else {
            return Err(Fault::stored("apps", "another fact").into());
        };
        let (mut apps, former) = (Apps::default(), self.now());
        let mut checkout = self.ledger.database().ledger_read.checkout().await?;
        for app in all.iter().filter(|app| !app.deleted) {
            let former = former.by_id.get(&app.config.app_id);
            let same = |own: &&Arc<AppEntry>| own.version == app.version;
            let entry = match former.filter(same) {
                Some(own) => Arc::clone(own),
                None => {
                    let former = former.map(AsRef::as_ref);
                    Arc::new(self.opened(&mut checkout.conn(), app, former).await?)
                }
            };
            if let Some(ums) = &app.config.ums {
                apps.by_ums_app.insert(ums.app_id.clone(), Arc::clone(&entry));
                apps.by_ums_system.insert(ums.system_id.clone(), Arc::clone(&entry));
            }
            if let Some(easemob) = &app.config.easemob {
                let path = (easemob.org_name.to_lowercase(), easemob.app_name.to_lowercase());
                apps.by_easemob.insert(path, Arc::clone(&entry));
            }
            if let Some(antelope) = &app.config.antelope {
                apps.by_antelope_app.insert(antelope.app_id.clone(), Arc::clone(&entry));
                let ranges = antelope.cid_ranges.iter();
                apps.by_cid.extend(ranges.map(|&(first, last)| (first, last, Arc::clone(&entry))));
            }
            if let Some(tencent) = &app.config.tencent {
                apps.by_tencent.insert(tencent.sdk_app_id, Arc::clone(&entry));
            }
            apps.by_id.insert(app.config.app_id.clone(), entry);
        }
        apps.by_cid.sort_unstable_by_key(|(first, ..)| *first);
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(apps);
        *looked = began;
        self.as_of.fetch_max(head, Ordering::AcqRel);
        Ok(())
    }

    /// Loads all apps anew, unless they are known as of a position or later.
    ///
    /// # Errors
    /// [`SecretError`] when a key cannot be opened or the database fails.
    pub async fn known_as_of(&self, position: i64) -> Result<(), SecretError> {
        if self.as_of.load(Ordering::Acquire) >= position { Ok(()) } else { self.reload().await }
    }

    /// An app with its keys opened. What was fetched for it before is kept.
    async fn opened(
        &self,
        conn: &mut Conn<'_>,
        app: &App,
        former: Option<&AppEntry>,
    ) -> Result<AppEntry, SecretError> {
        let mut entry = AppEntry {
            config: app.config.clone(),
            version: app.version,
            timezone: app.config.timezone.parse().unwrap_or(Tz::UTC),
            ums_app_keys: Vec::new(),
            ums_system_keys: Vec::new(),
            ums_jwt: None,
            easemob_secrets: Vec::new(),
            antelope_keys: Vec::new(),
            tencent_keys: Vec::new(),
            tencent_token: None,
            webhook_secrets: HashMap::new(),
            urls: HashMap::new(),
            callbacks: Vec::new(),
            vendors: self.vendors(conn, &app.config, former).await?,
        };
        let sealed = app.config.urls().filter_map(CallUrl::secret);
        let sealed: Vec<&str> = sealed.map(|secret| secret.reference.as_str()).collect();
        entry.urls = self.master.get_all(conn, &sealed).await?;
        if let Some(easemob) = &app.config.easemob {
            let secrets = self.secrets(conn, &easemob.client_secrets).await?;
            let prints = easemob.client_secrets.iter().map(|secret| secret.fingerprint.clone());
            entry.easemob_secrets = prints.zip(secrets).collect();
        }
        if let Some(antelope) = &app.config.antelope {
            entry.antelope_keys = self.secrets(conn, &antelope.app_keys).await?;
        }
        if let Some(tencent) = &app.config.tencent {
            entry.tencent_keys = self.secrets(conn, &tencent.secret_keys).await?;
            let token = tencent.callback_token.as_slice();
            entry.tencent_token = self.secrets(conn, token).await?.pop();
        }
        if let Some(ums) = &app.config.ums {
            entry.ums_app_keys = self.secrets(conn, &ums.app_keys).await?;
            entry.ums_system_keys = self.secrets(conn, &ums.system_keys).await?;
            if let Some(jwt) = &ums.jwt {
                let secrets = match &jwt.keys {
                    JwtKeys::Hs256(secrets) => self.secrets(conn, secrets).await?,
                    JwtKeys::JwksUrl(url) => entry.url(url).into_iter().collect(),
                };
                let former = former.and_then(|former| former.ums_jwt.as_ref());
                entry.ums_jwt = Some(Verifier::new(&app.config.app_id, jwt, &secrets, former));
            }
        }
        let sealed = app.config.webhooks.iter().flat_map(|webhook| &webhook.secrets);
        let sealed: Vec<&str> = sealed.map(|secret| secret.reference.as_str()).collect();
        let opened = self.master.get_all(conn, &sealed).await?;
        for webhook in &app.config.webhooks {
            let secrets = webhook.secrets.iter();
            let secrets = secrets.filter_map(|secret| opened.get(&secret.reference).cloned());
            entry.webhook_secrets.insert(webhook.id, secrets.collect());
        }
        entry.callbacks = callback::endpoints(&self.master, &entry);
        Ok(entry)
    }

    /// The app's vendors. A channel holds access tokens, so it is kept as long as its credentials
    /// are the same. One that cannot be opened is left out: the app's other vendors still work.
    async fn vendors(
        &self,
        conn: &mut Conn<'_>,
        config: &AppConfig,
        former: Option<&AppEntry>,
    ) -> Result<Vec<(VendorRef, Arc<Channel>)>, SecretError> {
        let former = former.map_or(&[][..], |former| &former.vendors);
        let mut vendors = Vec::with_capacity(config.vendors.len());
        for vendor in &config.vendors {
            let kept = former.iter().find(|(own, _)| own.credentials == vendor.credentials);
            if let Some((_, channel)) = kept {
                vendors.push((vendor.clone(), Arc::clone(channel)));
                continue;
            }
            let text = self.master.get(conn, &vendor.credentials.reference).await?;
            match VendorConfig::parse(&text).and_then(Channel::open) {
                Ok(channel) => vendors.push((vendor.clone(), Arc::new(channel))),
                Err(error) => {
                    let (app, name) = (&config.app_id, &vendor.name);
                    tracing::error!(app, vendor = name, %error, "a push vendor cannot be used");
                }
            }
        }
        Ok(vendors)
    }

    async fn secrets(
        &self,
        conn: &mut Conn<'_>,
        references: &[SecretRef],
    ) -> Result<Vec<String>, SecretError> {
        let mut opened = Vec::with_capacity(references.len());
        for secret in references {
            opened.push(self.master.get(conn, &secret.reference).await?);
        }
        Ok(opened)
    }

    fn now(&self) -> Arc<Apps> {
        Arc::clone(&self.apps.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn find(
        &self,
        pick: impl Fn(&Apps) -> Option<Arc<AppEntry>>,
    ) -> Result<Option<Arc<AppEntry>>, SecretError> {
        if let Some(app) = pick(&self.now()) {
            return Ok(Some(app));
        }
        self.look_since(Instant::now()).await?;
        Ok(pick(&self.now()))
    }

    /// Looks again, unless somebody did since then: an app that is asked for may have been created
    /// on another node just now. Many who ask at once share a look, so unknown ids cost little.
    async fn look_since(&self, asked: Instant) -> Result<(), SecretError> {
        loop {
            let mut looked = self.looked.lock().await;
            if *looked >= asked {
                return Ok(());
            }
            let next = *looked + LOOK_AGAIN;
            if Instant::now() >= next {
                return self.look(&mut looked).await;
            }
            drop(looked);
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// The app with that id.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn app(&self, id: &str) -> Result<Option<Arc<AppEntry>>, SecretError> {
        self.find(|apps| apps.by_id.get(id).cloned()).await
    }

    /// The app whose terminals send that UMS `appId`.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn ums_app(&self, id: &str) -> Result<Option<Arc<AppEntry>>, SecretError> {
        self.find(|apps| apps.by_ums_app.get(id).cloned()).await
    }

    /// The app whose clouds send that UMS `systemId`.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn ums_system(&self, id: &str) -> Result<Option<Arc<AppEntry>>, SecretError> {
        self.find(|apps| apps.by_ums_system.get(id).cloned()).await
    }

    /// The app with that id, as far as this node knows.
    #[must_use]
    pub fn known(&self, id: &str) -> Option<Arc<AppEntry>> {
        self.now().by_id.get(id).cloned()
    }

    /// Whether an app has push vendors, as far as this node knows.
    #[must_use]
    pub fn has_vendors(&self, id: &str) -> bool {
        self.now().by_id.get(id).is_some_and(|app| !app.vendors.is_empty())
    }

    /// The app that Easemob's callers know by that organization and name; case does not count.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn easemob(
        &self,
        org: &str,
        name: &str,
    ) -> Result<Option<Arc<AppEntry>>, SecretError> {
        let path = (org.to_lowercase(), name.to_lowercase());
        self.find(|apps| apps.by_easemob.get(&path).cloned()).await
    }

    /// The app whose server sends that header `X-APP-ID` over Antelope's interface.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn antelope(&self, id: &str) -> Result<Option<Arc<AppEntry>>, SecretError> {
        self.find(|apps| apps.by_antelope_app.get(id).cloned()).await
    }

    /// The app that an Antelope device belongs to by its number.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn antelope_of_cid(&self, cid: u32) -> Result<Option<Arc<AppEntry>>, SecretError> {
        self.find(|apps| {
            let after = apps.by_cid.partition_point(|(first, ..)| *first <= cid);
            let (_, last, app) = apps.by_cid.get(after.checked_sub(1)?)?;
            (cid <= *last).then(|| Arc::clone(app))
        })
        .await
    }

    /// The app of that Tencent `sdkappid`.
    ///
    /// # Errors
    /// [`SecretError`] when looking again fails.
    pub async fn tencent(&self, id: u32) -> Result<Option<Arc<AppEntry>>, SecretError> {
        self.find(|apps| apps.by_tencent.get(&id).cloned()).await
    }

    /// All apps, in order of id.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<AppEntry>> {
        let mut apps: Vec<_> = self.now().by_id.values().cloned().collect();
        apps.sort_by(|a, b| a.id().cmp(b.id()));
        apps
    }
}

fn concerns_apps(event: &Event) -> bool {
    matches!(event, Event::AppCreated(_) | Event::AppChanged(_) | Event::AppDeleted(_))
}

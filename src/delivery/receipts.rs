//! What push vendors tell of messages that they took, after the call that handed them over: that the
//! device has one, or that its token is dead. A receipt names a message or a task and a token; here
//! it finds the delivery. Saying the same twice changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    Metadata,
    app::AppConfig,
    device::{Binding, BuryToken},
    facts::{Fact, Key},
    message::{AdvanceDeliveries, Message, MessageId, Progress, Step},
    task::{AdvanceChunk, Task, state::Way},
    vendor::Vendor,
};
use projections::{Fault, registry, registry::audience::targets_at, task_chunks};

use super::machine::lives;
use crate::{
    app::Server,
    directory::AppEntry,
    ledger::{Context, Lane, Refused},
};

/// Devices of tasks that are remembered by token, all tasks together.
const REMEMBERED_DEVICES: usize = 4_000_000;
/// Longest wait for the views to know the chunks of a task.
const VIEWS: Duration = Duration::from_secs(2);

/// What a vendor tells of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message or the task.
    pub message: MessageId,
    /// The token that it went to.
    pub token: String,
    /// When, in µs since the epoch.
    pub at: i64,
    /// The vendor's own code.
    pub code: String,
    /// What it says.
    pub told: Told,
}

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The device has the message.
    Received,
    /// The token is dead.
    Dead,
    /// It did not come this time; that is no end, and nothing is recorded.
    NotNow,
}

/// Records what a vendor tells. What is of no message, no device or no vendor of the app is passed
/// over: the vendor could not mend it.
///
/// # Errors
/// [`Refused`] when it cannot be recorded now; telling it again may work.
pub async fn record(
    server: &Server,
    app: &AppEntry,
    vendor: Vendor,
    receipts: Vec<Receipt>,
) -> Result<(), Refused> {
    let mut by_message: BTreeMap<i64, Vec<Receipt>> = BTreeMap::new();
    for receipt in receipts.into_iter().filter(|receipt| receipt.told != Told::NotNow) {
        by_message.entry(receipt.message.0).or_default().push(receipt);
    }
    for (id, receipts) in by_message {
        let id = MessageId(id);
        if let Fact::Message(Some(message)) = server.ledger.fact(Key::Message(id)).await? {
            if message.app == app.id() {
                of_message(server, app, vendor, (id, &message), receipts).await?;
            }
        } else if let Fact::Task(Some(task)) = server.ledger.fact(Key::Task(id)).await?
            && task.app == app.id()
        {
            of_task(server, app, vendor, (id, &task), receipts).await?;
        }
    }
    Ok(())
}

async fn of_message(
    server: &Server,
    app: &AppEntry,
    vendor: Vendor,
    (id, message): (MessageId, &Message),
    receipts: Vec<Receipt>,
) -> Result<(), Refused> {
    let taken = message.deliveries.iter().filter(|(_, own)| own.vendor == Some(vendor));
    let numbers: Vec<i64> = taken.map(|(number, _)| *number).collect();
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let devices = registry::by_numbers(&mut checkout.conn(), &numbers).await?;
    drop(checkout);
    let mut steps = Vec::new();
    for receipt in receipts {
        let holds = devices.iter().find_map(|(_, device)| {
            let package = &device.profile.app_package;
            let binding = held(&app.config, vendor, device.bindings(), package, &receipt.token)?;
            Some((device.number, binding))
        });
        let Some((number, binding)) = holds else { continue };
        match receipt.told {
            Told::Received => steps.push(received(number, vendor)),
            Told::Dead => bury(server, app, number, binding, &receipt).await?,
            Told::NotNow => {}
        }
    }
    if steps.is_empty() {
        return Ok(());
    }
    execute(server, app, AdvanceDeliveries { message: id, steps }).await
}

async fn of_task(
    server: &Server,
    app: &AppEntry,
    vendor: Vendor,
    (id, task): (MessageId, &Task),
    receipts: Vec<Receipt>,
) -> Result<(), Refused> {
    let Some(as_of) = task.started.map(|started| started.position) else { return Ok(()) };
    let mut book = server.books.get(id);
    if receipts.iter().any(|receipt| book.find(&receipt.token).is_none()) {
        book = book.brought_up(server, &app.config, vendor, (id, as_of)).await?;
        server.books.put(id, &book);
    }
    let mut steps: BTreeMap<i64, Vec<Step>> = BTreeMap::new();
    let mut dead: Vec<(i64, Receipt)> = Vec::new();
    for receipt in receipts {
        let Some((chunk, number)) = book.find(&receipt.token) else { continue };
        match receipt.told {
            Told::Received => steps.entry(chunk).or_default().push(received(number, vendor)),
            Told::Dead => dead.push((number, receipt)),
            Told::NotNow => {}
        }
    }
    bury_all(server, app, vendor, dead).await?;
    for (chunk, steps) in steps {
        execute(server, app, AdvanceChunk { task: id, chunk, steps }).await?;
    }
    Ok(())
}

/// Unbinds tokens that receipts call dead, each of the device with that number.
async fn bury_all(
    server: &Server,
    app: &AppEntry,
    vendor: Vendor,
    dead: Vec<(i64, Receipt)>,
) -> Result<(), Refused> {
    if dead.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = dead.iter().map(|(number, _)| *number).collect();
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let devices = registry::by_numbers(&mut checkout.conn(), &numbers).await?;
    drop(checkout);
    for (number, receipt) in dead {
        let Some((_, device)) = devices.iter().find(|(_, own)| own.number == number) else {
            continue;
        };
        let package = &device.profile.app_package;
        let held = held(&app.config, vendor, device.bindings(), package, &receipt.token);
        if let Some(binding) = held {
            bury(server, app, number, binding, &receipt).await?;
        }
    }
    Ok(())
}

/// The binding of a token to a vendor, if a device has it now.
fn held(
    config: &AppConfig,
    vendor: Vendor,
    bindings: Vec<Binding>,
    package: &str,
    token: &str,
) -> Option<Binding> {
    bindings.into_iter().find(|binding| {
        let own = config.vendor_of(binding, package).is_some_and(|own| own.vendor == vendor);
        own && binding.token == token
    })
}

fn received(device: i64, vendor: Vendor) -> Step {
    Step { vendor: Some(vendor), ..Step::of_server(device, Progress::Received) }
}

/// Unbinds a token that a receipt calls dead, unless the device got it only later.
async fn bury(
    server: &Server,
    app: &AppEntry,
    device: i64,
    binding: Binding,
    receipt: &Receipt,
) -> Result<(), Refused> {
    if lives(server, device, &binding, Some(receipt.at)).await? {
        return Ok(());
    }
    let Binding { notifier, token } = binding;
    execute(server, app, BuryToken { device, notifier, token, code: receipt.code.clone() }).await
}

async fn execute(
    server: &Server,
    app: &AppEntry,
    command: impl domain::Decide + Send + Sync + 'static,
) -> Result<(), Refused> {
    let (actor, via) = ("server".to_owned(), "receipt".to_owned());
    let metadata = Metadata { actor, via, ..Metadata::default() };
    let context = Context { app: app.id().to_owned(), metadata };
    match server.ledger.execute(Lane::Bulk, context, command).await {
        // It is over, or known: nothing that the vendor could mend.
        Ok(_) | Err(Refused::Rejected(_)) => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// The devices of tasks by token.
#[derive(Default)]
pub struct Books(Mutex<HashMap<MessageId, Arc<Book>>>);

/// The devices of one task that were handed to a vendor, by their tokens' hashes, and the version
/// up to which each chunk is in it.
#[derive(Clone, Default)]
struct Book {
    chunks: HashMap<i64, i64>,
    devices: HashMap<u64, (i64, i64)>,
}

impl Books {
    fn get(&self, task: MessageId) -> Arc<Book> {
        let books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        books.get(&task).cloned().unwrap_or_default()
    }

    fn put(&self, task: MessageId, book: &Arc<Book>) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = books.iter().filter(|(own, _)| **own != task);
        let all: usize = others.map(|(_, book)| book.devices.len()).sum();
        if all + book.devices.len() > REMEMBERED_DEVICES {
            books.clear();
        }
        books.insert(task, Arc::clone(book));
    }
}

impl Book {
    /// Chunk and number of the device that a token was of.
    fn find(&self, token: &str) -> Option<(i64, i64)> {
        self.devices.get(&hashed(token)).copied()
    }

    /// The same with the chunks that were recorded, or moved on, since it was written.
    async fn brought_up(
        self: Arc<Book>,
        server: &Server,
        config: &AppConfig,
        vendor: Vendor,
        (task, as_of): (MessageId, i64),
    ) -> Result<Arc<Book>, Fault> {
        // What the views do not know yet is told again, or was told too early.
        let _ = server.views.reached(server.ledger.head(), VIEWS).await;
        let mut views = server.ledger.database().views.checkout().await?;
        let versions = task_chunks::versions(&mut views.conn(), task).await?;
        let moved = versions.into_iter().filter(|(chunk, now)| self.chunks.get(chunk) != Some(now));
        let moved: Vec<(i64, i64)> = moved.collect();
        if moved.is_empty() {
            return Ok(self);
        }
        let mut book = Arc::unwrap_or_clone(self);
        let mut ledger = server.ledger.database().ledger_read.checkout().await?;
        for (chunk, version) in moved {
            let states = task_chunks::states(&mut views.conn(), task, chunk).await?;
            let taken = states.into_iter().filter(|(_, state)| state.way() == Way::Vendor(vendor));
            let numbers: Vec<i64> = taken.map(|(number, _)| number).collect();
            for target in targets_at(&mut ledger.conn(), &numbers, as_of).await? {
                let own = target.bindings.iter().filter(|binding| {
                    let own = config.vendor_of(binding, &target.app_package);
                    own.is_some_and(|own| own.vendor == vendor)
                });
                let places = own.map(|binding| (hashed(&binding.token), (chunk, target.number)));
                book.devices.extend(places);
            }
            book.chunks.insert(chunk, version);
        }
        Ok(Arc::new(book))
    }
}

fn hashed(token: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    hasher.finish()
}

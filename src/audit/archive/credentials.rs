//! Credentials in an export, for whoever asks for them: keys of apps and vendors sealed as they lie,
//! which only the same master key opens, and hashes of operators' tokens and of passwords. They
//! are no facts, so no proof is about them: a seal by the master key says that they are this ledger's,
//! as of the end of this export, and nobody's addition.

use std::{fs, io::Write, path::Path};

use projections::{
    Fault,
    db::{Conn, Insert, Value},
    on,
};
use serde::{Deserialize, Serialize};

use super::{super::verify::NotVerified, file_hash, other, private_file};
use crate::{
    ledger::Ledger,
    secrets::{MasterKey, SecretError, hex, new_seed, same, unhex},
};

/// Name of the file.
pub(super) const FILE: &str = "credentials.json";

/// What the seal is for.
const SEALED: &[u8] = b"exported credentials";
/// What the locked key is bound to.
const PURPOSE: &str = "exported master key";

/// The master key, locked with a passphrase; bytes are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    salt: String,
    sealed: String,
}

impl Locked {
    /// Locks the digits of a master key.
    ///
    /// # Errors
    /// [`SecretError`] when there is no randomness.
    pub fn new(passphrase: &str, digits: &str) -> Result<Locked, SecretError> {
        let salt = new_seed()?;
        let key = MasterKey::of_passphrase(passphrase, &salt)?;
        let sealed = key.seal_bytes(PURPOSE, digits.as_bytes())?;
        Ok(Locked { salt: hex(&salt), sealed: hex(&sealed) })
    }

    fn open(&self, passphrase: &str) -> Result<String, SecretError> {
        let bytes = |text: &str| unhex(text).ok_or(SecretError::CannotOpen);
        let key = MasterKey::of_passphrase(passphrase, &bytes(&self.salt)?)?;
        let digits = key.open_bytes(PURPOSE, &bytes(&self.sealed)?)?;
        String::from_utf8(digits).map_err(|_| SecretError::CannotOpen)
    }
}

/// What credentials are to be in an export.
#[derive(Clone)]
pub struct Carried {
    /// What seals them.
    pub master: MasterKey,
    /// The master key too, if it is locked.
    pub locked: Option<Locked>,
}

/// The digits of the master key that an export carries, if it does.
///
/// # Errors
/// [`NotVerified::Other`] when it is another passphrase's.
pub fn master_key(directory: &Path, passphrase: &str) -> Result<Option<String>, NotVerified> {
    let locked = credentials(directory)?.master_key;
    locked.map(|locked| locked.open(passphrase)).transpose().map_err(other)
}

fn credentials(directory: &Path) -> Result<Credentials, NotVerified> {
    let text = fs::read_to_string(directory.join(FILE)).map_err(other)?;
    serde_json::from_str(&text).map_err(other)
}

/// Every credential of a ledger; bytes are in hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// Reference, app, sealed value.
    secrets: Vec<(String, String, String)>,
    /// Number, hash of the token, name, role, app, time.
    operators: Vec<(i64, String, String, String, Option<String>, i64)>,
    /// Account, hash.
    easemob_passwords: Vec<(String, String)>,
    /// A keyed hash of all that, and of where the export ends.
    seal: String,
    /// The key that opens the sealed values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    master_key: Option<Locked>,
}

impl Credentials {
    /// The seal that a master key sets under them, in an export whose chain ends so.
    fn sealed(&self, master: &MasterKey, chain: &str) -> Result<String, NotVerified> {
        let all = (&self.secrets, &self.operators, &self.easemob_passwords);
        let all = serde_json::to_vec(&all).map_err(other)?;
        Ok(master.fingerprint(&[SEALED, chain.as_bytes(), &all]))
    }
}

/// Writes them all, for an export whose chain ends so; gives the hash of the file.
pub(super) async fn write(
    ledger: &Ledger,
    directory: &Path,
    carried: Carried,
    chain: &str,
) -> Result<String, NotVerified> {
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let all = read(&mut checkout.conn()).await?;
    let seal = all.sealed(&carried.master, chain)?;
    let all = Credentials { seal, master_key: carried.locked, ..all };
    let path = directory.join(FILE);
    let text = serde_json::to_string_pretty(&all).map_err(other)?;
    let mut file = private_file(&path).map_err(other)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(other)?;
    file_hash(&path).map_err(other)
}

async fn read(conn: &mut Conn<'_>) -> Result<Credentials, Fault> {
    const SECRETS: &str = "SELECT reference, app, sealed FROM secrets ORDER BY reference";
    const OPERATORS: &str =
        "SELECT number, hash, name, role, app, created_at FROM operators ORDER BY number";
    const PASSWORDS: &str = "SELECT account, hash FROM easemob_passwords ORDER BY account";
    let secrets: Vec<(String, String, Vec<u8>)> =
        on!(conn.again(), c => sqlx::query_as(SECRETS).fetch_all(&mut *c).await?);
    let secrets =
        secrets.into_iter().map(|(reference, app, sealed)| (reference, app, hex(&sealed)));
    Ok(Credentials {
        secrets: secrets.collect(),
        operators: on!(conn.again(), c => sqlx::query_as(OPERATORS).fetch_all(&mut *c).await?),
        easemob_passwords: on!(conn.again(), c => {
            sqlx::query_as(PASSWORDS).fetch_all(&mut *c).await?
        }),
        seal: String::new(),
        master_key: None,
    })
}

/// The credentials of an export whose chain ends so, once the seal is found good.
pub(super) fn checked(
    directory: &Path,
    chain: &str,
    master: Option<&MasterKey>,
) -> Result<Credentials, NotVerified> {
    let all = credentials(directory)?;
    let Some(master) = master else {
        return Err(other("the export has credentials: bring the master key of its ledger"));
    };
    match same(all.sealed(master, chain)?.as_bytes(), all.seal.as_bytes()) {
        true => Ok(all),
        false => Err(other(format!("{FILE} was not sealed by this master key for this export"))),
    }
}

/// Restores them all into empty tables.
pub(super) async fn restore(conn: &mut Conn<'_>, all: Credentials) -> Result<(), NotVerified> {
    let mut values: Vec<Value> = Vec::new();
    for (reference, app, sealed) in all.secrets {
        let sealed = unhex(&sealed).ok_or_else(|| other(format!("{FILE}: not hexadecimal")))?;
        values.extend([reference.into(), app.into(), sealed.into()]);
    }
    Insert::new("secrets", &["reference", "app", "sealed"], "").run(conn, values).await?;
    let mut values: Vec<Value> = Vec::new();
    for (number, hash, name, role, app, created_at) in all.operators {
        values.extend([number.into(), hash.into(), name.into(), role.into()]);
        values.extend([Value::Text(app), created_at.into()]);
    }
    let columns = ["number", "hash", "name", "role", "app", "created_at"];
    Insert::new("operators", &columns, "").run(conn, values).await?;
    if let Conn::Postgres(c) = conn.again() {
        const NEXT: &str = "SELECT setval(pg_get_serial_sequence('operators', 'number'), \
             (SELECT COALESCE(MAX(number), 0) + 1 FROM operators), false)";
        sqlx::query(NEXT).execute(&mut *c).await.map_err(Fault::from)?;
    }
    let mut values: Vec<Value> = Vec::new();
    for (account, hash) in all.easemob_passwords {
        values.extend([account.into(), hash.into()]);
    }
    Insert::new("easemob_passwords", &["account", "hash"], "").run(conn, values).await?;
    Ok(())
}

//! Secrets at rest. Values are sealed under a master key that never enters the database; the
//! ledger holds only references and keyed fingerprints. A fingerprint recognises a secret without
//! telling it, and without letting anyone who reads the ledger guess a short one.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use projections::{
    Fault,
    db::{self, Conn, Pool, Sql},
    on, scalars,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ledger::{Database, store::private_directory};

/// Bytes of the master key.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce, which precede the ciphertext.
const NONCE_BYTES: usize = 24;

/// The keys that this installation's secrets rest on, both derived from one master key.
#[derive(Clone)]
pub struct MasterKey {
    sealing: [u8; KEY_BYTES],
    fingerprints: [u8; KEY_BYTES],
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

/// What one call has sealed: nobody refers to it, should its command be refused.
#[derive(Debug, Default)]
pub struct Sealed(Mutex<Vec<String>>);

impl Sealed {
    /// Notes a reference.
    pub fn note(&self, reference: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(reference.to_owned());
    }

    /// Removes all that was noted. Only for what certainly nobody refers to: never after a command
    /// whose outcome is unknown.
    ///
    /// # Errors
    /// [`Fault`] when the database fails; what is left does no harm.
    pub async fn remove(&self, pool: &Pool) -> Result<(), Fault> {
        const SQL: Sql =
            scalars!("DELETE FROM secrets WHERE reference IN (SELECT list.value FROM ", ")");
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if noted.is_empty() {
            return Ok(());
        }
        let noted = db::list(&noted)?;
        let mut tx = pool.begin().await?;
        let sql = tx.conn().text(SQL);
        on!(tx.conn(), c => sqlx::query(sql).bind(noted).execute(&mut *c).await?.rows_affected());
        tx.commit().await
    }
}

/// A secret could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key file, or the randomness of the system.
    #[error("master key: {0}")]
    Io(#[from] std::io::Error),
    /// The master key is not 64 hex digits.
    #[error("the master key must be 64 hex digits")]
    NotAKey,
    /// There are secrets, and the key that opens them is not here.
    #[error(
        "the database holds secrets, and the master key that opens them is not here: put \
         master.key back into the data directory, or give the key"
    )]
    NoKey,
    /// The secret was sealed under another key, or altered.
    #[error("a secret cannot be opened with this master key")]
    CannotOpen,
    /// The database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl MasterKey {
    /// The key from its 64 hex digits, if given, else from `DIRECTORY/master.key`, which is made
    /// when there is nothing yet that needs it, readable by its owner alone.
    ///
    /// # Errors
    /// [`SecretError`] when neither can be had, or secrets wait for a key that is gone.
    pub async fn load(
        given: Option<&str>,
        directory: &Path,
        database: &Database,
    ) -> Result<MasterKey, SecretError> {
        if let Some(text) = given {
            return MasterKey::parse(text);
        }
        let file = directory.join("master.key");
        match fs::read_to_string(&file) {
            Ok(text) => return MasterKey::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        const SQL: &str = "SELECT reference FROM secrets UNION ALL \
             SELECT 'audit key' FROM audit_keys WHERE sealed IS NOT NULL LIMIT 1";
        let mut checkout = database.ledger_read.checkout().await?;
        let sealed: Option<(String,)> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).fetch_optional(&mut *c).await.map_err(Fault::from)?
        });
        match sealed {
            Some(_) => Err(SecretError::NoKey),
            None => MasterKey::make(directory, &file),
        }
    }

    fn make(directory: &Path, file: &Path) -> Result<MasterKey, SecretError> {
        let key = random::<KEY_BYTES>()?;
        MasterKey::write(directory, file, &hex(&key))
    }

    /// Writes a key's file unless there is one; gives the key that is there then.
    fn write(directory: &Path, file: &Path, text: &str) -> Result<MasterKey, SecretError> {
        private_directory(directory)?;
        // Written aside and linked into place: whoever sees the file sees all of it.
        let aside = directory.join(format!("master.key.{}", std::process::id()));
        let mut created =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        created.write_all(text.as_bytes())?;
        created.sync_all()?;
        let linked = fs::hard_link(&aside, file);
        fs::remove_file(&aside)?;
        match linked {
            Ok(()) => MasterKey::parse(text),
            // Another process was faster.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                MasterKey::parse(&fs::read_to_string(file)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn parse(text: &str) -> Result<MasterKey, SecretError> {
        let bytes = unhex(text.trim()).ok_or(SecretError::NotAKey)?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| SecretError::NotAKey)?;
        Ok(MasterKey::derive(&key))
    }

    /// The digits of the key, given or from its file, to be carried elsewhere under a passphrase.
    pub(crate) fn digits(given: Option<&str>, directory: &Path) -> Result<String, SecretError> {
        let text = match given {
            Some(text) => text.to_owned(),
            None => fs::read_to_string(directory.join("master.key"))?,
        };
        let text = text.trim().to_owned();
        MasterKey::parse(&text).map(|_| text)
    }

    /// Puts a key that was carried here into its file; another one that is there is not replaced.
    pub(crate) fn place(directory: &Path, digits: &str) -> Result<(), SecretError> {
        let there = MasterKey::write(directory, &directory.join("master.key"), digits)?;
        match there.sealing == MasterKey::parse(digits)?.sealing {
            true => Ok(()),
            false => Err(SecretError::CannotOpen),
        }
    }

    /// The key that a passphrase makes with a salt (argon2id).
    pub(crate) fn of_passphrase(passphrase: &str, salt: &[u8]) -> Result<MasterKey, SecretError> {
        let mut key = [0; KEY_BYTES];
        let argon = argon2::Argon2::default();
        let made = argon.hash_password_into(passphrase.as_bytes(), salt, &mut key);
        made.map_err(|_| SecretError::CannotOpen)?;
        Ok(MasterKey::derive(&key))
    }

    /// No key serves two purposes.
    fn derive(key: &[u8; KEY_BYTES]) -> MasterKey {
        let derived = |purpose: &str| keyed(key).chain_update(purpose).finalize().into_bytes();
        MasterKey {
            sealing: derived("sealing").into(),
            fingerprints: derived("fingerprints").into(),
        }
    }

    /// A keyed hash of some parts, hex; parts can't run into each other.
    #[must_use]
    pub fn fingerprint(&self, parts: &[&[u8]]) -> String {
        let mut mac = keyed(&self.fingerprints);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes())
    }

    /// Seals a value, bound to what it is for.
    pub(crate) fn seal_bytes(&self, purpose: &str, value: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload { msg: value, aad: purpose.as_bytes() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        Ok([&nonce[..], &sealed.map_err(|_| SecretError::CannotOpen)?].concat())
    }

    /// Opens what was sealed for that purpose.
    pub(crate) fn open_bytes(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
        let (nonce, msg) =
            sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SecretError::CannotOpen)?;
        let payload = Payload { msg, aad: purpose.as_bytes() };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        opened.map_err(|_| SecretError::CannotOpen)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.sealing.into())
    }

    /// Seals a value and stores it under a reference.
    ///
    /// # Errors
    /// [`SecretError`] when it cannot be stored.
    pub async fn put(
        &self,
        pool: &Pool,
        app: &str,
        reference: &str,
        value: &str,
    ) -> Result<(), SecretError> {
        const SQL: &str = "INSERT INTO secrets (reference, app, sealed) VALUES ($1, $2, $3)";
        let sealed = self.seal_bytes(reference, value.as_bytes())?;
        let mut tx = pool.begin().await?;
        on!(tx.conn(), c => {
            sqlx::query(SQL)
                .bind(reference)
                .bind(app)
                .bind(sealed)
                .execute(&mut *c)
                .await
                .map_err(Fault::from)?
                .rows_affected()
        });
        Ok(tx.commit().await?)
    }

    /// Opens the values under some references, in one query; gives them by reference.
    ///
    /// # Errors
    /// [`SecretError::CannotOpen`] when one is missing or was sealed under another key.
    pub async fn get_all(
        &self,
        conn: &mut Conn<'_>,
        references: &[&str],
    ) -> Result<HashMap<String, String>, SecretError> {
        const SQL: Sql = scalars!(
            "SELECT reference, sealed FROM secrets WHERE reference IN (SELECT list.value FROM ",
            ")"
        );
        if references.is_empty() {
            return Ok(HashMap::new());
        }
        let (sql, list) = (conn.text(SQL), db::list(references)?);
        let found: Vec<(String, Vec<u8>)> = on!(conn.again(), c => {
            sqlx::query_as(sql).bind(list).fetch_all(&mut *c).await.map_err(Fault::from)?
        });
        let mut opened = HashMap::with_capacity(found.len());
        for (reference, sealed) in found {
            let value = self.open_bytes(&reference, &sealed)?;
            let value = String::from_utf8(value).map_err(|_| SecretError::CannotOpen)?;
            opened.insert(reference, value);
        }
        let all = references.iter().all(|reference| opened.contains_key(*reference));
        if all { Ok(opened) } else { Err(SecretError::CannotOpen) }
    }

    /// Opens the value under a reference.
    ///
    /// # Errors
    /// [`SecretError::CannotOpen`] when there is none or it was sealed under another key.
    pub async fn get(&self, conn: &mut Conn<'_>, reference: &str) -> Result<String, SecretError> {
        const SQL: &str = "SELECT sealed FROM secrets WHERE reference = $1";
        let found: Option<(Vec<u8>,)> = on!(conn.again(), c => {
            sqlx::query_as(SQL)
                .bind(reference)
                .fetch_optional(&mut *c)
                .await
                .map_err(Fault::from)?
        });
        let (sealed,) = found.ok_or(SecretError::CannotOpen)?;
        let opened = self.open_bytes(reference, &sealed)?;
        String::from_utf8(opened).map_err(|_| SecretError::CannotOpen)
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length")
}

/// Whether two secrets are equal, in a time that tells nothing about where they differ.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// A new secret of 32 hex digits.
///
/// # Errors
/// When the system has no randomness.
pub fn new_secret() -> std::io::Result<String> {
    Ok(hex(&random::<16>()?))
}

/// A number at random.
///
/// # Errors
/// When the system has no randomness.
pub fn new_number() -> std::io::Result<u32> {
    random::<4>().map(u32::from_le_bytes)
}

/// A new seed of a signing key.
pub(crate) fn new_seed() -> std::io::Result<[u8; KEY_BYTES]> {
    random()
}

/// The plain hash under which a token of full entropy is stored.
#[must_use]
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of hex digits; `None` for anything else.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

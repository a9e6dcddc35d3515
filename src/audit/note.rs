//! Signed notes and checkpoints, as C2SP words them (`signed-note`, `tlog-checkpoint`): a few lines
//! of text, a blank line, and lines with signatures, each under the name of a key.

use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::merkle::Hash;
use crate::secrets::hex;

/// C2SP's number of plain Ed25519 signatures.
const ED25519_TYPE: u8 = 1;
/// What a line with a signature begins with: an em dash and a space.
const MARK: &str = "\u{2014} ";

/// The note says what nobody signed, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is no signed note, or its text no checkpoint.
    #[error("this is no signed checkpoint")]
    Malformed,
    /// None of the keys signed it.
    #[error("none of the known keys signed this checkpoint")]
    Unsigned,
    /// The text of a key is none.
    #[error("this is no verifier key of the kind NAME+HASH+BASE64")]
    NotAKey,
}

/// A key that checks signatures; its text is `NAME+HASH+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    public: [u8; 32],
}

impl Verifier {
    /// A public key under a name.
    #[must_use]
    pub fn new(name: &str, public: [u8; 32]) -> Verifier {
        Verifier { name: name.to_owned(), public }
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// What tells keys of the same name apart.
    fn id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_TYPE]);
        let [a, b, c, d, ..]: Hash = hash.chain_update(self.public).finalize().into();
        [a, b, c, d]
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_ok()
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let typed = [&[ED25519_TYPE], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), STANDARD.encode(typed))
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Verifier, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::NotAKey);
        };
        let typed = STANDARD.decode(key).map_err(|_| NoteError::NotAKey)?;
        let Some((&ED25519_TYPE, public)) = typed.split_first() else {
            return Err(NoteError::NotAKey);
        };
        let public = public.try_into().map_err(|_| NoteError::NotAKey)?;
        let verifier = Verifier::new(name, public);
        if hex(&verifier.id()) != id || name.is_empty() || name.contains(char::is_whitespace) {
            return Err(NoteError::NotAKey);
        }
        Ok(verifier)
    }
}

/// A key that signs.
pub struct Signer {
    verifier: Verifier,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key of a seed of 32 bytes; `None` for any other.
    #[must_use]
    pub fn new(name: &str, seed: &[u8]) -> Option<Signer> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Signer { verifier: Verifier::new(name, public), pair })
    }

    /// The key's public half.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The line that signs a text.
    fn line(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let typed = [&self.verifier.id(), signature.as_ref()].concat();
        format!("{MARK}{} {}\n", self.verifier.name, STANDARD.encode(typed))
    }
}

/// What a log says of itself at a time: so many events, under that root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Events.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The note in which some keys sign it.
    #[must_use]
    pub fn sign(&self, signers: &[&Signer]) -> String {
        let text = self.text();
        let lines: String = signers.iter().map(|signer| signer.line(&text)).collect();
        format!("{text}\n{lines}")
    }

    /// What a note says, whoever signed it.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn unverified(note: &str) -> Result<Checkpoint, NoteError> {
        let (text, _) = halves(note)?;
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(NoteError::Malformed);
        };
        let number = size.parse::<u64>().ok().filter(|number| number.to_string() == size);
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        match (number, root) {
            (Some(size), Some(root)) if !origin.is_empty() => {
                Ok(Checkpoint { origin: origin.to_owned(), size, root })
            }
            _ => Err(NoteError::Malformed),
        }
    }

    /// What a note says, if one of the keys signed it.
    ///
    /// # Errors
    /// [`NoteError`] says what is wrong with it.
    pub fn verified(note: &str, keys: &[Verifier]) -> Result<Checkpoint, NoteError> {
        let (text, signatures) = halves(note)?;
        let mut signed = signatures.lines().filter_map(|line| {
            let (name, typed) = line.strip_prefix(MARK)?.split_once(' ')?;
            Some((name, STANDARD.decode(typed).ok()?))
        });
        let good = |(name, typed): (&str, Vec<u8>)| {
            let Some((id, signature)) = typed.split_at_checked(4) else { return false };
            let mut keys = keys.iter().filter(|key| key.name == name && key.id() == id);
            keys.any(|key| key.verifies(text, signature))
        };
        if !signed.any(good) {
            return Err(NoteError::Unsigned);
        }
        Checkpoint::unverified(note)
    }
}

/// The text of a note with its last newline, and its lines with signatures.
fn halves(note: &str) -> Result<(&str, &str), NoteError> {
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    let marked = |line: &str| line.starts_with(MARK);
    match !signatures.is_empty() && signatures.ends_with('\n') && signatures.lines().all(marked) {
        true => Ok((text, signatures)),
        false => Err(NoteError::Malformed),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::slice::from_ref;

    use super::*;

    /// The example of Go's implementation of signed notes, which C2SP's text follows.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const SIGNED: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN\
                          1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "pushledger/test".to_owned(), size: 7, root: [9; 32] }
    }

    #[test]
    fn a_note_of_another_implementation_is_read() {
        let key: Verifier = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        let note = format!("{TEXT}\n{SIGNED}");
        // Its signature is good, and it is no checkpoint.
        assert_eq!(Checkpoint::verified(&note, from_ref(&key)), Err(NoteError::Malformed));
        let altered = note.replace("problem is", "problem was");
        assert_eq!(Checkpoint::verified(&altered, from_ref(&key)), Err(NoteError::Unsigned));
    }

    #[test]
    fn a_checkpoint_is_what_its_key_signed_and_nothing_else() {
        let signer = Signer::new("pushledger/test", &[1; 32]).unwrap();
        let other = Signer::new("pushledger/test", &[2; 32]).unwrap();
        let note = checkpoint().sign(&[&signer]);
        let key: Verifier = signer.verifier().to_string().parse().unwrap();
        assert_eq!(Checkpoint::verified(&note, from_ref(&key)).unwrap(), checkpoint());
        let others = [other.verifier().clone()];
        assert_eq!(Checkpoint::verified(&note, &others), Err(NoteError::Unsigned));
        let both = checkpoint().sign(&[&other, &signer]);
        assert_eq!(Checkpoint::verified(&both, from_ref(&key)).unwrap(), checkpoint());
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(altered) = String::from_utf8(bytes) {
                let read = Checkpoint::verified(&altered, from_ref(&key));
                assert!(read.is_err(), "byte {at}: {altered:?}");
            }
        }
        for cut in 0..note.len() {
            let cut = note.get(..cut).unwrap_or_default();
            assert!(Checkpoint::verified(cut, from_ref(&key)).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "a+b", "a+00000000+AQ==", &KEY.replace("c74f20a3", "c74f20a4")] {
            assert_eq!(text.parse::<Verifier>(), Err(NoteError::NotAKey), "{text}");
        }
    }
}

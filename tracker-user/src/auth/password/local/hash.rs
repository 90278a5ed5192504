//! Hashes of passwords: argon2id (RFC 9106), written as PHC strings, which say by what parameters they were made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroize;

use crate::store::PasswordHash;

/// What a hash costs: OWASP's minimum, 19 MiB in two passes on one lane.
const COST: Params = match Params::new(19_456, 2, 1, Some(LENGTH)) {
    Ok(params) => params,
    Err(_) => Params::DEFAULT,
};
/// Of the hash itself, in bytes.
const LENGTH: usize = 32;
/// Of the salt, in bytes.
const SALT: usize = 16;
/// No hash that is believed takes more memory, in KiB: who has written to the database must not have all of it.
const MOST_MEMORY: u32 = 256 * 1024;
/// Nor more passes or lanes.
const MOST_PASSES: u32 = 16;

/// A hash cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password cannot be hashed: {0}")]
pub struct HashError(&'static str);

/// What a password is compared with.
#[derive(Clone, Debug)]
pub(super) struct Hash {
    params: Params,
    salt: Salt,
    output: Output,
}

impl Hash {
    /// Reads a PHC string; `None` where it is none that this can verify.
    pub(super) fn read(hash: &PasswordHash) -> Option<Self> {
        let phc = Phc::new(hash.reveal()).ok()?;
        let is_ours = phc.algorithm == ARGON2ID_IDENT && phc.version == Some(Version::V0x13.into());
        let params = Params::try_from(&phc).ok().filter(|params| {
            params.m_cost() <= MOST_MEMORY && params.t_cost() <= MOST_PASSES && params.p_cost() <= MOST_PASSES
        })?;
        let (salt, output) = phc.salt.zip(phc.hash)?;
        is_ours.then_some(Self { params, salt, output })
    }

    /// One that no password fits, and that costs as much as any that is made now.
    pub(super) fn of_nobody() -> Result<Self, HashError> {
        let salt = Salt::new(&random::<SALT>()?).map_err(|_| HashError("the salt"))?;
        // Drawn, not made of anything: whatever fits it by chance is not looked for among the outcomes.
        let output = Output::new(&random::<LENGTH>()?).map_err(|_| HashError("the output"))?;
        Ok(Self { params: COST, salt, output })
    }

    /// Whether it was made by other parameters than hashes are made by now.
    pub(super) fn is_outdated(&self) -> bool {
        self.params != COST
    }

    #[cfg(test)]
    pub(super) fn cost(&self) -> (u32, u32, u32) {
        (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
    }
}

/// Makes and verifies hashes. Each takes 19 MiB for as long as it is at work; while others wait, the next one has the same.
#[derive(Debug, Default)]
pub(super) struct Hasher {
    arenas: Mutex<Vec<Vec<Block>>>,
    /// How many are wanted, those that wait included.
    wanted: AtomicUsize,
}

/// One hash that is wanted: while there are any, memory is kept for the next one.
#[derive(Debug)]
pub(super) struct Wanted<'a>(&'a Hasher);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if self.0.wanted.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.arenas().clear();
        }
    }
}

impl Hasher {
    /// Says that a hash is wanted.
    pub(super) fn want(&self) -> Wanted<'_> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        Wanted(self)
    }

    /// A new hash of a password.
    pub(super) fn make(&self, password: &[u8]) -> Result<PasswordHash, HashError> {
        self.make_by(&COST, password)
    }

    /// The same by other parameters than those of now.
    pub(super) fn make_by(&self, params: &Params, password: &[u8]) -> Result<PasswordHash, HashError> {
        let salt = Salt::new(&random::<SALT>()?).map_err(|_| HashError("the salt"))?;
        let phc = Phc {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(params).map_err(|_| HashError("the parameters"))?,
            hash: Some(self.compute(params, &salt, LENGTH, password)?),
            salt: Some(salt),
        };
        Ok(PasswordHash::new(phc.to_string()))
    }

    /// Whether the password is the one that `hash` was made of. Compared in constant time.
    pub(super) fn verify(&self, password: &[u8], hash: &Hash) -> Result<bool, HashError> {
        Ok(self.compute(&hash.params, &hash.salt, hash.output.len(), password)? == hash.output)
    }

    fn compute(
        &self,
        params: &Params,
        salt: &Salt,
        length: usize,
        password: &[u8],
    ) -> Result<Output, HashError> {
        let mut arena = self.arenas().pop().unwrap_or_default();
        arena.resize(arena.len().max(params.block_count()), Block::new());
        let blocks = arena.get_mut(..params.block_count()).ok_or(HashError("the memory"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..length).ok_or(HashError("the length"))?;
        let done = argon2.hash_password_into_with_memory(password, salt.as_ref(), output, &mut *blocks);
        // The first blocks tell a password much faster than the hash does.
        blocks.iter_mut().for_each(Zeroize::zeroize);
        self.give_back(arena);
        done.map_err(|_| HashError("the function refuses it"))?;
        Output::new(output).map_err(|_| HashError("the output"))
    }

    fn give_back(&self, arena: Vec<Block>) {
        let mut arenas = self.arenas();
        // More are wanted than this one.
        if self.wanted.load(Ordering::Acquire) > arenas.len() + 1 {
            arenas.push(arena);
        }
    }

    fn arenas(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Block>>> {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn idle_arenas(&self) -> usize {
        self.arenas().len()
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const COUNT: usize>() -> Result<[u8; COUNT], HashError> {
    let mut bytes = [0; COUNT];
    SystemRandom::new().fill(&mut bytes).map_err(|_| HashError("the system gives no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_says_by_what_it_was_made_and_fits_its_password_alone() {
        let hasher = Hasher::default();
        let made = hasher.make(b"a good password").unwrap();
        assert!(made.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", made.reveal());
        assert_ne!(made, hasher.make(b"a good password").unwrap(), "each has a salt of its own");
        let read = Hash::read(&made).unwrap();
        assert_eq!((read.cost(), read.is_outdated()), ((19_456, 2, 1), false));
        assert!(hasher.verify(b"a good password", &read).unwrap());
        assert!(!hasher.verify(b"a good passwore", &read).unwrap());
        let nobody = Hash::of_nobody().unwrap();
        assert_eq!(nobody.cost(), read.cost(), "nobody costs what somebody does");
        assert!(!hasher.verify(b"a good password", &nobody).unwrap());
    }

    /// RFC 9106 has no vector for these parameters; this one is of the reference implementation.
    #[test]
    fn it_is_the_function_that_others_have() {
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = Hash::read(&PasswordHash::new(phc.into())).unwrap();
        assert!(hash.is_outdated());
        assert!(Hasher::default().verify(b"password", &hash).unwrap());
    }

    #[test]
    fn what_cannot_be_verified_is_no_hash() {
        let good = Hasher::default().make(b"a good password").unwrap().reveal().to_owned();
        for bad in [
            String::new(),
            "plain".into(),
            good.replace("argon2id", "argon2i"),
            good.replace("v=19", "v=16"),
            good.replace("v=19$", ""),
            good.replace("m=19456", "m=1048576"),
            good.replace("t=2", "t=2000"),
            good.rsplit_once('$').unwrap().0.to_owned(),
        ] {
            assert!(Hash::read(&PasswordHash::new(bad.clone())).is_none(), "{bad}");
        }
    }

    #[test]
    fn memory_is_kept_while_others_wait_and_no_longer() {
        let hasher = Hasher::default();
        let (first, second) = (hasher.want(), hasher.want());
        hasher.make(b"one").unwrap();
        assert_eq!(hasher.idle_arenas(), 1);
        drop(first);
        hasher.make(b"two").unwrap();
        assert_eq!(hasher.idle_arenas(), 0, "nobody else waits");
        drop(second);
        hasher.make(b"three").unwrap();
        assert_eq!(hasher.idle_arenas(), 0);
    }
}

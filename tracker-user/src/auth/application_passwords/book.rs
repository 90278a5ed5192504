//! All application passwords, in memory as on disk: see the room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ipnet::IpNet;
use jiff::Timestamp;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::warn;
use zeroize::Zeroizing;

use super::row::Row;
use super::text::{Id, Text};
use crate::audit::{Actor, Audit, Event, FactorChange, SecondFactorEvent, TrailEntry};
use crate::auth::password::Password;
use crate::outside;
use crate::store::{Entry, Journal, SealedRow, SealedTable, Sealer, Store, StoreError};
use crate::types::{ClientAddr, Identity, UserMessage, UserQuery};

/// So many of one user,
pub(super) const MOST: usize = 50;
/// with so many networks each, and a name of so many characters.
pub(super) const MOST_NETWORKS: usize = 16;
pub(super) const MOST_NAME: usize = 64;

/// The keys of HMACs have names that begin so.
const KEYS: &str = "application-passwords/";
/// Bytes of a key, and of what it makes.
const KEY: usize = 32;

/// See the module.
pub struct ApplicationPasswords {
    sealer: Arc<Sealer>,
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    /// What new ones are known by. `None` where the system had no randomness.
    key: Option<Key>,
    held: RwLock<Held>,
}

/// A key of the gateway's own, and what it is called on disk.
#[derive(Clone)]
struct Key {
    name: Arc<str>,
    key: Arc<hmac::Key>,
}

#[derive(Default)]
struct Held {
    by_id: HashMap<Id, Arc<Known>>,
    /// By [`Identity::key`], in the order in which they were made.
    by_owner: HashMap<Box<str>, Vec<Id>>,
    /// So many rows cannot be read.
    unreadable: usize,
}

/// One of them.
pub(in crate::auth) struct Known {
    id: Id,
    owner: Arc<Identity>,
    name: Box<str>,
    key: Key,
    hmac: [u8; KEY],
    created: Timestamp,
    expires: Option<Timestamp>,
    networks: Box<[IpNet]>,
    state: Mutex<State>,
}

/// What changes with each use.
#[derive(Default)]
struct State {
    used: Option<(Timestamp, ClientAddr)>,
    /// What of that is on disk, or on its way there.
    noted: Option<Timestamp>,
    /// From there nobody was banned when so many bans had begun.
    cleared: Option<(ClientAddr, u64)>,
}

/// What its user says of a new one.
#[derive(Clone, Debug, Default)]
pub struct New {
    /// What it is called.
    pub name: String,
    /// Until when it is good; for ever, where that is not said.
    pub expires: Option<Timestamp>,
    /// Where it may come from; from everywhere, where none is named.
    pub networks: Vec<IpNet>,
}

/// Why none was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMade {
    /// The name is empty, too long, or has characters that cannot be shown.
    #[error("the name of an application password has 1 to 64 characters that can be shown")]
    Name,
    /// There is one of this name.
    #[error("there is an application password of this name")]
    SameName,
    /// It would have expired already.
    #[error("the application password would have expired already")]
    Expired,
    /// Too many networks.
    #[error("an application password has no more than 16 networks")]
    Networks,
    /// As many as one user may have.
    #[error("a user has no more than 50 application passwords")]
    TooMany,
    /// The system has no randomness.
    #[error("the system has no randomness, or the key of the second factor cannot be used")]
    Unable,
}

impl NotMade {
    /// For the person.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Name => "Give it a name of 1 to 64 characters, by which you know the program that uses it.",
            Self::SameName => "You have an application password of this name already. Take another name.",
            Self::Expired => "The day until which it is good must lie in the future.",
            Self::Networks => "Name no more than 16 networks.",
            Self::TooMany => {
                "You have 50 application passwords, which is all that you may have. Delete some first."
            }
            Self::Unable => "It cannot be made at this moment. Try again later.",
        })
    }
}

/// An application password as it is shown: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What names it: the first eight characters behind the mark.
    pub id: String,
    /// Whose it is.
    pub owner: Arc<Identity>,
    /// What it is called.
    pub name: String,
    /// Since when.
    pub created: Timestamp,
    /// Until when it is good, if not for ever.
    pub expires: Option<Timestamp>,
    /// Where it may come from; from everywhere, if none is named.
    pub networks: Vec<IpNet>,
    /// When and from where it was last used.
    pub used: Option<(Timestamp, ClientAddr)>,
}

/// Why one that was sent proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is none like it, or it is another user's.
    Wrong,
    /// Its time is over.
    Expired,
    /// It may not come from this client.
    Network,
}

/// One that is right.
pub(in crate::auth) type Fit = Arc<Known>;

impl std::fmt::Debug for ApplicationPasswords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplicationPasswords").finish_non_exhaustive()
    }
}

impl ApplicationPasswords {
    /// Those that the store has. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(
        store: &Store,
        sealer: Arc<Sealer>,
        journal: Arc<Journal>,
        audit: Arc<Audit>,
    ) -> Result<Self, StoreError> {
        let mut keys: HashMap<String, Key> = HashMap::new();
        let mut newest = None;
        for (name, sealed) in store.sealed(SealedTable::Keys)? {
            let Some(plain) = sealer.open_row(SealedTable::Keys, &name, &sealed) else { continue };
            if name.starts_with(KEYS) && plain.len() == KEY {
                let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &plain));
                let key = Key { name: name.as_str().into(), key };
                newest = Some(key.clone());
                keys.insert(name, key);
            }
        }
        // One that cannot be read any more stays where it is: it may be read again with its own key.
        let key = newest.or_else(|| {
            let (key, row) = Key::draw(&sealer)?;
            journal.submit(vec![Entry::Sealed(row)], None);
            Some(key)
        });
        let mut held = Held::default();
        let mut rows = Vec::new();
        for (id, sealed) in store.sealed(SealedTable::ApplicationPasswords)? {
            let row = Row::open(&sealer, &id, &sealed);
            match row.and_then(|row| Some((row.created, Known::of(&id, row, &keys)?))) {
                Some(read) => rows.push(read),
                None => {
                    held.unreadable += 1;
                    warn!(id, "an application password cannot be read: it is not accepted");
                }
            }
        }
        rows.sort_by_key(|(created, known)| (*created, known.id));
        rows.into_iter().for_each(|(_, known)| held.insert(Arc::new(known)));
        Ok(Self { sealer, journal, audit, key, held: RwLock::new(held) })
    }

    /// Makes one, and returns it, what is shown of it afterwards, and the row that says so on disk: hand that to the journal, and
    /// [delete](Self::delete) it again where it cannot be kept. It is good from now on.
    ///
    /// # Errors
    /// Where it may not be made.
    pub fn make(
        &self,
        who: &Arc<Identity>,
        new: New,
        now: Timestamp,
    ) -> Result<(Password, View, Entry), NotMade> {
        let New { name, expires, networks } = new;
        let name = name.trim();
        let length = name.chars().count();
        // What would be shown in another way than it was typed can pass for something else.
        if length == 0 || length > MOST_NAME || outside::shown(name, outside::NAME) != name {
            return Err(NotMade::Name);
        }
        if expires.is_some_and(|expires| expires <= now) {
            return Err(NotMade::Expired);
        }
        if networks.len() > MOST_NETWORKS {
            return Err(NotMade::Networks);
        }
        let key = self.key.clone().ok_or(NotMade::Unable)?;
        let text = Text::draw().ok_or(NotMade::Unable)?;
        let mut held = self.write();
        let own = held.of(who);
        if own.iter().any(|known| known.name.to_lowercase() == name.to_lowercase()) {
            return Err(NotMade::SameName);
        }
        if own.len() >= MOST {
            return Err(NotMade::TooMany);
        }
        let known = Arc::new(Known {
            id: text.id(),
            owner: Arc::clone(who),
            name: name.into(),
            hmac: key.sign(&text),
            key,
            created: now,
            expires,
            networks: networks.into(),
            state: Mutex::default(),
        });
        if held.by_id.contains_key(&known.id) {
            // One in a million million.
            return Err(NotMade::Unable);
        }
        let row = known.row().seal(&self.sealer, &known.id_text()).ok_or(NotMade::Unable)?;
        let view = known.view();
        held.insert(known);
        drop(held);
        Ok((Password::new(text.shown()), view, Entry::Sealed(row)))
    }

    /// Those of a user, in the order in which they were made.
    #[must_use]
    pub fn of(&self, who: &Identity) -> Vec<View> {
        self.read().of(who).iter().map(|known| known.view()).collect()
    }

    /// Everybody who has some and is called so.
    #[must_use]
    pub fn owners(&self, typed: &UserQuery) -> Vec<Arc<Identity>> {
        self.everybody().into_iter().filter(|owner| owner.is_called(typed)).collect()
    }

    /// Everybody who has some.
    #[must_use]
    pub fn everybody(&self) -> Vec<Arc<Identity>> {
        let held = self.read();
        let first = held.by_owner.values().filter_map(|ids| held.by_id.get(ids.first()?));
        first.map(|known| Arc::clone(&known.owner)).collect()
    }

    /// How many there are, and how many cannot be read.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let held = self.read();
        (held.by_id.len(), held.unreadable)
    }

    /// Takes one away: nobody is accepted by it from now on. Returns what it was, and what says so on disk: hand that to the journal.
    #[must_use]
    pub fn delete(&self, who: &Identity, id: &str) -> Option<(View, Entry)> {
        let id: Id = id.as_bytes().try_into().ok()?;
        let mut held = self.write();
        let known = held.by_id.get(&id).filter(|known| *known.owner == *who).cloned()?;
        held.remove(&known);
        drop(held);
        Some((known.view(), Entry::Sealed(Row::gone(&known.id_text()))))
    }

    /// The same for all of a user's.
    #[must_use]
    pub fn delete_all(&self, who: &Identity) -> Vec<(View, Entry)> {
        let mut held = self.write();
        let own = held.of(who);
        own.iter().for_each(|known| held.remove(known));
        drop(held);
        own.iter().map(|known| (known.view(), Entry::Sealed(Row::gone(&known.id_text())))).collect()
    }

    /// Puts it into the audit trail that one was made or deleted: what it is called, and by whose order.
    pub fn tell(&self, of: &View, client: Option<ClientAddr>, what: FactorChange, actor: Option<Actor>) {
        let user = Arc::clone(&of.owner);
        let event =
            SecondFactorEvent { user, client, what, of: Some(of.name.as_str().into()), actor, count: None };
        self.audit.record(TrailEntry::now(Event::SecondFactor(event)));
    }

    /// The same where one that there is was sent with another secret, or for another user: whoever sent it knows something.
    pub(in crate::auth) fn tell_wrong(&self, text: &Text, client: ClientAddr) {
        let known = self.read().by_id.get(&text.id()).cloned();
        if let Some(known) = known {
            self.tell(&known.view(), Some(client), FactorChange::WrongApplicationPassword, None);
        }
    }

    /// Whether this is one of the account's, and is good there and then. That is all that is asked: nothing of it is remembered.
    pub(in crate::auth) fn check(
        &self,
        text: &Text,
        account: &str,
        client: ClientAddr,
        now: Timestamp,
    ) -> Result<Fit, Unfit> {
        let known = self.read().by_id.get(&text.id()).cloned().ok_or(Unfit::Wrong)?;
        // In constant time.
        hmac::verify(&known.key.key, text.signed(), &known.hmac).map_err(|_| Unfit::Wrong)?;
        if known.owner.key() != account {
            return Err(Unfit::Wrong);
        }
        if known.expires.is_some_and(|expires| expires <= now) {
            return Err(Unfit::Expired);
        }
        let address = client.ip();
        if !known.networks.is_empty() && !known.networks.iter().any(|network| network.contains(&address)) {
            return Err(Unfit::Network);
        }
        Ok(known)
    }

    /// Notes on disk which were used, and from where, since that was done last.
    pub fn note_uses(&self) {
        let all: Vec<Fit> = self.read().by_id.values().cloned().collect();
        let used: Vec<Fit> = all.into_iter().filter(|known| known.is_unnoted()).collect();
        // Held over it: a row that is deleted meanwhile is not written behind that.
        let held = self.read();
        let rows = used.iter().filter(|known| held.by_id.contains_key(&known.id)).filter_map(|known| {
            let row = known.row().seal(&self.sealer, &known.id_text())?;
            let mut state = known.state();
            state.noted = state.used.map(|(at, _)| at);
            Some(Entry::Sealed(row))
        });
        let rows: Vec<Entry> = rows.collect();
        if !rows.is_empty() {
            self.journal.submit(rows, None);
        }
        drop(held);
    }

    /// Whose have expired after `from`, and by `to`.
    #[must_use]
    pub fn expired(&self, from: Timestamp, to: Timestamp) -> Vec<Arc<Identity>> {
        let held = self.read();
        let is_over =
            |known: &&Arc<Known>| known.expires.is_some_and(|expires| from < expires && expires <= to);
        held.by_id.values().filter(is_over).map(|known| Arc::clone(&known.owner)).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        // Nobody panics while holding it.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    /// A new one, and the row that keeps it.
    fn draw(sealer: &Sealer) -> Option<(Self, SealedRow)> {
        let mut random = Zeroizing::new([0; KEY + 4]);
        SystemRandom::new().fill(&mut *random).ok()?;
        let (key, number) = random.split_at(KEY);
        let name = format!("{KEYS}{}", data_encoding::HEXLOWER.encode(number));
        let row = sealer.seal(SealedTable::Keys, &name, key)?;
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key));
        Some((Self { name: name.into(), key }, row))
    }

    fn sign(&self, text: &Text) -> [u8; KEY] {
        let mut tag = [0; KEY];
        let signed = hmac::sign(&self.key, text.signed());
        tag.iter_mut().zip(signed.as_ref()).for_each(|(to, from)| *to = *from);
        tag
    }
}

impl Held {
    fn insert(&mut self, known: Arc<Known>) {
        self.by_owner.entry(known.owner.key().into()).or_default().push(known.id);
        self.by_id.insert(known.id, known);
    }

    fn remove(&mut self, known: &Known) {
        self.by_id.remove(&known.id);
        let owner = known.owner.key();
        if let Some(ids) = self.by_owner.get_mut(owner) {
            ids.retain(|id| *id != known.id);
            if ids.is_empty() {
                self.by_owner.remove(owner);
            }
        }
    }

    fn of(&self, who: &Identity) -> Vec<Arc<Known>> {
        let ids = self.by_owner.get(who.key()).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id).cloned()).collect()
    }
}

impl Known {
    /// As it stands in a row.
    fn of(id: &str, row: Row, keys: &HashMap<String, Key>) -> Option<Self> {
        let Row { user, domain, owner, name, key, hmac, created, expires, networks, used, used_from } = row;
        let hmac = data_encoding::HEXLOWER.decode(hmac.as_bytes()).ok()?.try_into().ok()?;
        let used = used.zip(used_from.and_then(|from| from.parse().ok()));
        Some(Self {
            id: id.as_bytes().try_into().ok()?,
            owner: Arc::new(Identity::restore(&user, &domain, &owner)),
            name: name.into(),
            key: keys.get(&key)?.clone(),
            hmac,
            created,
            expires,
            networks: networks.into(),
            state: Mutex::new(State { used, noted: used.map(|(at, _)| at), cleared: None }),
        })
    }

    fn row(&self) -> Row {
        let used = self.state().used;
        Row {
            user: self.owner.user().to_owned(),
            domain: self.owner.domain().to_owned(),
            owner: self.owner.key().to_owned(),
            name: self.name.to_string(),
            key: self.key.name.to_string(),
            hmac: data_encoding::HEXLOWER.encode(&self.hmac),
            created: self.created,
            expires: self.expires,
            networks: self.networks.to_vec(),
            used: used.map(|(at, _)| at),
            used_from: used.map(|(_, from)| from.to_string()),
        }
    }

    fn view(&self) -> View {
        View {
            id: self.id_text(),
            owner: Arc::clone(&self.owner),
            name: self.name.to_string(),
            created: self.created,
            expires: self.expires,
            networks: self.networks.to_vec(),
            used: self.state().used,
        }
    }

    fn id_text(&self) -> String {
        self.id.iter().map(|letter| char::from(*letter)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unnoted(&self) -> bool {
        let state = self.state();
        state.used.map(|(at, _)| at) != state.noted
    }

    /// Whose it is.
    pub(in crate::auth) fn owner(&self) -> &Arc<Identity> {
        &self.owner
    }

    /// It is used. False where a ban concerns that: it is asked for once in a generation of bans.
    pub(in crate::auth) fn is_used(
        &self,
        client: ClientAddr,
        now: Timestamp,
        bans: u64,
        is_banned: impl FnOnce() -> bool,
    ) -> bool {
        let is_cleared = self.state().cleared == Some((client, bans));
        if !is_cleared && is_banned() {
            return false;
        }
        let mut state = self.state();
        state.cleared = Some((client, bans));
        state.used = Some((now, client));
        true
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;

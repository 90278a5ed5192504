//! Who is on the other end of a connection, and what is remembered of them from one exchange to the next.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;

use super::Reply;
use super::page::Dress;
use crate::auth::{Channel, Conversation};
use crate::clock::wall_now;
use crate::net::Connection;
use crate::pages::Language;
use crate::proxy::access::RequestNumber;
use crate::proxy::authorize::Authorized;
use crate::proxy::destination::{Destination, check_form};
use crate::proxy::limits::Conduct;
use crate::proxy::message::{Method, RequestHead};
use crate::proxy::pool::Origin;
use crate::proxy::worker::Worker;
use crate::session::Arrival;
use crate::types::{ClientAddr, Identity, SessionId};

/// A client's connection, as its exchanges know it. They share it: several may be under way at once.
pub(in crate::proxy) struct Peer {
    worker: Rc<Worker>,
    connection: Arc<Connection>,
    address: ClientAddr,
    conversation: RefCell<Conversation>,
    session: Cell<Option<SessionId>>,
    is_cleared: Cell<bool>,
    conduct: Conduct,
    is_proved: Cell<bool>,
    is_watched: Cell<bool>,
    is_private: bool,
    channel: Channel,
    pinned: RefCell<Option<Pinned>>,
    last: RefCell<Option<Known>>,
    requests: Cell<u32>,
    language: OnceCell<Language>,
}

/// A connection to an origin on which somebody has authenticated themselves to the origin, and who: nobody else's.
struct Pinned {
    origin: Origin,
    session: SessionId,
    user: Arc<Identity>,
}

impl Pinned {
    fn is_of(&self, authorized: &Authorized) -> bool {
        let user = &authorized.user;
        self.session == authorized.session && (Arc::ptr_eq(&self.user, user) || self.user == *user)
    }
}

/// Where a request went: the next one often goes there too.
struct Known {
    is_tunnel: bool,
    authority: Box<[u8]>,
    destination: Arc<Destination>,
}

impl Known {
    fn is_of(&self, head: &RequestHead) -> bool {
        self.is_tunnel == (head.method() == Method::Connect) && *self.authority == *head.authority()
    }
}

impl Peer {
    /// `is_private`: see [`Self::is_private`]; `channel`: see [`Self::channel`].
    pub(in crate::proxy) fn new(
        worker: Rc<Worker>,
        connection: Arc<Connection>,
        is_private: bool,
        channel: Channel,
    ) -> Self {
        let address = connection.client();
        Self {
            conduct: Conduct::new(Arc::clone(&worker.shared), address),
            worker,
            connection,
            address,
            conversation: RefCell::default(),
            session: Cell::new(None),
            is_cleared: Cell::new(false),
            is_proved: Cell::new(false),
            is_watched: Cell::new(false),
            is_private,
            channel,
            pinned: RefCell::default(),
            last: RefCell::default(),
            requests: Cell::new(0),
            language: OnceCell::new(),
        }
    }

    /// Which request of the connection the one is that has just come, counted from 1.
    pub(in crate::proxy) fn count_request(&self) -> u32 {
        let number = self.requests.get().wrapping_add(1);
        self.requests.set(number);
        number
    }

    /// In which language its pages are from now on, if a request says so: one connection is one browser's.
    pub(in crate::proxy) fn note_language(&self, head: &RequestHead) {
        if self.language.get().is_some() {
            return;
        }
        let Some(accepted) = head.field_named(b"accept-language") else { return };
        if let Ok(accepted) = std::str::from_utf8(accepted) {
            let _ = self.language.set(self.worker.shared.languages.choose(Some(accepted)));
        }
    }

    /// Makes the page of a reply, if it has one: in the house style, in the reader's language, with this number.
    pub(in crate::proxy) fn dress(&self, reply: Reply, number: RequestNumber) -> Reply {
        if !reply.has_page() {
            return reply;
        }
        let options = self.worker.shared.options.load();
        let language = self.language.get().cloned().unwrap_or_else(Language::english);
        reply.dressed(&Dress { house: &options.house, language: &language, number, time: wall_now() })
    }

    /// The core that serves it.
    pub(in crate::proxy) const fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Its connection, as the registry has it.
    pub(in crate::proxy) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The client's address.
    pub(in crate::proxy) const fn address(&self) -> ClientAddr {
        self.address
    }

    /// What has been said on the connection about who its user is. Not to be held over a wait.
    pub(in crate::proxy) fn conversation(&self) -> RefMut<'_, Conversation> {
        self.conversation.borrow_mut()
    }

    /// The session that the connection is bound to: it ends with that.
    pub(in crate::proxy) const fn session(&self) -> Option<SessionId> {
        self.session.get()
    }

    /// Whether the connection is bound to this session, and that was found valid since.
    pub(in crate::proxy) fn is_cleared_for(&self, session: SessionId) -> bool {
        self.session.get() == Some(session) && self.is_cleared.get()
    }

    /// From now on it is bound to this one. See [`Connection::bind`] for what to ask then.
    pub(in crate::proxy) fn bind(&self, session: SessionId) {
        self.session.set(Some(session));
        self.is_cleared.set(false);
        self.connection.bind(session);
    }

    /// It has been asked whether this one is valid.
    pub(in crate::proxy) fn set_cleared(&self, session: SessionId, is_valid: bool) {
        if self.session.get() == Some(session) {
            self.is_cleared.set(is_valid);
        }
    }

    /// How the client behaves.
    pub(in crate::proxy) const fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    /// Whether a user has proved themselves on the connection, or may use it without.
    pub(in crate::proxy) const fn is_proved(&self) -> bool {
        self.is_proved.get()
    }

    /// A user has.
    pub(in crate::proxy) fn set_proved(&self) {
        self.is_proved.set(true);
    }

    /// What a decision has to know of the connection before anything is asked. Costs a system call the first time.
    pub(in crate::proxy) fn arrival(&self) -> Arrival {
        if !self.is_watched.get() {
            self.is_watched.set(self.worker.shared.connections.is_seen(&self.connection));
        }
        Arrival { is_watched: self.is_watched.get(), ..Arrival::NEW }
    }

    /// Whether nobody on the network can read what the client sends: see [`crate::net::ClientStream::is_private`].
    pub(in crate::proxy) const fn is_private(&self) -> bool {
        self.is_private
    }

    /// What its credentials come through, and may be bound to.
    pub(in crate::proxy) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where a request is meant to go.
    pub(in crate::proxy) fn destination(&self, head: &RequestHead) -> Result<Arc<Destination>, Reply> {
        check_form(head)?;
        let mut last = self.last.borrow_mut();
        if let Some(known) = &*last
            && known.is_of(head)
        {
            return Ok(Arc::clone(&known.destination));
        }
        let destination = Arc::new(Destination::of(head)?);
        *last = Some(Known {
            is_tunnel: head.method() == Method::Connect,
            authority: head.authority().into(),
            destination: Arc::clone(&destination),
        });
        Ok(destination)
    }

    /// Whether a request is meant to go where the last one was.
    pub(in crate::proxy) fn goes_there_again(&self, head: &RequestHead) -> bool {
        self.last.borrow().as_ref().is_some_and(|known| known.is_of(head))
    }

    /// From now on this user is served. What the one before has proved to an origin is not theirs.
    pub(in crate::proxy) fn serves(&self, authorized: &Authorized) {
        self.pinned.borrow_mut().take_if(|pinned| !pinned.is_of(authorized));
    }

    /// Keeps a connection to an origin for this user's next request to the same one.
    pub(in crate::proxy) fn pin(&self, mut origin: Origin, authorized: &Authorized) {
        origin.rest();
        let (session, user) = (authorized.session, Arc::clone(&authorized.user));
        *self.pinned.borrow_mut() = Some(Pinned { origin, session, user });
    }

    /// Takes the one that was kept for this user, if it leads there.
    pub(in crate::proxy) fn take_pinned(&self, key: &str, authorized: &Authorized) -> Option<Origin> {
        let mut pinned = self.pinned.borrow_mut();
        let own = pinned.take_if(|own| *own.origin.key == *key && own.is_of(authorized))?;
        Some(own.origin)
    }
}

//! What the audit trail is made of: typed events. Whoever shows or keeps them makes text of them at its own border.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::actor::Actor;
use super::mail::MailEvent;
use super::second_factor::SecondFactorEvent;
use crate::clock::wall_now;
use crate::outside;
use crate::session;
use crate::session::{Proved, What};
use crate::types::{ClientAddr, Identity, Method, Role, SessionId, Traffic};

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An administrator or a viewer logged in to the web pages.
    AdminLogin,
    /// Such a login is over; the reason says why.
    AdminLogout,
    /// Too many wrong secrets were sent: nothing of it is looked at for a while. The reason says of what.
    Banned,
    /// A session ended; the reason says why.
    Ended,
    /// Licences are about to run out, have run out, or are there again; the reason says which.
    Licences,
    /// A ban was lifted before its time.
    Lifted,
    /// One of the gateway's own users was added or changed; the reason says how.
    LocalUser,
    /// A session began.
    Login,
    /// A mail was given up; the reason says why.
    Mail,
    /// Somebody was refused: their credentials, their login, or their request.
    Refused,
    /// A stale session goes on: its user proved themselves again.
    Renewed,
    /// The database found at start is not the one that this gateway last wrote: nobody in it is logged in. The reason says
    /// what speaks against it.
    Replaced,
    /// Something was done to a user's second factor; the reason says what.
    SecondFactor,
    /// A second factor was not accepted; the reason says what was wrong.
    SecondFactorRefused,
    /// A setting was changed.
    Setting,
    /// A session's timeout ran out.
    Stale,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 16] = [
        Self::AdminLogin,
        Self::AdminLogout,
        Self::Banned,
        Self::Ended,
        Self::Licences,
        Self::Lifted,
        Self::LocalUser,
        Self::Login,
        Self::Mail,
        Self::Refused,
        Self::Renewed,
        Self::Replaced,
        Self::SecondFactor,
        Self::SecondFactorRefused,
        Self::Setting,
        Self::Stale,
    ];

    /// Its word, the same in logs, metrics, on disk and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdminLogin => "admin-login",
            Self::AdminLogout => "admin-logout",
            Self::Banned => "banned",
            Self::Ended => "ended",
            Self::Licences => "licences",
            Self::Lifted => "lifted",
            Self::LocalUser => "user",
            Self::Login => "login",
            Self::Mail => "mail-failed",
            Self::Refused => "refused",
            Self::Renewed => "renewed",
            Self::Replaced => "replaced",
            Self::SecondFactor => "second-factor",
            Self::SecondFactorRefused => "second-factor-refused",
            Self::Setting => "setting",
            Self::Stale => "stale",
        }
    }
}

/// An event, and when it happened in wall time: as the clock was set when it was noted.
#[derive(Clone, Debug, PartialEq)]
pub struct TrailEntry {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To a session.
    Session(SessionEvent),
    /// Somebody was refused.
    Refused(RefusedEvent),
    /// A ban began, or was lifted.
    Ban(BanEvent),
    /// A setting was changed.
    Setting(SettingEvent),
    /// One of the gateway's own users was added or changed.
    LocalUser(LocalUserEvent),
    /// An administrator or a viewer logged in to the web pages, or out of them.
    Admin(AdminEvent),
    /// Something was done to a user's second factor, or one was not accepted.
    SecondFactor(SecondFactorEvent),
    /// Licences are about to run out, have run out, or are there again.
    Licences(LicencesEvent),
    /// A mail was given up.
    Mail(MailEvent),
    /// The database found at start is not the one that this gateway last wrote; what speaks against it.
    Replaced(Cow<'static, str>),
}

/// One of the gateway's own users was added or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalUserEvent {
    /// Who.
    pub user: Arc<Identity>,
    /// What was done, in a word of a fixed set: `added`, `password`, `role`, `disabled`, `enabled` or `removed`.
    pub how: &'static str,
    /// The user's role since, where that was said: of one who was added, or has another.
    pub role: Option<Role>,
    /// The role before, of one who has another.
    pub before: Option<Role>,
    /// Whose order it was.
    pub actor: Actor,
}

/// Somebody who may look at what concerns others logged in to the web pages, or out of them. No session of the proxy is
/// touched by it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminEvent {
    /// Who.
    pub user: Arc<Identity>,
    /// From where.
    pub client: ClientAddr,
    /// What they may do.
    pub role: Role,
    /// How they proved themselves; `None`: they logged out.
    pub login: Option<Proved>,
    /// Why the login is over, in a word of a fixed set of the portal's; of a login `None`.
    pub why: Option<&'static str>,
    /// The same person, as the author of orders.
    pub actor: Actor,
}

/// Licences are about to run out, have run out, or are there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LicencesEvent {
    /// What has come to be.
    pub level: session::LicenceLevel,
    /// How many are in use.
    pub used: u32,
    /// How many there are; 0 is no limit.
    pub max: u32,
}

/// What happened to a session, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionEvent {
    /// What was decided.
    pub event: session::Event,
    /// The operator whose order it was.
    pub actor: Option<Actor>,
    /// How many of its connections were closed with it; `None` where none were to be.
    pub connections_closed: Option<usize>,
    /// What moved during the session, at its end; `None` where that is not known.
    pub traffic: Option<Traffic>,
}

impl From<session::Event> for SessionEvent {
    /// Nothing came of it.
    fn from(event: session::Event) -> Self {
        Self { event, actor: None, connections_closed: None, traffic: None }
    }
}

/// Somebody was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedEvent {
    /// From where; `None` for what is said of many clients together.
    pub client: Option<ClientAddr>,
    /// Why, in a word of a fixed set.
    pub cause: &'static str,
    /// Why, in a sentence.
    pub why: Box<str>,
    /// How they tried to prove themselves, if they did.
    pub method: Option<Method>,
    /// Who they are, if that is proved.
    pub user: Option<Arc<Identity>>,
    /// So many further refusals like this one, within a minute, that have no line of their own.
    pub count: Option<u64>,
}

/// A ban began, or was lifted.
#[derive(Clone, Debug, PartialEq)]
pub struct BanEvent {
    /// Whether it was lifted.
    pub is_lifted: bool,
    /// What it stands on, in a word of a fixed set: `address`, `user` or `pair`.
    pub scope: &'static str,
    /// The address that it names, if any; of an IPv6 network the one that it begins with.
    pub client: Option<ClientAddr>,
    /// The user that it names, if there is such a user.
    pub user: Option<Arc<Identity>>,
    /// Why, in a sentence of the program's own.
    pub why: Box<str>,
    /// So many bans before it have no line of their own.
    pub count: Option<u64>,
    /// Whose order it was, if one's.
    pub actor: Option<Actor>,
}

/// A setting was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingEvent {
    /// Its full key.
    pub key: &'static str,
    /// Its value before.
    pub before: String,
    /// And since.
    pub after: String,
    /// How, in a word of a fixed set: `set`, `unset` or `file`.
    pub how: &'static str,
    /// Whose order it was.
    pub actor: Actor,
}

impl fmt::Display for SettingEvent {
    /// `key = value`, as it is now.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, self.after)
    }
}

impl TrailEntry {
    /// What happens now.
    #[must_use]
    pub fn now(event: Event) -> Arc<Self> {
        Arc::new(Self { time: wall_now(), event })
    }
}

impl Event {
    /// Somebody of this role logged in to the web pages, by this.
    #[must_use]
    pub fn admin_login(user: Arc<Identity>, client: ClientAddr, role: Role, proved: Proved) -> Self {
        let actor = Actor::on_portal(&user, client);
        Self::Admin(AdminEvent { user, client, role, login: Some(proved), why: None, actor })
    }

    /// Such a login is over: why, in a word of a fixed set (`logout`, `expired`, `role` and the like).
    #[must_use]
    pub fn admin_logout(user: Arc<Identity>, client: ClientAddr, role: Role, why: &'static str) -> Self {
        let actor = Actor::on_portal(&user, client);
        Self::Admin(AdminEvent { user, client, role, login: None, why: Some(why), actor })
    }
}

/// What a border shows of an event, each in its type. What does not apply is absent.
impl Event {
    /// What kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Session(of) => match of.event.what {
                What::Login(_) => Kind::Login,
                What::Renewed(_) => Kind::Renewed,
                What::Stale(_) => Kind::Stale,
                What::Ended { .. } => Kind::Ended,
            },
            Self::Refused(_) => Kind::Refused,
            Self::Ban(ban) if ban.is_lifted => Kind::Lifted,
            Self::Ban(_) => Kind::Banned,
            Self::Setting(_) => Kind::Setting,
            Self::LocalUser(_) => Kind::LocalUser,
            Self::Admin(admin) if admin.login.is_some() => Kind::AdminLogin,
            Self::Admin(_) => Kind::AdminLogout,
            Self::SecondFactor(of) if of.what.is_refusal() => Kind::SecondFactorRefused,
            Self::SecondFactor(_) => Kind::SecondFactor,
            Self::Licences(_) => Kind::Licences,
            Self::Mail(_) => Kind::Mail,
            Self::Replaced(_) => Kind::Replaced,
        }
    }

    /// What happened to a session.
    #[must_use]
    pub const fn session(&self) -> Option<&SessionEvent> {
        match self {
            Self::Session(event) => Some(event),
            _ => None,
        }
    }

    /// Somebody was refused.
    #[must_use]
    pub const fn refused(&self) -> Option<&RefusedEvent> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// A setting was changed.
    #[must_use]
    pub const fn setting(&self) -> Option<&SettingEvent> {
        match self {
            Self::Setting(setting) => Some(setting),
            _ => None,
        }
    }

    /// A ban began, or was lifted.
    #[must_use]
    pub const fn ban(&self) -> Option<&BanEvent> {
        match self {
            Self::Ban(ban) => Some(ban),
            _ => None,
        }
    }

    fn what(&self) -> Option<&What> {
        Some(&self.session()?.event.what)
    }

    /// Whether somebody was let in: that is not announced where the disk did not take it.
    #[must_use]
    pub fn is_admission(&self) -> bool {
        matches!(self.what(), Some(What::Login(_) | What::Renewed(_)))
    }

    /// The client address.
    #[must_use]
    pub fn client(&self) -> Option<ClientAddr> {
        match self {
            Self::Session(of) => Some(of.event.client),
            Self::Refused(refused) => refused.client,
            Self::Ban(ban) => ban.client,
            Self::Admin(admin) => Some(admin.client),
            Self::SecondFactor(of) => of.client,
            Self::Setting(_) | Self::LocalUser(_) | Self::Licences(_) | Self::Mail(_) | Self::Replaced(_) => {
                None
            }
        }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> Option<&Identity> {
        match self {
            Self::Session(of) => Some(&of.event.identity),
            Self::Refused(refused) => refused.user.as_deref(),
            Self::LocalUser(changed) => Some(&changed.user),
            Self::Ban(ban) => ban.user.as_deref(),
            Self::Admin(admin) => Some(&admin.user),
            Self::SecondFactor(of) => Some(&of.user),
            Self::Mail(mail) => mail.user.as_deref(),
            Self::Setting(_) | Self::Licences(_) | Self::Replaced(_) => None,
        }
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> Option<SessionId> {
        self.session().map(|of| of.event.session)
    }

    /// How the user proved themselves.
    #[must_use]
    pub fn proved(&self) -> Option<Proved> {
        match self {
            Self::Admin(admin) => admin.login,
            _ => self.what()?.proved(),
        }
    }

    /// How the user proved themselves, or tried to.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        self.proved().map(|proved| proved.method).or_else(|| self.refused()?.method)
    }

    /// Why: a session's reason, why somebody was refused or banned, how a setting or a user was changed, why a login to the web
    /// pages is over, what has come of the licences, what speaks against a database.
    #[must_use]
    pub fn reason(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Session(of) => of.event.what.reason().map(|reason| reason.as_str().into()),
            Self::Refused(refused) => Some(outside::shown(&refused.why, outside::SENTENCE)),
            Self::Ban(ban) => Some((*ban.why).into()),
            Self::Setting(setting) => Some(setting.how.into()),
            Self::LocalUser(changed) => Some(changed.how.into()),
            Self::Admin(admin) => admin.why.map(Into::into),
            Self::SecondFactor(of) => Some(match &of.of {
                None => of.what.as_str().into(),
                Some(one) => format!("{}: {}", of.what.as_str(), outside::shown(one, outside::NAME)).into(),
            }),
            Self::Licences(licences) => Some(licences.level.as_str().into()),
            Self::Mail(mail) => {
                let why = outside::shown(&mail.why, outside::SENTENCE);
                Some(format!("{}: {why}", mail.what.as_str()).into())
            }
            Self::Replaced(why) => Some((**why).into()),
        }
    }

    /// The reason as a metric may show it: from a fixed set of words, or empty.
    #[must_use]
    pub(super) fn reason_label(&self) -> &'static str {
        match self {
            Self::Session(of) => of.event.what.reason().map_or("", session::Reason::as_str),
            Self::Refused(refused) => refused.cause,
            Self::Ban(ban) => ban.scope,
            Self::Setting(setting) => setting.how,
            Self::LocalUser(changed) => changed.how,
            Self::Admin(admin) => admin.why.unwrap_or_default(),
            Self::SecondFactor(of) => of.what.as_str(),
            Self::Licences(licences) => licences.level.as_str(),
            Self::Mail(mail) => mail.what.as_str(),
            Self::Replaced(_) => "store",
        }
    }

    /// In a refusal, why in a word; of a ban, what it stands on; of a second factor, what was done to it or was wrong; of a
    /// mail, what has become of it.
    #[must_use]
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refused) => Some(refused.cause),
            Self::Ban(ban) => Some(ban.scope),
            Self::SecondFactor(of) => Some(of.what.as_str()),
            Self::Mail(mail) => Some(mail.what.as_str()),
            _ => None,
        }
    }

    /// In a refusal, also of a second factor, how many more like it have no line of their own; of a ban, how many before it have none.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Refused(refused) => refused.count,
            Self::Ban(ban) => ban.count,
            Self::SecondFactor(of) => of.count,
            _ => None,
        }
    }

    /// The role that a user was given, or that somebody logged in to the web pages has.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        match self {
            Self::LocalUser(changed) => changed.role,
            Self::Admin(admin) => Some(admin.role),
            _ => None,
        }
    }

    /// What it was before: a setting's value, or a user's role.
    #[must_use]
    pub fn before(&self) -> Option<&str> {
        match self {
            Self::Setting(setting) => Some(&setting.before),
            Self::LocalUser(changed) => changed.before.map(Role::as_str),
            _ => None,
        }
    }

    /// How many licences are in use, and how many there are; 0 is no limit.
    #[must_use]
    pub const fn licences(&self) -> Option<LicencesEvent> {
        match self {
            Self::Licences(licences) => Some(*licences),
            _ => None,
        }
    }

    /// The operator whose order it was.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        match self {
            Self::Session(of) => of.actor.as_ref(),
            Self::Setting(setting) => Some(&setting.actor),
            Self::LocalUser(changed) => Some(&changed.actor),
            Self::Ban(ban) => ban.actor.as_ref(),
            Self::Admin(admin) => Some(&admin.actor),
            Self::SecondFactor(of) => of.actor.as_ref(),
            Self::Refused(_) | Self::Licences(_) | Self::Mail(_) | Self::Replaced(_) => None,
        }
    }

    /// In a kick-out, the user who took the address over.
    #[must_use]
    pub fn by(&self) -> Option<&Identity> {
        match self.what()? {
            What::Ended { by, .. } => by.as_deref(),
            What::Login(_) | What::Renewed(_) | What::Stale(_) => None,
        }
    }

    /// How long the session lasted that ended.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self.what()? {
            What::Ended { duration, .. } => Some(*duration),
            What::Login(_) | What::Renewed(_) | What::Stale(_) => None,
        }
    }

    /// How many of the session's connections were closed with it.
    #[must_use]
    pub fn connections_closed(&self) -> Option<usize> {
        self.session()?.connections_closed
    }

    /// What moved during the session that ended.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        self.session()?.traffic
    }
}

/// Who it is, as text may show it: cut, and without what does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The user.
    pub user: Cow<'a, str>,
    /// The user's domain.
    pub domain: Cow<'a, str>,
    /// The user's realm, in lower case, where the domain does not tell it.
    pub realm: Option<Cow<'a, str>>,
}

impl<'a> Named<'a> {
    /// How `identity` is shown.
    #[must_use]
    pub fn of(identity: &'a Identity) -> Self {
        Self {
            user: outside::shown(identity.user(), 2 * outside::NAME),
            domain: outside::shown(identity.domain(), outside::NAME),
            realm: identity.hidden_realm().map(|realm| outside::shown(realm, outside::NAME)),
        }
    }

    /// The same in one word, as [`Identity`] shows itself.
    #[must_use]
    pub fn in_short(identity: &Identity) -> String {
        outside::shown(&identity.to_string(), 2 * outside::NAME).into_owned()
    }
}

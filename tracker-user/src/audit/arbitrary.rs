//! Any event there can be, for property tests of whoever shows or keeps events.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Actor, BanEvent, Event, FactorChange, LicencesEvent, LocalUserEvent, MailEvent, MailTrouble,
    RefusedEvent, SecondFactorEvent, SessionEvent, SettingEvent, Via,
};
use crate::clock::BootTime;
use crate::session;
use crate::session::{LicenceLevel, Proved, Reason, What};
use crate::types::{ClientAddr, Factor, GatewayId, Identity, Method, Role, SessionId, Traffic, told_realm};

fn identity() -> impl Strategy<Value = Arc<Identity>> {
    let realm = prop_oneof![4 => "[A-Z]{1,6}(\\.TEST)?", 1 => Just("LOCAL".to_owned())];
    ("[a-zA-Zä. ]{1,12}", realm, any::<u8>()).prop_map(|(user, realm, kind)| {
        let domain = match kind % 4 {
            3 => return Arc::new(Identity::local(&user)),
            0 => String::new(),
            1 => realm.clone(),
            _ => "SHORT".into(),
        };
        Arc::new(Identity::new(&user, &realm, &domain))
    })
}

pub(crate) fn proved() -> impl Strategy<Value = Proved> {
    let factors = prop::collection::vec(select(&Factor::ALL[..]), 0..3);
    (select(&Method::ALL[..]), factors)
        .prop_map(|(method, factors)| Proved { method, factors: factors.into_iter().collect() })
}

fn traffic() -> impl Strategy<Value = Option<Traffic>> {
    prop::option::of((any::<u64>(), any::<u64>()).prop_map(|(rx, tx)| Traffic { rx, tx }))
}

fn what() -> impl Strategy<Value = What> {
    let reason = || select(&Reason::ALL[..]);
    let ended = (reason(), 0..1_000_000_000_u64, prop::option::of(identity()), any::<bool>(), traffic());
    prop_oneof![
        proved().prop_map(What::Login),
        proved().prop_map(What::Renewed),
        reason().prop_map(What::Stale),
        ended.prop_map(|(reason, millis, by, was_stale, traffic_before)| What::Ended {
            reason,
            duration: Duration::from_millis(millis),
            by,
            was_stale,
            traffic_before,
        }),
    ]
}

fn client() -> impl Strategy<Value = ClientAddr> {
    any::<[u8; 4]>().prop_map(ClientAddr::from_v4)
}

fn actor() -> impl Strategy<Value = Actor> {
    (prop::option::of("[a-z]{1,8}"), any::<u32>(), any::<i32>()).prop_map(|(user, uid, pid)| Actor {
        client: None,
        user,
        uid: Some(uid),
        pid: Some(pid),
        via: Via::Socket,
    })
}

prop_compose! {
    pub(crate) fn session_event()(
        what in what(), client in client(), identity in identity(), gateway in 1..=u32::MAX, number: u64,
        actor in prop::option::of(actor()), closed in prop::option::of(0..9_usize), traffic in traffic(),
    ) -> SessionEvent {
        let is_end = matches!(what, What::Ended { .. });
        SessionEvent {
            event: session::Event {
                at: BootTime::default(), client, connection: None,
                session: SessionId::new(GatewayId::new(gateway).unwrap(), number), identity, what,
            },
            actor,
            connections_closed: closed,
            traffic: traffic.filter(|_| is_end),
        }
    }
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let refused = (
        prop::option::of(client()),
        select(&["ntlm", "port", "licences"][..]),
        "[ -~]{0,40}",
        prop::option::of(select(&Method::ALL[..])),
        prop::option::of(identity()),
        prop::option::of(any::<u64>()),
    );
    let refused = refused.prop_map(|(client, cause, why, method, user, count)| RefusedEvent {
        client,
        cause,
        why: why.into(),
        method,
        user,
        count,
    });
    let ban = (
        any::<bool>(),
        select(&["address", "user", "pair"][..]),
        prop::option::of(client()),
        prop::option::of(identity()),
        "[ -~]{0,40}",
        prop::option::of(any::<u64>()),
        prop::option::of(actor()),
    );
    let ban = ban.prop_map(|(is_lifted, scope, client, user, why, count, actor)| BanEvent {
        is_lifted,
        scope,
        client,
        user,
        why: why.into(),
        count,
        actor,
    });
    let setting = ("[a-z0-9]{0,9}", "[a-z0-9]{0,9}", select(&["set", "unset", "file"][..]), actor());
    let setting = setting.prop_map(|(before, after, how, actor)| SettingEvent {
        key: "a.b",
        before,
        after,
        how,
        actor,
    });
    let role = || prop::option::of(select(&Role::ALL[..]));
    let how = select(&["added", "password", "role", "disabled", "enabled", "removed"][..]);
    let user = (identity(), how, role(), role(), actor());
    let user =
        user.prop_map(|(user, how, role, before, actor)| LocalUserEvent { user, how, role, before, actor });
    let admin = (identity(), client(), select(&Role::ALL[..]), prop::option::of(proved()));
    let admin = admin.prop_map(|(user, client, role, login)| match login {
        Some(proved) => Event::admin_login(user, client, role, proved),
        None => Event::admin_logout(user, client, role, "expired"),
    });
    let licences = (select(&LicenceLevel::ALL[..]), any::<u32>(), any::<u32>());
    let licences = licences.prop_map(|(level, used, max)| LicencesEvent { level, used, max });
    let second_factor = (
        identity(),
        prop::option::of(client()),
        select(&FactorChange::ALL[..]),
        prop::option::of("[ -~]{0,20}"),
        prop::option::of(actor()),
        prop::option::of(1..u64::MAX),
    );
    let second_factor = second_factor.prop_map(|(user, client, what, of, actor, count)| SecondFactorEvent {
        user,
        client,
        what,
        of: of.map(Into::into),
        actor,
        count,
    });
    let mail = (prop::option::of(identity()), select(&MailTrouble::ALL[..]), "[ -~]{0,40}");
    let mail = mail.prop_map(|(user, what, why)| MailEvent { user, what, why: why.into() });
    prop_oneof![
        1 => mail.prop_map(Event::Mail),
        1 => second_factor.prop_map(Event::SecondFactor),
        4 => session_event().prop_map(Event::Session),
        1 => refused.prop_map(Event::Refused),
        1 => ban.prop_map(Event::Ban),
        1 => setting.prop_map(Event::Setting),
        1 => user.prop_map(Event::LocalUser),
        1 => admin,
        1 => licences.prop_map(Event::Licences),
        1 => "[a-z ]{0,20}".prop_map(|why| Event::Replaced(why.into())),
    ]
}

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    (1_000_000_000_000_000..2_000_000_000_000_000_i64).prop_map(|at| Timestamp::from_microsecond(at).unwrap())
}

/// Whether a line says of a user all that tells them from others.
pub(crate) fn names(
    identity: &Identity,
    user: Option<&str>,
    domain: Option<&str>,
    realm: Option<&str>,
) -> bool {
    let realm = told_realm(domain.unwrap_or_default(), realm);
    user == Some(identity.user())
        && domain == Some(identity.domain())
        && identity.key() == format!("{}@{realm}", identity.user().to_lowercase())
}

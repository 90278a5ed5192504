//! From what operations answer to what the API says.

use std::collections::BTreeSet;

use super::certificates::certificate;
use super::decisions::{decision, step};
use super::wire;
use crate::auth::kerberos::negotiate::Account;
use crate::auth::regulation::Target;
use crate::config::{Config, show_span};
use crate::links::shown;
use crate::observe::{Kind, Pinning};
use crate::ops::{
    Activity, Answer, BanView, Explanation, Gap, Host, Lifted, LocalUser, LoggedOut, Offer, OpenConnection,
    RuleFinding, SessionDetail, SessionView, Setting, Source, Standing, Status, User, UserChanged,
};
use crate::session::{Session, State, Timeouts, Verdict};
use crate::types::Identity;

pub(super) fn status(status: Status) -> wire::Status {
    let (mode, cgroup, pinned, because) = match status.observer {
        Kind::Ebpf { cgroup, pinning } => {
            let pinned = match pinning {
                Pinning::Kept { directory, adopted, .. } => {
                    Some(wire::Pinned { directory: directory.display().to_string(), adopted })
                }
                Pinning::Lost { .. } => None,
            };
            ("ebpf", Some(cgroup.display().to_string()), pinned, None)
        }
        Kind::Proxy { because } => ("proxy", None, None, Some(because)),
    };
    wire::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        account: Account::ours(),
        started: status.started,
        config: status.config.map(|path| path.display().to_string()),
        listen: status.listen.to_vec(),
        observer: wire::ObserverStatus {
            mode: mode.into(),
            cgroup,
            pinned,
            because,
            blind: status.blind,
            records: usize::try_from(status.records).unwrap_or(usize::MAX),
            errors: status.errors.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        },
        sessions: wire::SessionCounts { active: status.active, stale: status.stale, waiting: status.waiting },
        users: status.users,
        local_users: wire::LocalUsers {
            count: status.local_users.count,
            warning: status.local_users.warning,
        },
        passkeys: status.passkeys,
        licences: wire::Licences { used: status.licences.used, max: status.licences.max },
        connections: status.connections,
        bans: status.bans,
        store: wire::StoreStatus {
            path: status.store.path.display().to_string(),
            bytes: status.store.bytes,
            waiting: status.store.waiting,
            problem: status.store.problem,
        },
        replay_cache: wire::ReplayCache {
            file: status.replay_cache.file.map(|file| file.display().to_string()),
            problem: status.replay_cache.problem,
        },
        certificates: status.certificates.into_iter().map(certificate).collect(),
        timeouts: in_short(&status.timeouts),
        warnings: status.warnings,
    }
}

/// The timeouts in one line.
fn in_short(timeouts: &Timeouts) -> String {
    let lifetime =
        timeouts.lifetime().map_or_else(|| "no lifetime".into(), |l| format!("lifetime {}", show_span(l)));
    format!("{} in mode {}, {lifetime}", show_span(timeouts.timeout), timeouts.mode)
}

pub(super) fn session(session: &SessionView) -> wire::Session {
    let Activity { open_connections, opened, closed, last_traffic, bytes_received, bytes_sent, .. } =
        session.activity;
    wire::Session {
        id: session.id.to_string(),
        client: shown(session.scope.client).to_string(),
        port: session.port,
        user: session.identity.user().into(),
        domain: session.identity.domain().into(),
        realm: session.identity.hidden_realm().map(Into::into),
        method: session.method.to_string(),
        state: session.standing.as_str().into(),
        reason: session.reason.map(|reason| reason.to_string()),
        mode: session.mode.to_string(),
        created: session.created,
        authenticated: session.authenticated,
        open_connections,
        opened,
        closed,
        last_traffic,
        expires: session.expires,
        device: session.device.map(|device| device.to_string()),
        bytes_received,
        bytes_sent,
    }
}

pub(super) fn detail(detail: &SessionDetail) -> wire::SessionDetail {
    wire::SessionDetail {
        session: session(&detail.session),
        sessions: detail.sessions.iter().map(session).collect(),
        connections: detail.connections.iter().map(connection).collect(),
        bans: detail.bans.iter().map(ban).collect(),
        history: detail.history.iter().map(|entry| wire::Event::from(&**entry)).collect(),
    }
}

fn connection(connection: &OpenConnection) -> wire::Connection {
    wire::Connection {
        port: connection.port,
        via: connection.via.map(|via| via.to_string()),
        since: connection.since,
        session: connection.session.map(|id| id.to_string()),
        carries: connection.carries.to_string(),
        bytes_received: connection.bytes_received,
        bytes_sent: connection.bytes_sent,
    }
}

pub(super) fn user(user: &User) -> wire::User {
    let names = |clients: &[_]| clients.iter().map(|client| shown(*client).to_string()).collect();
    wire::User {
        user: user.identity.user().into(),
        domain: user.identity.domain().into(),
        realm: user.identity.hidden_realm().map(Into::into),
        clients: names(&user.clients),
        stale_clients: names(&user.stale_clients),
        licences: user.licences,
        since: user.since,
        open_connections: user.open_connections,
        bytes_received: user.bytes_received,
        bytes_sent: user.bytes_sent,
    }
}

pub(super) fn host(host: &Host) -> wire::Host {
    let only = host.users.first().filter(|_| host.users.len() == 1);
    // Several may be shown by one name.
    let names: BTreeSet<String> = match only {
        Some(_) => BTreeSet::new(),
        None => host.users.iter().map(ToString::to_string).collect(),
    };
    let activity = host.activity;
    wire::Host {
        client: shown(host.client).to_string(),
        user: only.map(|user| user.user().into()),
        domain: only.map(|user| user.domain().into()),
        users: names.into_iter().collect(),
        state: host.state.map(|state| match state {
            State::Active => "active".into(),
            State::Stale { .. } => "stale".into(),
            State::Waiting { .. } => "waiting".into(),
        }),
        open_connections: activity.open_connections,
        receive_rate: host.receive_rate,
        send_rate: host.send_rate,
        bytes_received: activity.bytes_received,
        bytes_sent: activity.bytes_sent,
        inactivity: activity.last_traffic.map(|_| activity.silent_for.as_secs_f64()),
        last_traffic: activity.last_traffic,
        opened: activity.opened,
        closed: activity.closed,
    }
}

pub(super) fn explanation(explained: Explanation) -> wire::Explanation {
    let (id, user) = explained.session.unzip();
    let is_waiting = explained.sessions.first().is_some_and(|one| one.standing == Standing::Waiting);
    wire::Explanation {
        client: shown(explained.client).to_string(),
        decision: match explained.answer {
            Answer::Allow => "allow",
            Answer::Challenge => "challenge",
            Answer::StepUp => "step-up",
            Answer::Deny => "deny",
        }
        .into(),
        why: explained.why,
        shared: explained.is_shared,
        sessions: explained.sessions.iter().map(session).collect(),
        session: id.map(|id| id.to_string()),
        domain: user.as_ref().map(|user| user.domain().into()),
        user: user.map(|user| user.user().into()),
        state: explained.verdict.map(|verdict| match verdict {
            Verdict::Active { .. } if is_waiting => "waiting".into(),
            Verdict::Active { .. } => "active".into(),
            Verdict::Stale { .. } => "stale".into(),
            Verdict::Ended { .. } => "ended".into(),
        }),
        mode: explained.mode.to_string(),
        expires: explained.expires,
        ends: explained.ends,
        findings: explained.findings.into_iter().map(finding).collect(),
        walk: explained.offer.as_ref().map(walk),
        basic: wire::Basic { tls: explained.basic.tls, plain: explained.basic.plain },
        held_until: explained.held_until,
        bans: explained.bans.iter().map(ban).collect(),
        recent: explained.recent.into_iter().map(decision).collect(),
        record: explained.activity.map(facts),
    }
}

fn finding(finding: RuleFinding) -> wire::Finding {
    let RuleFinding { rule, finding, since, until, decides } = finding;
    wire::Finding { rule: rule.to_string(), finding, since, until, decides }
}

fn walk(offer: &Offer) -> wire::Walk {
    wire::Walk { offered: offer.offered, steps: offer.steps.iter().map(step).collect() }
}

fn facts(activity: Activity) -> wire::Facts {
    let gap = |Gap { from, until }| wire::Gap { from, until };
    wire::Facts {
        open_connections: activity.open_connections,
        opened: activity.opened,
        closed: activity.closed,
        last_traffic: activity.last_traffic,
        closed_gap: activity.closed_gap.map(gap),
        traffic_gap: activity.traffic_gap.map(gap),
        bytes_received: activity.bytes_received,
        bytes_sent: activity.bytes_sent,
    }
}

pub(super) fn setting(setting: &Setting) -> wire::Setting {
    let Setting { key, value, source, file, set } = setting;
    wire::Setting {
        key: key.name().into(),
        value: value.clone(),
        source: match source {
            Source::Default => wire::Source::Default,
            Source::File => wire::Source::File,
            Source::Set => wire::Source::Set,
        },
        default: key.get(&Config::default()),
        file: file.clone(),
        set_by: set.as_ref().and_then(|set| set.by.clone()),
        set_at: set.as_ref().and_then(|set| set.at),
        live: key.is_live(),
        help: key.help().into(),
    }
}

pub(super) fn ban(ban: &BanView) -> wire::Ban {
    let client = ban.target.address().map(|address| match ban.target {
        Target::Address(_) if address.ip().is_ipv6() => format!("{}/64", shown(address)),
        _ => shown(address).to_string(),
    });
    let identity = ban.identity.as_ref();
    wire::Ban {
        scope: ban.target.scope().into(),
        client,
        user: identity.map(|user| user.user().into()),
        domain: identity.map(|user| user.domain().into()),
        realm: identity.and_then(Identity::hidden_realm).map(Into::into),
        since: ban.since,
        until: ban.until,
        tries: ban.tries,
        last_try: ban.last_try,
    }
}

pub(super) fn lifted(Lifted { bans, warning }: &Lifted) -> wire::LiftedBans {
    wire::LiftedBans { lifted: bans.iter().map(ban).collect(), warning: warning.clone() }
}

pub(super) fn logged_out(LoggedOut { ended, warning }: &LoggedOut) -> wire::LoggedOut {
    wire::LoggedOut { ended: ended.iter().map(ended_session).collect(), warning: warning.clone() }
}

fn ended_session(session: &Session) -> wire::EndedSession {
    wire::EndedSession {
        id: session.id.to_string(),
        client: shown(session.client).to_string(),
        user: session.identity.user().into(),
        domain: session.identity.domain().into(),
    }
}

pub(super) fn local_user(user: &LocalUser) -> wire::LocalUser {
    let LocalUser { name, disabled, must_change, role, created, changed, last_login } = user;
    wire::LocalUser {
        name: name.clone(),
        disabled: *disabled,
        must_change: *must_change,
        administrator: role.may_change(),
        role: *role,
        created: *created,
        changed: *changed,
        last_login: *last_login,
    }
}

pub(super) fn user_changed(changed: UserChanged) -> wire::UserChanged {
    let UserChanged { name, user, ended, warning } = changed;
    let ended = ended.iter().map(ended_session).collect();
    wire::UserChanged { name, user: user.as_ref().map(local_user), ended, warning }
}

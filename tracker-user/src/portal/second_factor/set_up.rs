//! Setting up an authenticator: whoever is logged in begins it on their own; where a factor is demanded of somebody who has none,
//! it is all that works after the first factor. It counts from its first right code on, which is spent.

use std::sync::Arc;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::address;
use super::fresh::FreshFactor;
use super::give::{keep, onward, sent};
use super::notices::tell_by_mail;
use super::pending::PendingLogin;
use super::person::Person;
use super::qr::Qr;
use super::recovery_codes::{self, Drawn, Told, unable};
use super::{HOME, SET_UP, complete};
use crate::audit::{Actor, FactorChange};
use crate::auth::factors::{Checked, Enrolment};
use crate::clock::boot_now;
use crate::mail::Notice;
use crate::portal::login::{NotAdmitted, Typed, secure};
use crate::portal::page::{Page, answer, redirect};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::session::{Proof, State as Standing};
use crate::types::{Factors, Identity, UserMessage};

/// Letters of the secret are shown in groups of so many.
const GROUP: usize = 4;

/// See `second_factor/start.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/start.html")]
struct Start {
    page: Page,
    who: String,
    /// Whether it takes the place of another.
    replaces: bool,
}

/// See `second_factor/set_up.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/set_up.html")]
struct Form {
    page: Page,
    who: String,
    /// The picture of the secret.
    qr: Qr,
    /// The secret as text.
    groups: Vec<Zeroizing<String>>,
    issuer: String,
    /// The recovery address, as it was typed,
    address: String,
    /// and whether there must be one.
    needs_address: bool,
    /// Whether they administer the gateway.
    is_operator: bool,
    /// Whether a login waits for it.
    is_demanded: bool,
    /// Whether a passkey can be set up instead.
    may_add_passkeys: bool,
    problem: Option<Problem>,
}

/// What is wrong with what was typed, translated.
#[derive(Clone, Debug)]
struct Problem {
    is_address: bool,
    message: String,
}

/// Who sets one up.
pub(super) enum Who {
    /// Somebody whose login waits for it.
    Pending(PendingLogin),
    /// Somebody who is logged in.
    Person(Person),
}

/// What is being set up.
struct Work {
    who: Who,
    enrolment: Enrolment,
    /// Whether it may take the place of another.
    replaces: bool,
}

impl Who {
    /// Whose visit it is: somebody who may set one up.
    pub(super) fn of(site: &Site, visit: &Visit) -> Option<Self> {
        let factors = &site.parts().factors;
        if let Some(login) = site.pending_login(visit) {
            // Whoever has a factor gives that one.
            return factors.enrolled(&login.identity).is_empty().then_some(Self::Pending(login));
        }
        let person = Person::of(visit)?;
        factors.settings().policy.demand(person.identity())?;
        Some(Self::Person(person))
    }

    /// Who they are.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        match self {
            Self::Pending(login) => &login.identity,
            Self::Person(person) => person.identity(),
        }
    }
}

impl Work {
    /// What this visit is about, if it is set up now.
    fn of(site: &Site, visit: &Visit) -> Option<Self> {
        match Who::of(site, visit)? {
            Who::Pending(login) => {
                let enrolment = login.enrolment.clone()?;
                Some(Self { who: Who::Pending(login), enrolment, replaces: false })
            }
            Who::Person(person) => {
                let underway = site.enrolment(visit, &person)?;
                let (enrolment, replaces) = (underway.enrolment, underway.replaces);
                Some(Self { who: Who::Person(person), enrolment, replaces })
            }
        }
    }
}

/// The set-up of somebody whose login waits for it. It is the same until its first code is right, however often it is shown.
pub(super) fn demanded(site: &Site, visit: &Visit, login: &PendingLogin) -> Response {
    let enrolment = match &login.enrolment {
        Some(enrolment) => enrolment.clone(),
        None => {
            let Some(drawn) = Enrolment::draw() else { return unable(visit) };
            site.set_enrolment(visit, drawn.clone());
            drawn
        }
    };
    let work = Work { who: Who::Pending(login.clone()), enrolment, replaces: false };
    form(site, visit, &work, String::new(), None)
}

/// `GET /second-factor/set-up`
pub(super) async fn show(visit: Visit, State(site): State<Site>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, HOME);
    }
    let Some(who) = Who::of(&site, &visit) else { return Redirect::to(HOME).into_response() };
    match (Work::of(&site, &visit), who) {
        (Some(work), who) => {
            let known = site.parts().factors.account(who.identity());
            let address = known.and_then(|account| account.recovery_address);
            form(&site, &visit, &work, address.map(|address| address.to_string()).unwrap_or_default(), None)
        }
        (None, Who::Pending(login)) => demanded(&site, &visit, &login),
        (None, Who::Person(person)) => {
            let replaces = !site.parts().factors.enrolled(person.identity()).is_empty();
            let start = Start { page: visit.page(), who: person.identity().to_string(), replaces };
            answer(&visit, StatusCode::OK, &start)
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Begin {}

/// `POST /second-factor/set-up`: they have confirmed that they want to.
pub(super) async fn begin(State(site): State<Site>, request: Request) -> Response {
    let FreshFactor { visit, person, form: Begin {}, .. } =
        match FreshFactor::<Begin>::from_request(request, &site).await {
            Ok(fresh) => fresh,
            Err(first) => return first,
        };
    let factors = &site.parts().factors;
    if factors.settings().policy.demand(person.identity()).is_none() {
        return redirect(&visit, StatusCode::SEE_OTHER, HOME);
    }
    // Whoever has a factor has proved it to come here.
    let replaces = !factors.enrolled(person.identity()).is_empty();
    match site.begin_enrolment(&visit, &person, replaces) {
        Some(()) => redirect(&visit, StatusCode::SEE_OTHER, SET_UP),
        None => unable(&visit),
    }
}

#[derive(Deserialize)]
pub(super) struct Cancelled {}

/// `POST /second-factor/set-up/cancel`
pub(super) async fn cancel(
    visit: Visit,
    State(site): State<Site>,
    Posted(Cancelled {}): Posted<Cancelled>,
) -> Response {
    if let Some(person) = Person::of(&visit) {
        site.end_enrolment(&visit, &person);
    }
    redirect(&visit, StatusCode::SEE_OTHER, HOME)
}

fn form(site: &Site, visit: &Visit, work: &Work, address: String, problem: Option<&Problem>) -> Response {
    let settings = site.parts().factors.settings();
    let who = work.who.identity();
    let url = work.enrolment.url(&settings.issuer, &who.to_string());
    let Some(qr) = url.and_then(|url| Qr::of(&url)) else { return unable(visit) };
    let secret = work.enrolment.secret();
    let letters: Vec<char> = secret.chars().collect();
    let groups = letters.chunks(GROUP).map(|group| Zeroizing::new(group.iter().collect())).collect();
    let form = Form {
        page: visit.page(),
        who: who.to_string(),
        qr,
        groups,
        issuer: settings.issuer.clone(),
        address,
        needs_address: settings.mails,
        is_operator: site.role_of(who).may_look(),
        is_demanded: matches!(work.who, Who::Pending(_)),
        may_add_passkeys: settings.passkeys,
        problem: problem.cloned(),
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    answer(visit, status, &form)
}

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    code: Typed,
    #[serde(default)]
    address: String,
}

/// `POST /second-factor/activate`
pub(super) async fn activate(
    visit: Visit,
    State(site): State<Site>,
    Posted(Filled { code: Typed(code), address: typed }): Posted<Filled>,
) -> Response {
    let Some(work) = Work::of(&site, &visit) else {
        // It was too long ago, or is done.
        return redirect(&visit, StatusCode::SEE_OTHER, SET_UP);
    };
    let say = |message: &UserMessage| visit.language().say(message);
    let (factors, who) = (&site.parts().factors, Arc::clone(work.who.identity()));
    let address = match address::check(&site, &visit, &who, &typed) {
        Ok(address) => address,
        Err(problem) => {
            let problem = Problem { is_address: true, message: say(&problem) };
            return form(&site, &visit, &work, typed, Some(&problem));
        }
    };
    let Some(Drawn { shown, kept }) = recovery_codes::draw() else { return unable(&visit) };
    let enrolled =
        factors.enrol(&who, &work.enrolment, code.reveal(), sent(&visit), work.replaces, |account| {
            account.recovery_address = address;
            account.recovery_codes = kept;
        });
    let checked = match enrolled {
        Ok(checked) => checked,
        Err(wrong) => {
            let problem = Problem { is_address: false, message: say(&wrong.user_message()) };
            return form(&site, &visit, &work, typed, Some(&problem));
        }
    };
    let drift = checked.drift;
    let done = enrolled_now(&site, &visit, &work, checked).await;
    let actor = Some(Actor::on_portal(&who, visit.client()));
    factors.tell(&who, Some(visit.client()), FactorChange::Enrolled, None, actor);
    tell_by_mail(&site, &visit, &who, Notice::Enrolled);
    site.parts().tracker.enrolled(Arc::clone(&who), factors.enrolled(&who)).await;
    let (onward, cookies, problem) = match done {
        Ok((onward, cookies)) => (onward, cookies, None),
        Err(not) => (HOME.to_owned(), Vec::new(), Some(say(&not.message))),
    };
    let mut response = recovery_codes::show(&visit, shown, Told { is_set_up: true, drift, problem, onward });
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// It is set up: a login that has waited for it becomes one by that very code; of whoever is logged in their session here has proved
/// it. On disk when this returns. Where it goes on, and the cookies of the answer.
async fn enrolled_now(
    site: &Site,
    visit: &Visit,
    work: &Work,
    checked: Checked,
) -> Result<(String, Vec<http::HeaderValue>), NotAdmitted> {
    match &work.who {
        Who::Pending(login) => {
            let to = onward(site, visit, login);
            let cookies = complete(site, visit, login, checked).await?;
            Ok((to.url, cookies))
        }
        Who::Person(person) => {
            site.end_enrolment(visit, person);
            prove_here(site, visit, person.identity(), checked).await?;
            site.note_factor(visit, person.purpose);
            Ok((HOME.to_owned(), Vec::new()))
        }
    }
}

/// Somebody who is logged in has proved a factor: their session of the proxy at this address, if there is one, has it from now on,
/// and does not wait for it.
pub(super) async fn prove_here(
    site: &Site,
    visit: &Visit,
    who: &Arc<Identity>,
    checked: Checked,
) -> Result<(), NotAdmitted> {
    let (client, user) = (visit.client(), Arc::clone(who));
    let method = site.parts().tracker.ask(move |view| {
        let session = view.table.session(client).filter(|session| session.identity == user)?;
        // It may have begun to wait for the very factor meanwhile.
        (!matches!(session.state, Standing::Stale { .. })).then_some(session.method)
    });
    let Checked { factor, entries, drift: _ } = checked;
    match method.await.flatten() {
        None => keep(site, entries).await,
        Some(method) => {
            let proof = Proof {
                client,
                identity: Arc::clone(who),
                method,
                factors: Factors::NONE.with(factor),
                enrolled: Factors::NONE,
                at: boot_now(),
                connection: None,
                device: None,
            };
            site.prove_on_pages(proof, entries).await.map(drop)
        }
    }
}

//! The conversation against a plain model: what it remembers follows from all that has happened, told again from the start.

use proptest::prelude::*;

use super::*;
use crate::auth::kerberos::Cause as Kerberos;
use crate::auth::kerberos::conditions::Step;
use crate::auth::password::Cause as Password;

/// What can happen on a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Happened {
    /// A request without credentials.
    Bare,
    /// Credentials with this token came, and the handshake was taken.
    Came,
    /// They need another message.
    GoesOn,
    /// This token proved somebody, and the request is served on this session.
    Proved(u8, u64),
    /// They proved somebody who was not admitted.
    NotAdmitted,
    Failed(Cause),
    /// Credentials of another scheme, with something on offer.
    OtherScheme,
}

fn happened() -> impl Strategy<Value = Happened> {
    let causes = vec![
        Kerberos::WrongKey.into(),
        Kerberos::Garbage.into(),
        Kerberos::Ntlm.into(),
        Kerberos::NoKerberos.into(),
        Password::WrongPassword.into(),
        Password::Banned.into(),
    ];
    prop_oneof![
        1 => Just(Happened::Bare),
        1 => Just(Happened::Came),
        1 => Just(Happened::GoesOn),
        1 => (0..4_u8, 0..3_u64).prop_map(|(token, session)| Happened::Proved(token, session)),
        1 => Just(Happened::NotAdmitted),
        4 => prop::sample::select(causes).prop_map(Happened::Failed),
        1 => Just(Happened::OtherScheme),
    ]
}

/// The causes of the failures since the last success, of one scheme or of all.
fn failures(past: &[Happened], of: Option<Scheme>) -> Vec<Cause> {
    let begin = past
        .iter()
        .rposition(|event| matches!(event, Happened::Proved(..) | Happened::NotAdmitted))
        .map_or(0, |at| at + 1);
    let causes = past[begin..].iter().filter_map(|event| match event {
        Happened::Failed(cause) if of.is_none() || cause.scheme() == of => Some(*cause),
        _ => None,
    });
    causes.collect()
}

/// Why a scheme is not offered: the last failure that was final, or at least the third.
fn suppressed(past: &[Happened], scheme: Scheme) -> Option<Cause> {
    let causes = failures(past, Some(scheme));
    let over = causes.iter().enumerate().filter(|(before, cause)| cause.is_final() || before + 1 >= 3);
    over.map(|(_, cause)| *cause).next_back()
}

fn is_in_handshake(past: &[Happened]) -> bool {
    let last = past.iter().rfind(|event| matches!(event, Happened::Bare | Happened::Came | Happened::GoesOn));
    last == Some(&Happened::GoesOn)
}

fn proved(past: &[Happened]) -> Option<(u8, u64)> {
    past.iter().rev().find_map(|event| match event {
        Happened::Proved(token, session) => Some((*token, *session)),
        _ => None,
    })
}

const DENIED: Denied = Denied { step: Step::Browser, why: "" };

/// What is offered: whatever may be, but what is suppressed; and else the reason that its user can do something about.
fn expected(past: &[Happened], chances: Chances) -> Offer {
    let [negotiate, basic] = [Scheme::Negotiate, Scheme::Basic].map(|scheme| suppressed(past, scheme));
    match (chances.kerberos.is_ok() && negotiate.is_none(), chances.basic && basic.is_none()) {
        (true, true) => Offer::Schemes(Schemes::NEGOTIATE.then(Scheme::Basic)),
        (true, false) => Offer::Schemes(Schemes::NEGOTIATE),
        (false, true) => Offer::Schemes(Schemes::BASIC),
        (false, false) => Offer::Nothing(match (chances.basic, chances.kerberos) {
            (true, _) => NoOffer::Suppressed(basic.unwrap()),
            (false, Err(denied)) => NoOffer::Conditions(denied),
            (false, Ok(())) => NoOffer::Suppressed(negotiate.unwrap()),
        }),
    }
}

proptest! {
    #[test]
    fn what_is_remembered_follows_from_what_happened(events in prop::collection::vec(happened(), 0..24)) {
        let mut conversation = Conversation::default();
        for (number, event) in events.iter().enumerate() {
            let past = &events[..number];
            match *event {
                Happened::Bare => conversation.breaks_off(),
                Happened::Came => {
                    prop_assert_eq!(conversation.take_handshake().is_some(), is_in_handshake(past));
                }
                Happened::GoesOn => conversation.goes_on(Handshake::new(())),
                Happened::Proved(token, session) => {
                    conversation.succeeds();
                    conversation.remember(Fingerprint::of(&[token]), SessionId::test(session));
                }
                Happened::NotAdmitted => conversation.succeeds(),
                Happened::Failed(cause) => {
                    let closes = conversation.fails(cause);
                    prop_assert_eq!(closes, failures(&events[..=number], None).len() >= 6);
                }
                Happened::OtherScheme => {
                    prop_assert_eq!(conversation.tells_scheme(), !past.contains(&Happened::OtherScheme));
                }
            }
            let past = &events[..=number];
            for kerberos in [Ok(()), Err(DENIED)] {
                for basic in [true, false] {
                    let chances = Chances { kerberos, basic, is_held: false };
                    prop_assert_eq!(conversation.offer(&chances), expected(past, chances), "{:?}", chances);
                    let held = Chances { is_held: true, ..chances };
                    prop_assert_eq!(conversation.offer(&held), Offer::Nothing(NoOffer::Held));
                    prop_assert_eq!(held.schemes(), Schemes::NONE);
                }
            }
            let is_suppressed = Scheme::ALL.iter().any(|scheme| suppressed(past, *scheme).is_some());
            prop_assert_eq!(conversation.is_suppressed(), is_suppressed);
            prop_assert_eq!(conversation.is_in_handshake(), is_in_handshake(past));
            for token in 0..4 {
                let known = proved(past).filter(|(proved, _)| *proved == token).map(|(_, session)| SessionId::test(session));
                prop_assert_eq!(conversation.repeats(&[token]), known);
            }
        }
    }
}

//! The conversation against a plain model: what it remembers follows from all that has happened, told again from the start.

use proptest::prelude::*;

use super::*;
use crate::auth::kerberos::Cause as Kerberos;
use crate::auth::kerberos::conditions::Step;

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
    prop_oneof![
        Just(Happened::Bare),
        Just(Happened::Came),
        Just(Happened::GoesOn),
        (0..4_u8, 0..3_u64).prop_map(|(token, session)| Happened::Proved(token, session)),
        Just(Happened::NotAdmitted),
        prop::sample::select(vec![
            Kerberos::WrongKey,
            Kerberos::Garbage,
            Kerberos::Ntlm,
            Kerberos::NoKerberos
        ])
        .prop_map(|cause| Happened::Failed(cause.into())),
        Just(Happened::OtherScheme),
    ]
}

/// The causes of the failures since the last success.
fn failures(past: &[Happened]) -> Vec<Cause> {
    let begin = past
        .iter()
        .rposition(|event| matches!(event, Happened::Proved(..) | Happened::NotAdmitted))
        .map_or(0, |at| at + 1);
    let causes = past[begin..].iter().filter_map(|event| match event {
        Happened::Failed(cause) => Some(*cause),
        _ => None,
    });
    causes.collect()
}

/// Why nothing is offered: the last failure that was final, or at least the third.
fn suppressed(past: &[Happened]) -> Option<Cause> {
    let causes = failures(past);
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
                    conversation.remember(Fingerprint::of(&[token]), SessionId(session));
                }
                Happened::NotAdmitted => conversation.succeeds(),
                Happened::Failed(cause) => {
                    let reaction = conversation.fails(cause);
                    let count = failures(&events[..=number]).len();
                    prop_assert_eq!(reaction.asks_again, !cause.is_final() && count < 3);
                    prop_assert_eq!(reaction.closes, count >= 6);
                }
                Happened::OtherScheme => {
                    prop_assert_eq!(conversation.tells_scheme(), !past.contains(&Happened::OtherScheme));
                }
            }
            let past = &events[..=number];
            let expected = match suppressed(past) {
                None => Offer::Schemes(Schemes::NEGOTIATE),
                Some(cause) => Offer::Nothing(NoOffer::Suppressed(cause)),
            };
            prop_assert_eq!(conversation.offer(Ok(())), expected);
            prop_assert_eq!(conversation.is_suppressed(), suppressed(past).is_some());
            prop_assert_eq!(conversation.is_in_handshake(), is_in_handshake(past));
            for token in 0..4 {
                let known = proved(past).filter(|(proved, _)| *proved == token).map(|(_, session)| SessionId(session));
                prop_assert_eq!(conversation.repeats(&Credentials::Negotiate(vec![token])), known);
            }
            prop_assert_eq!(conversation.repeats(&Credentials::Unknown("Bearer".into())), None);
        }
    }
}

#[test]
fn the_conditions_come_first() {
    let denied = Denied { step: Step::Browser, why: "" };
    let mut conversation = Conversation::default();
    assert_eq!(conversation.offer(Err(denied)), Offer::Nothing(NoOffer::Conditions(denied)));
    conversation.fails(Kerberos::Ntlm.into());
    assert_eq!(conversation.offer(Err(denied)), Offer::Nothing(NoOffer::Conditions(denied)));
}

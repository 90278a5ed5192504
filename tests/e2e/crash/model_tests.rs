//! The reference itself: what it allows in plain cases.

use std::time::Duration;

use super::model::{Comparison, Fact, Mode, Model, Outcome, Rules, Span};

/// At about this many tenths of a second.
fn at(tenths: u64) -> Span {
    Span { from: Duration::from_millis(tenths * 100), to: Duration::from_millis(tenths * 100 + 5) }
}

fn request(tenths: u64, offered: Option<&'static str>, outcome: Outcome) -> Fact {
    Fact::Request { at: at(tenths), path: "/".into(), offered, outcome }
}

fn served(user: &str) -> Outcome {
    Outcome::Served(Some(user.to_owned()))
}

fn run(mode: Mode, on_reopen: bool, facts: &[Fact]) -> Vec<Comparison> {
    let lifetime = Some(Duration::from_secs(10));
    let mut model = Model::new(Rules { mode, timeout: Duration::from_secs(2), lifetime, on_reopen });
    let compared = facts.iter().map(|fact| model.learn(fact)).filter(|come| *come != Comparison::None);
    compared.collect()
}

#[test]
fn a_closed_period_counts_in_mode_session_only() {
    let facts = [
        Fact::Opened(1, at(10)),
        Fact::Data(at(10)),
        request(10, Some("alice"), served("alice")),
        Fact::Closed(1, at(11)),
        Fact::Opened(2, at(26)),
        Fact::Data(at(26)),
        request(26, None, served("alice")),
        Fact::Data(at(50)),
        request(50, None, served("alice")),
    ];
    use Comparison::{Agreed, Disagreed};
    assert_eq!(run(Mode::Session, false, &facts), [Agreed, Agreed, Agreed]);
    assert_eq!(run(Mode::Session, true, &facts), [Agreed, Disagreed, Disagreed]);
    assert_eq!(run(Mode::Traffic, false, &facts), [Agreed, Agreed, Disagreed]);
    assert_eq!(run(Mode::Absolute, false, &facts), [Agreed, Agreed, Disagreed]);
}

#[test]
fn at_the_edge_either_decision_is_followed() {
    let begin = [
        Fact::Opened(1, at(10)),
        request(10, Some("alice"), served("alice")),
        Fact::Closed(1, at(10)),
        Fact::Opened(2, at(30)),
    ];
    use Comparison::{Agreed, Disagreed, Unclear};
    let with = |outcomes: [Outcome; 2]| {
        let mut facts = begin.to_vec();
        facts.extend(outcomes.map(|outcome| request(30, None, outcome)));
        run(Mode::Session, false, &facts)
    };
    assert_eq!(with([Outcome::Challenged, Outcome::Challenged]), [Agreed, Unclear, Agreed]);
    assert_eq!(with([served("alice"), served("alice")]), [Agreed, Unclear, Agreed]);
    assert_eq!(with([Outcome::Challenged, served("alice")]), [Agreed, Unclear, Disagreed]);
    assert_eq!(with([served("bob"), served("alice")])[1], Disagreed);
}

#[test]
fn a_proof_without_an_answer_may_have_got_through() {
    let begin = [Fact::Opened(1, at(10)), request(10, Some("alice"), Outcome::Broken)];
    for outcome in [Outcome::Challenged, served("alice")] {
        let mut facts = begin.to_vec();
        facts.extend([request(12, None, outcome.clone()), request(13, None, outcome)]);
        assert_eq!(run(Mode::Session, false, &facts), [Comparison::Unclear, Comparison::Agreed]);
    }
}

#[test]
fn the_lifetime_is_over_whoever_proves_what() {
    let mut facts = vec![Fact::Opened(1, at(10)), request(10, Some("alice"), served("alice"))];
    facts.extend((2..10).map(|second| request(second * 10, Some("alice"), served("alice"))));
    facts.push(request(112, None, Outcome::Challenged));
    let come = run(Mode::Absolute, false, &facts);
    assert!(come.iter().all(|come| *come == Comparison::Agreed), "{come:?}");
}

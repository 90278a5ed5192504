//! What became of a message, and whether that may be.

use super::messages::Verdict;
use super::origin::content;
use super::plan::{Arrived, Board, End, NAME, tag};
use super::wire::{self, Allowed, MENDED, Mend, Mends, Message, RELAYED, Reading, STRICT, Stop};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It went on, and was answered; all of it, where it is several.
    Delivered,
    /// It got a status of the gateway's own.
    Refused(u16),
    /// The connection ended without an answer, or within it.
    Closed,
}

/// What may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// What was passed on is not what was sent, or is no HTTP: one message is taken for another.
    Desync(String),
    /// The gateway did nothing any more.
    Hung,
    /// It should have gone on.
    NotDelivered,
    /// Its authors would have refused it.
    Delivered,
    /// It went on, and should not have whatever its authors say: [`must_be_refused`].
    NotRefused,
    /// A bad answer is told by another status than 502.
    Status(u16),
    /// It depends on how the message was cut.
    Unsteady(String),
}

/// A message, one way, and what came of it.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) message: &'a super::messages::Message,
    pub(super) number: usize,
    pub(super) fate: Fate,
    /// What is wrong with that, if anything.
    pub(super) wrong: Vec<Wrong>,
    /// Why it is not valid to the letter.
    pub(super) fault: Option<&'static str>,
    /// What has to be mended in it; `None` where mending does not help.
    pub(super) mends: Option<Mends>,
    /// As a strict reader has it, or else a mending one.
    pub(super) reading: Reading,
    /// It ends within a message, even for a mending reader.
    pub(super) is_half: bool,
    /// There are bytes behind the message that says it is the last one.
    pub(super) has_more: bool,
    /// The first of its requests was answered by the origin.
    pub(super) served: bool,
    /// The bytes that were sent by client or origin.
    pub(super) sent: Vec<u8>,
    /// What the client heard.
    pub(super) heard: &'a [u8],
}

/// Judges one exchange.
pub(super) fn judge(board: &Board, number: usize) -> Case<'_> {
    let exchange = &board.exchanges[number];
    let message = board.message(number);
    let (heard, end) = exchange.heard.get().expect("all were played");
    let sent = if message.is_answer { message.raw.clone() } else { board.sent(number) };
    let read = |allowed: Allowed| match message.is_answer {
        true => wire::answers(&sent, &[message.method.as_bytes()], true, allowed),
        false => wire::requests(&sent, allowed),
    };
    let (strict, mended) = (read(STRICT), read(MENDED));
    let is_good = |reading: &Reading| match message.is_answer {
        true => reading.answer().is_some_and(|(_, is_whole)| is_whole),
        false => own(reading, number).next().is_some() && ends_well(reading, number),
    };
    let fault = (!is_good(&strict)).then_some(match strict.stop {
        Stop::Invalid(fault) => fault,
        _ => "incomplete",
    });
    let mends: Option<Mends> = is_good(&mended).then(|| {
        let until =
            mended.whole.iter().position(|message| !message.line[1].is_empty() && !message.is_interim());
        let counting =
            mended.whole.iter().take(until.filter(|_| message.is_answer).map_or(usize::MAX, |at| at + 1));
        counting.flat_map(|message| message.mends.iter().copied()).collect()
    });
    let readings = [&strict, &mended];
    let arrived = exchange.arrived.lock().unwrap();
    let served = served(heard, number);
    let (fate, mut wrong) = match message.is_answer {
        true => judge_answer(&readings, &arrived, number, message.method.as_bytes(), heard, *end),
        false => judge_request(&readings, &arrived, number, heard, *end),
    };
    if *end == End::Hung {
        wrong.push(Wrong::Hung);
    }
    let can_be_mended =
        mends.as_ref().is_some_and(|mends| mends.iter().all(|mend| is_mended(*mend, message.is_answer)));
    let should = match message.verdict {
        Verdict::Valid => true,
        Verdict::Any => can_be_mended,
        Verdict::Invalid => false,
    };
    let must_be_refused = mends.as_ref().is_some_and(|mends| mends.iter().any(|mend| must_be_refused(*mend)));
    let is_invalid = message.verdict == Verdict::Invalid && fault.is_none();
    match fate {
        Fate::Delivered if must_be_refused => wrong.push(Wrong::NotRefused),
        Fate::Delivered if is_invalid => wrong.push(Wrong::Delivered),
        Fate::Refused(status) if message.is_answer && status != 502 => wrong.push(Wrong::Status(status)),
        Fate::Refused(_) | Fate::Closed if should && !must_be_refused => wrong.push(Wrong::NotDelivered),
        _ => {}
    }
    let own_length = if message.is_answer { sent.len() } else { sent.len() - board.marked(number).len() };
    let is_half = match message.is_answer {
        true => mended.stop == Stop::Incomplete || (mended.stop == Stop::End && mended.answer().is_none()),
        false => wire::requests(&sent[..own_length], MENDED).stop == Stop::Incomplete,
    };
    let reading = if fault.is_none() { strict } else { mended };
    let read: usize = reading.whole.iter().map(|message| message.length).sum();
    let has_more = reading.stop == Stop::Closes && read < own_length;
    Case { message, number, fate, wrong, fault, mends, reading, is_half, has_more, served, sent, heard }
}

/// What has to be refused although it can be understood: the RFC says so of Host, and a chunk's line is what content is framed by.
fn must_be_refused(mend: Mend) -> bool {
    matches!(mend, Mend::Host | Mend::ChunkControl)
}

/// What a proxy has to mend, or what others mend and nobody is harmed by. In requests, that is hardly anything.
fn is_mended(mend: Mend, in_answer: bool) -> bool {
    match mend {
        Mend::Extension => true,
        Mend::Colon | Mend::Control | Mend::Minor => in_answer,
        _ => false,
    }
}

/// Whether the origin's answer to the first request of an exchange is in what the client heard.
fn served(heard: &[u8], number: usize) -> bool {
    let tag = format!("X-Tag: c{number}/0\r\n");
    heard.windows(tag.len()).any(|at| at == tag.as_bytes())
}

/// The messages of a reading without the marked request.
fn own(reading: &Reading, number: usize) -> impl Iterator<Item = &Message> {
    reading.whole.iter().filter(move |message| !is_marked(message, number))
}

fn is_marked(message: &Message, number: usize) -> bool {
    message.line[0] == b"GET" && tag(&onward(message)) == Some((number, "m"))
}

/// The marked request comes last, or the message before it said that nothing does.
fn ends_well(reading: &Reading, number: usize) -> bool {
    match reading.stop {
        Stop::Closes => true,
        // Its method may have got something before it.
        Stop::End => reading.whole.last().is_some_and(|last| tag(&onward(last)) == Some((number, "m"))),
        _ => false,
    }
}

/// The target as the origin is to get it.
fn onward(request: &Message) -> Vec<u8> {
    let target = &request.line[1];
    let Some(colon) = target.windows(3).position(|at| at == b"://") else { return target.clone() };
    let rest = &target[colon + 3..];
    let path = &rest[rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len())..];
    let path = &path[..path.iter().position(|&b| b == b'#').unwrap_or(path.len())];
    match path.first() {
        None if request.line[0] == b"OPTIONS" => b"*".to_vec(),
        None | Some(b'?') => [b"/", path].concat(),
        _ => path.to_vec(),
    }
}

/// What a proxy says itself, or keeps to itself.
const OWN: [&str; 19] = [
    "Host",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Support",
    "TE",
    "Transfer-Encoding",
    "Content-Length",
    "Upgrade",
    "Via",
    "Max-Forwards",
    "HTTP2-Settings",
    "Expect",
    "Date",
    "Trailer",
    "X-Tag",
];

/// The first field that was not sent so.
fn foreign_field(got: &Message, sent: &Message) -> Option<String> {
    let is_own = |name: &[u8]| OWN.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name));
    let foreign = got.fields.iter().find(|field| !is_own(&field.0) && !sent.fields.contains(field))?;
    Some(format!("{}: {}", foreign.0.escape_ascii(), foreign.1.escape_ascii()))
}

/// Whether the origin got this request; a part of it if it is not `whole`.
fn is_same(got: &Message, sent: &Message, whole: bool) -> bool {
    got.line[0] == sent.line[0]
        && got.line[1] == onward(sent)
        && if whole { got.body == sent.body } else { sent.body.starts_with(&got.body) }
        && foreign_field(got, sent).is_none()
}

/// Whether all that arrived is what this reading has, in its order; how many of its messages arrived whole.
fn fits(reading: &Reading, arrived: &[Arrived]) -> Result<Vec<usize>, String> {
    let mut next = 0;
    let mut whole = Vec::new();
    for got in arrived {
        match got {
            Arrived::Nonsense(bytes, stop) => {
                return Err(format!(
                    "the origin got what is no request ({stop:?}): {}",
                    bytes.escape_ascii()
                ));
            }
            Arrived::Whole(got) => {
                let left = reading.whole.iter().enumerate().skip(next);
                let Some((at, _)) = left.into_iter().find(|(_, sent)| is_same(got, sent, true)) else {
                    return Err(format!("the origin got a request that was not sent so: {}", shown(got)));
                };
                whole.push(at);
                next = at + 1;
            }
            Arrived::Part(got) => {
                let left = reading.whole.iter().skip(next).chain(&reading.part);
                if !left.into_iter().any(|sent| is_same(got, sent, false)) {
                    return Err(format!("the origin got a part of what was not sent so: {}", shown(got)));
                }
                next = reading.whole.len();
            }
        }
    }
    Ok(whole)
}

fn shown(message: &Message) -> String {
    let [a, b, c] = &message.line;
    let fields: String = message
        .fields
        .iter()
        .map(|(name, value)| format!(" [{}: {}]", name.escape_ascii(), value.escape_ascii()))
        .collect();
    let body = &message.body[..message.body.len().min(100)];
    format!("{} {} {}{fields} {}", a.escape_ascii(), b.escape_ascii(), c.escape_ascii(), body.escape_ascii())
}

fn judge_request(
    readings: &[&Reading],
    arrived: &[Arrived],
    number: usize,
    heard: &[u8],
    end: End,
) -> (Fate, Vec<Wrong>) {
    let mut problems = Vec::new();
    for reading in readings {
        let result = fits(reading, arrived).and_then(|whole| {
            let answers = heard_of_requests(reading, number, heard, end)?;
            Ok((whole, answers))
        });
        match result {
            Ok((whole, answers)) => {
                let of_own: Vec<usize> =
                    (0..reading.whole.len()).filter(|at| !is_marked(&reading.whole[*at], number)).collect();
                // Each one arrived, and its answer is the origin's.
                let is_delivered = !of_own.is_empty()
                    && of_own
                        .iter()
                        .all(|at| whole.contains(at) && answers.get(*at).is_some_and(|answer| answer.1));
                let is_delivered = is_delivered && ends_well(reading, number);
                let own_status = answers.iter().find(|answer| !answer.1).map(|answer| answer.0);
                let fate = match (is_delivered, own_status) {
                    (true, _) => Fate::Delivered,
                    (false, Some(status)) => Fate::Refused(status),
                    (false, None) => Fate::Closed,
                };
                return (fate, Vec::new());
            }
            Err(problem) => problems.push(problem),
        }
    }
    problems.dedup();
    (Fate::Closed, vec![Wrong::Desync(problems.join("; or: "))])
}

/// The answers that the client got: their status, and whether they are the origin's.
fn heard_of_requests(
    reading: &Reading,
    number: usize,
    heard: &[u8],
    end: End,
) -> Result<Vec<(u16, bool)>, String> {
    let requests = reading.whole.iter().chain(&reading.part);
    let mut methods: Vec<&[u8]> = requests.map(|request| request.line[0].as_slice()).collect();
    // One more, for what cannot be read.
    if matches!(reading.stop, Stop::Invalid(_) | Stop::Incomplete) {
        methods.push(b"GET");
    }
    let answers = wire::answers(heard, &methods, end != End::Hung, RELAYED);
    match answers.stop {
        Stop::End | Stop::Closes => {}
        Stop::Incomplete if end == End::Closed => {}
        stop => return Err(format!("the client got what is no answer ({stop:?}): {}", heard.escape_ascii())),
    }
    let read: usize = answers.whole.iter().map(|answer| answer.length).sum();
    if answers.part.is_none() && read < heard.len() {
        return Err(format!("the client got more than the answers: {}", heard[read..].escape_ascii()));
    }
    let finals = answers.whole.iter().filter(|answer| !answer.is_interim());
    let mut statuses = Vec::new();
    for (at, answer) in finals.enumerate() {
        let Some(own_tag) = answer.field("X-Tag") else {
            statuses.push((answer.status(), false));
            continue;
        };
        let target = reading.whole.get(at).map(onward).unwrap_or_default();
        let part = tag(&target).map_or("*", |(_, part)| part);
        let right = format!("c{number}/{part}");
        let is_head = methods[at] == b"HEAD";
        if own_tag != right.as_bytes() || (!is_head && answer.body != content(number, part).as_bytes()) {
            return Err(format!("request {at} got the answer to another: {}", shown(answer)));
        }
        statuses.push((answer.status(), true));
    }
    Ok(statuses)
}

fn judge_answer(
    readings: &[&Reading],
    arrived: &[Arrived],
    number: usize,
    method: &[u8],
    heard: &[u8],
    end: End,
) -> (Fate, Vec<Wrong>) {
    let mut wrong = Vec::new();
    for got in arrived {
        let is_right = match got {
            Arrived::Whole(got) => {
                let is_first = got.line[0] == method && tag(&got.line[1]) == Some((number, "0"));
                let is_second = got.line[0] == b"GET" && tag(&got.line[1]) == Some((number, "m"));
                (is_first || is_second)
                    && got.body.is_empty()
                    && got.field("Host").is_some_and(|host| host.starts_with(NAME.as_bytes()))
            }
            _ => false,
        };
        if !is_right {
            wrong.push(Wrong::Desync(format!("the origin got {got:?}")));
        }
    }
    let answers = wire::answers(heard, &[method, b"GET"], end == End::Closed, RELAYED);
    match answers.stop {
        Stop::End | Stop::Closes => {}
        Stop::Incomplete if end == End::Closed => {}
        stop => wrong.push(Wrong::Desync(format!(
            "the client got what is no answer ({stop:?}): {}",
            heard.escape_ascii()
        ))),
    }
    let read: usize = answers.whole.iter().map(|answer| answer.length).sum();
    if answers.part.is_none() && matches!(answers.stop, Stop::End | Stop::Closes) && read < heard.len() {
        wrong.push(Wrong::Desync(format!(
            "the client got more than the answers: {}",
            heard[read..].escape_ascii()
        )));
    }
    let mut finals = answers.whole.iter().filter(|answer| !answer.is_interim());
    let first =
        finals.next().map(|answer| (answer, true)).or(answers.part.as_ref().map(|answer| (answer, false)));
    if let Some(second) = finals.next() {
        let tag = format!("c{number}/m");
        if second.field("X-Tag") != Some(tag.as_bytes()) || second.body != content(number, "m").as_bytes() {
            wrong.push(Wrong::Desync(format!("the marked request got another answer: {}", shown(second))));
        }
    }
    let fate = match first {
        None => Fate::Closed,
        // The gateway's own pages have no Via.
        Some((answer, _)) if answer.field("Via").is_none() => Fate::Refused(answer.status()),
        Some((answer, is_whole)) => {
            let same = |reading: &&Reading| {
                reading.answer().is_some_and(|(said, all)| {
                    let is_same = said.line[1] == answer.line[1] && foreign_field(answer, said).is_none();
                    is_same
                        && match (is_whole, all) {
                            (true, true) => answer.body == said.body,
                            // What breaks off must be seen to.
                            (true, false) => false,
                            (false, _) => said.body.starts_with(&answer.body),
                        }
                })
            };
            match (readings.iter().copied().any(|reading| same(&reading)), is_whole) {
                (true, true) => Fate::Delivered,
                (true, false) => Fate::Closed,
                (false, _) => {
                    wrong.push(Wrong::Desync(format!(
                        "an answer that was not said so (whole: {is_whole}): {}",
                        shown(answer)
                    )));
                    Fate::Closed
                }
            }
        }
    };
    (fate, wrong)
}

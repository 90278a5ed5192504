//! What is chosen of a list, how it is sorted, and how it fits a terminal.

use jiff::Timestamp;
use serde_json::json;

use super::*;

#[derive(serde::Deserialize)]
struct Row {
    client: String,
    user: String,
    bytes: Option<u64>,
    since: Option<Timestamp>,
}

const COLUMNS: &[Column<Row>] = &[
    column("client", 0, |row| Cell::Address(row.client.clone())),
    column("user", 0, |row| Cell::text(row.user.clone())),
    column("bytes", 1, |row| row.bytes.map_or(Cell::Nothing, |count| Cell::Bytes(count as f64))),
    column("since", 2, |row| row.since.map_or(Cell::Nothing, Cell::Moment)),
    column("secret", HIDDEN, |row| Cell::text(format!("{}!", row.user))),
];

const WORDS: Words = Words { empty: "nobody", most: 100, more: "--limit shows more" };

fn rows() -> Value {
    json!([
        { "client": "192.0.2.10", "user": "alice", "bytes": 900, "since": "2026-07-31T12:00:00Z" },
        { "client": "192.0.2.9", "user": "Bob", "bytes": 10_485_760, "since": "2026-07-30T12:00:00Z" },
        { "client": "2001:db8::1", "user": "carol\u{1b}[31m", "bytes": null, "since": null },
        { "client": "10.0.0.1:4000", "user": "dave", "bytes": 2_000, "since": "2026-07-29T12:00:00Z" },
    ])
}

fn view(filter: &[&str], sort: &[&str], columns: &[&str], limit: Option<usize>) -> View {
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    View { filter: owned(filter), sort: owned(sort), columns: owned(columns), limit, watch: None }
}

const WIDE: Screen = Screen { width: None, paint: Paint(false) };

fn clients(view: &View) -> Vec<String> {
    let listed = list::<Row>(&rows(), COLUMNS, view, &WORDS, WIDE).unwrap();
    let all = listed.json.as_array().unwrap().iter();
    all.map(|row| row["client"].as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn numbers_addresses_and_moments_are_sorted_as_what_they_are_and_the_unknown_comes_last() {
    for (sort, wanted) in [
        (&["client"][..], ["10.0.0.1", "192.0.2.9", "192.0.2.10", "2001"]),
        (&["-client"], ["2001", "192.0.2.10", "192.0.2.9", "10.0.0.1"]),
        (&["bytes"], ["192.0.2.10", "10.0.0.1", "192.0.2.9", "2001"]),
        (&["-bytes"], ["192.0.2.9", "10.0.0.1", "192.0.2.10", "2001"]),
        (&["since"], ["10.0.0.1", "192.0.2.9", "192.0.2.10", "2001"]),
        (&["user"], ["192.0.2.10", "192.0.2.9", "2001", "10.0.0.1"]),
        (&[], ["192.0.2.10", "192.0.2.9", "2001", "10.0.0.1"]),
    ] {
        assert_eq!(clients(&view(&[], sort, &[], None)), wanted, "{sort:?}");
    }
}

#[test]
fn filters_compare_words_numbers_with_units_and_moments_and_all_must_hold() {
    for (filter, wanted) in [
        (&["ALI"][..], &["192.0.2.10"][..]),
        (&["192.0.2"], &["192.0.2.10", "192.0.2.9"]),
        (&["user=bob"], &["192.0.2.9"]),
        (&["user!=bob", "bytes>1k"], &["10.0.0.1"]),
        (&["user~A"], &["192.0.2.10", "2001", "10.0.0.1"]),
        (&["bytes>1MiB"], &["192.0.2.9"]),
        (&["bytes<1k"], &["192.0.2.10"]),
        (&["since<2026-07-30T00:00:00Z"], &["10.0.0.1"]),
        (&["secret=alice!"], &["192.0.2.10"]),
        (&["nobody at all"], &[]),
    ] {
        assert_eq!(clients(&view(filter, &[], &[], None)), wanted, "{filter:?}");
    }
}

#[test]
fn what_does_not_exist_or_compare_is_told_with_what_does() {
    for wrong in
        [view(&["size>3"], &[], &[], None), view(&[], &["size"], &[], None), view(&[], &[], &["size"], None)]
    {
        let error = list::<Row>(&rows(), COLUMNS, &wrong, &WORDS, WIDE).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("client, user, bytes, since, secret"), "{error}");
    }
    let wrong = view(&["bytes>lots"], &[], &[], None);
    assert!(list::<Row>(&rows(), COLUMNS, &wrong, &WORDS, WIDE).is_err());
}

#[test]
fn a_narrow_terminal_loses_columns_in_their_order_and_no_line_is_wider_than_it() {
    let at = |width: usize, view: &View| {
        let screen = Screen { width: Some(width), paint: Paint(false) };
        list::<Row>(&rows(), COLUMNS, view, &WORDS, screen).unwrap().text
    };
    let usual = view(&[], &[], &[], None);
    let all = at(80, &usual);
    assert!(all.contains("SINCE") && !all.contains("SECRET"), "{all}");
    let narrow = at(40, &usual);
    let table = || narrow.lines().take(5);
    assert!(table().all(|line| line.chars().count() <= 40) && !narrow.contains("SINCE"), "{narrow}");
    assert!(narrow.ends_with("not shown for want of room: since (--columns names what is)"), "{narrow}");
    let cut = at(20, &usual);
    assert!(cut.lines().take(5).all(|line| line.chars().count() <= 20) && cut.contains('…'), "{cut}");
    assert!(!all.contains('\u{1b}'), "what users are called does nothing to a terminal");
    let asked =
        list::<Row>(&rows(), COLUMNS, &view(&[], &[], &["secret", "client"], Some(1)), &WORDS, WIDE).unwrap();
    assert_eq!(asked.text, "SECRET  CLIENT\nalice!  192.0.2.10\n3 more; --limit shows more");
    assert_eq!(asked.json, json!([{ "secret": "alice!", "client": "192.0.2.10" }]));
}

#[test]
fn colours_are_for_terminals_and_change_no_width() {
    let painted = Paint(true).paint("stale", Some(Colour::Yellow));
    assert_eq!(painted, "\x1b[33mstale\x1b[0m");
    assert_eq!(Paint(false).paint("stale", Some(Colour::Yellow)), "stale");
}

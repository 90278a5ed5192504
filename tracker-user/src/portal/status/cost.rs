//! How much a page costs. By hand: `cargo test --release -p tracker-user --lib -- --ignored cost_of --nocapture --test-threads 1`.

use askama::Template as _;

use super::table::Rows;
use super::words::Clock;
use crate::clock::boot_now;
use crate::ops::{Select, Table, test_snapshot};
use crate::pages::Language;

/// What each live viewer costs in a second, beside their share of the snapshot: to select, to fill in and to write.
#[test]
#[ignore = "prints, and asserts nothing"]
fn cost_of_the_rows_of_a_page() {
    let (snapshot, language) = (test_snapshot(5_000), Language::english());
    for table in Table::ALL {
        let wanted = Select { text: "user".into(), ..Select::all(table) };
        let wanted = if table == Table::Hosts { Select { text: "10.".into(), ..wanted } } else { wanted };
        let (begun, many) = (boot_now(), 200);
        let mut length = 0;
        for _ in 0..many {
            let selection = snapshot.select(&wanted);
            let rows = Rows::new(&language, &Clock::here(), table, &snapshot, &selection);
            length = rows.render().unwrap().len();
        }
        let each = boot_now().since(begun) / many;
        println!("{}: {each:?} for the rows of a page, {length} bytes", table.as_str());
    }
}

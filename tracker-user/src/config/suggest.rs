//! "Did you mean": the known name that is closest to an unknown one.

/// The candidate closest to `given`, if any is close enough to be what was meant.
pub(super) fn closest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name longer than any known one plus some typos is not worth the comparison.
    if given.len() > 80 {
        return None;
    }
    let given = given.to_lowercase().replace('_', "-");
    let allowed = (given.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(&given, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (j, to) in b.iter().enumerate() {
            let (diagonal, above) = (cell(&row, j), cell(&row, j + 1));
            let mut cost = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            let swapped = j > 0 && last == Some(*to) && b.get(j - 1) == Some(&from);
            if swapped {
                cost = cost.min(cell(&before, j - 1) + 1);
            }
            next.push(cost);
            left = cost;
        }
        before = std::mem::replace(&mut row, next);
        last = Some(from);
    }
    cell(&row, b.len())
}

fn cell(row: &[usize], at: usize) -> usize {
    row.get(at).copied().unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("listen", "listen", 0),
            ("lisetn", "listen", 1),
            ("listn", "listen", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_close_is_suggested() {
        let names = ["listen", "connect-ports", "basic"];
        assert_eq!(closest("Connect_Port", names), Some("connect-ports"));
        assert_eq!(closest("lsiten", names), Some("listen"));
        assert_eq!(closest("colour", names), None);
        assert_eq!(closest("", names), None);
        assert_eq!(closest(&"a".repeat(10_000), names), None);
    }
}

//! Tables as files for spreadsheets (RFC 4180), in which nothing is taken for a formula.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

/// One row, with its end of line.
pub(super) fn row<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut row = String::new();
    for (number, field) in fields.into_iter().enumerate() {
        if number > 0 {
            row.push(',');
        }
        // Spreadsheets calculate what begins like this; an apostrophe says that it is text.
        let calculated = field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
        let number = field.parse::<f64>().is_ok_and(f64::is_finite);
        let guard = if calculated && !number { "'" } else { "" };
        if field.contains(['"', ',', '\r', '\n', ';', '\t']) || field.starts_with(' ') || field.ends_with(' ')
        {
            row.push('"');
            row.push_str(guard);
            row.push_str(&field.replace('"', "\"\""));
            row.push('"');
        } else {
            row.push_str(guard);
            row.push_str(field);
        }
    }
    row.push_str("\r\n");
    row
}

/// The answer that is saved as `name`: `columns`, then what `rows` tells, as it comes. Where that fails, the file is cut short, and
/// the browser says so.
pub(super) fn download<E>(
    name: &'static str,
    columns: &[&str],
    rows: impl Stream<Item = Result<String, E>> + Send + 'static,
) -> Response
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let head = row(columns.iter().copied());
    let content = Body::from_stream(futures_util::stream::once(async { Ok(head) }).chain(rows));
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    if let Ok(attachment) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, attachment);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_calculated_and_nothing_leaves_its_field() {
        for (field, written) in [
            ("alice", "alice"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=HYPERLINK(\"http://evil.test\",\"x\")", "\"'=HYPERLINK(\"\"http://evil.test\"\",\"\"x\"\")\""),
            ("+1+1", "'+1+1"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\"'\t=1\""),
            ("-12.5", "-12.5"),
            ("-inf", "'-inf"),
            ("a\r\nb", "\"a\r\nb\""),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(row([field, "z"]), format!("{written},z\r\n"), "{field:?}");
        }
    }
}

//! Whether people can use a page whatever they use it with: axe-core, run in the page by the browser's driver, which a
//! Content-Security-Policy does not keep out.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::browser::Browser;

/// Runs it, and says what it found: rule, why, and where.
const RUN: &str = r"
    const done = arguments[arguments.length - 1];
    axe.run(document, { resultTypes: ['violations'] }).then(
        found => done({ seen: found.passes.length, faults: found.violations.flatMap(fault => fault.nodes.map(node =>
            `${fault.id}: ${fault.help}: ${node.html.slice(0, 200)} ${(node.any[0] || node.all[0] || node.none[0] || {}).message || ''}`)) }),
        error => done({ seen: 0, faults: [String(error)] }));
";

/// What is wrong with the page that the browser shows, a line each.
///
/// # Errors
/// When it does not run.
pub fn faults(browser: &mut Browser, axe: &str) -> Result<Vec<String>> {
    // It stays until the next page is loaded.
    if browser.script("return typeof axe", &[])? != "object" {
        browser.script(&format!("{axe}; window.axe = axe;"), &[])?;
    }
    let found = browser.script_async(RUN, &[])?;
    anyhow::ensure!(found["seen"] != json!(0), "axe has looked at nothing: {found}");
    let faults = found["faults"].as_array().context("axe says nothing")?;
    Ok(faults.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

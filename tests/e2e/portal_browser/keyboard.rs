//! A page by keyboard alone: every control is reached, one after another as they stand, and the one that has the focus can
//! be seen to have it.

use anyhow::Result;
use lab::browser::{Browser, TAB};
use lab::pages::Page;
use serde_json::Value;

/// Lists what can be focused, in the order of the document, and remembers it in the page.
const CONTROLS: &str = r"
    const all = document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]');
    const inGroup = element => element.type === 'radio' && element.name;
    const first = {};
    window.controls = [...all].filter(element => {
        if (element.disabled || element.tabIndex < 0 || element.getClientRects().length === 0) return false;
        // Neither hidden nor in what is folded.
        if (!element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true })) return false;
        if (!inGroup(element)) return true;
        const group = element.form ? [...element.form.elements].filter(other => other.type === 'radio' && other.name === element.name) : [element];
        const chosen = group.find(other => other.checked);
        if (chosen) return element === chosen;
        return group[0] === element;
    });
    return window.controls.map(element => element.outerHTML.slice(0, 120));
";

/// Which of them has the focus, and whether that shows: by something that is not there without it.
const FOCUS: &str = r"
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
    const box = element.getBoundingClientRect();
    const inSight = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return [window.controls.indexOf(element), outlined && inSight];
";

/// What is wider than the window, without being in something that scrolls.
pub(super) const TOO_WIDE: &str = r"
    const scrolls = element => element && (['auto', 'scroll', 'hidden'].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
    return [...document.body.querySelectorAll('*')].filter(element =>
        element.getBoundingClientRect().right > innerWidth && !scrolls(element.parentElement))
        .slice(0, 3).map(element => element.outerHTML.slice(0, 120));
";

/// No page has more; a walk through all rows of a long table would teach nothing.
const MOST: usize = 150;

/// Parts of a field for a date and a time: year to second, half of the day, and the button of the calendar.
const PARTS: usize = 8;

/// Whether Tab goes from part to part within it.
fn is_of_parts(control: &Value) -> bool {
    control.as_str().is_some_and(|html| html.contains("type=\"datetime-local\""))
}

/// Walks through the page that the browser shows, and says what is wrong.
pub(super) fn walk(browser: &mut Browser, page: &Page) -> Result<Vec<String>> {
    let controls = browser.script(CONTROLS, &[])?;
    let controls = controls.as_array().cloned().unwrap_or_default();
    let mut faults = Vec::new();
    for (number, control) in controls.iter().enumerate().take(MOST) {
        browser.press(TAB)?;
        let mut at = browser.script(FOCUS, &[])?;
        // A field for a date has a place for each part of it.
        for _ in 0..PARTS {
            if number == 0 || at[0] != number - 1 || !is_of_parts(&controls[number - 1]) {
                break;
            }
            browser.press(TAB)?;
            at = browser.script(FOCUS, &[])?;
        }
        if at[0] != number {
            let there = at[0].as_u64().and_then(|at| controls.get(usize::try_from(at).ok()?));
            let there = there.unwrap_or(&Value::Null);
            faults.push(format!("{}: Tab leads to {there} instead of {control}", page.name));
            break;
        }
        if at[1] != true {
            faults.push(format!("{}: it does not show that {control} has the focus", page.name));
        }
    }
    Ok(faults)
}

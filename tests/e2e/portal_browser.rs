//! The pages in real browsers: for people who see badly, use no mouse, or hold a phone; and with strangers beside them.

use anyhow::Result;
use lab::browser::TAB;
use lab::{Lab, axe, npm, web::Web};

#[test]
fn smoke() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let Some(tools) = npm::tools() else { return Ok(()) };
    let lab = Lab::start("")?;
    let script = tools.axe()?;
    let mut browser = lab.browser(0).chromium()?;
    browser.open(&Web::url("/nowhere"))?;
    println!("{} {} {}", browser.url()?, browser.title()?, browser.text()?);
    browser.size(320, 640)?;
    browser.dark(true)?;
    println!("{:?}", axe::faults(&mut browser, &script)?);
    browser.press(TAB)?;
    println!("{}", browser.script("return [innerWidth, matchMedia('(prefers-color-scheme:dark)').matches, document.activeElement.tagName]", &[])?);
    std::fs::write("/tmp/w/browser/target/smoke.png", browser.picture()?)?;
    println!("{:?}", browser.cookies()?);
    let file = lab.scratch.write("x.html", browser.source()?)?;
    println!("{:?}", tools.validate(&[file])?);
    let mut firefox = lab.browser(1).firefox()?;
    firefox.open(&Web::url("/nowhere"))?;
    println!("{} {} {}", firefox.url()?, firefox.title()?, firefox.text()?);
    firefox.press(TAB)?;
    println!("{:?}", firefox.cookies()?);
    println!("{}", firefox.script("return 1", &[])?);
    Ok(())
}

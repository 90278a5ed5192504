//! The kernel side on this kernel.
use super::*;

#[test]
fn smoke() {
    let options = ObserveOptions { mode: ObserverMode::Ebpf, ports: vec![3999], ..Default::default() };
    match Observer::start(&options) {
        Ok(_) => {}
        Err(e) => panic!("{}", e.because()),
    }
}

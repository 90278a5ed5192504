//! What the packet programs cost, by the kernel's own statistics, and what they take from requests. Measurements, which
//! assert nothing of time: `cargo test -p tracker-user kernel_tests::price -- --ignored --nocapture --test-threads=1`

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::super::bpf::{self, Hook};
use super::super::*;
use super::lab::*;

/// A way of using connections: `rounds` times so many bytes up, then so many down.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    port: u16,
    connections: usize,
    up: usize,
    down: usize,
    rounds: usize,
}

const REQUESTS: Load =
    Load { name: "requests", port: PORT, connections: 1, up: 100, down: 1 << 10, rounds: 60_000 };
const LOADS: [Load; 5] = [
    Load { name: "download", down: 1 << 30, rounds: 1, ..REQUESTS },
    Load { name: "upload", up: 1 << 30, rounds: 1, ..REQUESTS },
    REQUESTS,
    Load { name: "requests, 8 at once", connections: 8, rounds: 8_000, ..REQUESTS },
    Load { name: "not watched", port: OTHER, ..REQUESTS },
];
const OTHER: u16 = PORT + 1;
/// Outside of the cgroup: no program runs there.
const OUTSIDE: u16 = PORT + 2;
/// Medians of so many.
const ROUNDS: usize = 5;

#[test]
#[ignore = "a measurement: takes some seconds, and wants an idle machine"]
fn price_of_a_packet() {
    measured(|observer, kernel, cgroup| {
        let _stats = enable_stats(Stats::RunTime).unwrap();
        let directory = fs::File::open(&cgroup.path).unwrap();
        let ours = kernel.program_ids();
        let programs = [("received", Hook::Ingress, ours[0]), ("sent", Hook::Egress, ours[1])];
        let programs = programs.map(|(name, hook, ours)| {
            let program = idle_program(hook);
            let link = bpf::link(program.as_fd(), directory.as_fd(), hook).unwrap();
            (name, ours, bpf::look(link.as_fd()).unwrap().program, link)
        });
        println!(
            "{:20} {:10} {:>9} {:>10} {:>18}",
            "load", "program", "packets", "ns/packet", "an empty program's"
        );
        for load in LOADS {
            let listener = cgroup.inside(|| listen_on(load.port));
            let mut costs = [const { Vec::new() }; 2];
            for _ in 0..ROUNDS {
                let spent = || programs.each_ref().map(|(_, ours, empty, _)| (spent(*ours), spent(*empty)));
                let before = spent();
                run(&listener, load);
                for (costs, (before, after)) in costs.iter_mut().zip(before.into_iter().zip(spent())) {
                    let packets = after.0.1 - before.0.1;
                    costs.push((per_run(before.0, after.0), per_run(before.1, after.1), packets));
                }
            }
            for ((program, ..), mut costs) in programs.iter().zip(costs) {
                costs.sort_by(|a, b| a.0.total_cmp(&b.0));
                let (ours, empty, packets) = costs[ROUNDS / 2];
                println!("{:20} {program:10} {packets:>9} {ours:>10.1} {empty:>18.1}", load.name);
            }
        }
        assert_clean(observer);
    });
}

/// What being observed takes from somebody who does nothing but answer.
#[test]
#[ignore = "a measurement: takes some seconds, and wants an idle machine"]
fn price_of_a_request() {
    const ROUNDS: usize = 15;
    measured(|observer, _, cgroup| {
        let ports = [PORT, OTHER, OUTSIDE];
        let listeners = ports.map(|port| match port {
            OUTSIDE => listen_on(port),
            _ => cgroup.inside(|| listen_on(port)),
        });
        let mut costs = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for ((port, listener), costs) in ports.iter().zip(&listeners).zip(&mut costs) {
                let before = cpu_time();
                let load = Load { port: *port, ..REQUESTS };
                run(listener, load);
                costs.push((cpu_time() - before).as_nanos() as f64 / load.rounds as f64);
            }
        }
        let medians = costs.map(|mut costs| {
            costs.sort_by(f64::total_cmp);
            costs[ROUNDS / 2]
        });
        for (name, median) in ["watched", "not watched", "no programs"].iter().zip(medians) {
            println!("{name:12} {median:8.0} ns of CPU a request, both ends");
        }
        assert_clean(observer);
    });
}

/// What it takes to say that payload moved under TLS.
#[test]
#[ignore = "a measurement: takes some seconds, and wants an idle machine"]
fn price_of_a_stamp() {
    const COUNT: u32 = 200_000;
    measured(|observer, _, _| {
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let _open = pair(&listener, A);
        let stamp = observer.payload(A.into()).unwrap();
        let now = boot_now();
        let told = |number: u32| now.after(Duration::from_secs(2) * number);
        let kept = |_: u32| told(COUNT);
        let ways: [(&str, &dyn Fn(u32) -> BootTime); 2] = [("told", &told), ("kept", &kept)];
        for (name, at) in ways {
            let before = cpu_time();
            (1..=COUNT).for_each(|number| stamp.moved(at(number)));
            println!("{name:6} {:8.0} ns of CPU", (cpu_time() - before).as_nanos() as f64 / f64::from(COUNT));
        }
    });
}

/// Runs with an observer of a cgroup that only the listeners below are in, and what they accept: the clients' ends run
/// no program.
fn measured(work: impl FnOnce(&Observer, &Kernel, &Cgroup) + Send) {
    let cgroup = Cgroup::new();
    observed(
        |options| options.cgroup = Some(cgroup.path.clone()),
        |observer, _| match &observer.source {
            Source::Kernel(kernel) => work(observer, kernel, &cgroup),
            Source::Eyes { because, .. } => panic!("{because}"),
        },
    );
}

fn listen_on(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
}

fn run(listener: &TcpListener, load: Load) {
    std::thread::scope(|scope| {
        for _ in 0..load.connections {
            scope.spawn(|| mirror(listener.accept().unwrap().0, load, false));
            scope.spawn(|| mirror(connect_socket(client_socket(A), load.port), load, true));
        }
    });
}

/// One end of a connection: the client writes first.
fn mirror(mut stream: TcpStream, load: Load, client: bool) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..load.rounds {
        for (bytes, writes) in [(load.up, client), (load.down, !client)] {
            let mut left = bytes;
            while left > 0 {
                let part = &mut buffer[..left.min(64 << 10)];
                left -= if writes { stream.write(part).unwrap() } else { stream.read(part).unwrap() };
            }
        }
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |value: TimeVal| Duration::from_micros((value.tv_sec() * 1_000_000 + value.tv_usec()) as u64);
    time(usage.user_time()) + time(usage.system_time())
}

/// Nanoseconds and runs so far.
fn spent(program: u32) -> (u128, u64) {
    let is = |info: &ProgramInfo| info.id() == program;
    let info = loaded_programs().flatten().find(is).expect("the program is loaded");
    (info.run_time().as_nanos(), info.run_count())
}

fn per_run(before: (u128, u64), after: (u128, u64)) -> f64 {
    (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64
}

/// A cgroup of one's own below the root.
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    fn new() -> Self {
        let path = host::cgroup_root().unwrap().join(format!("tracker-price-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// Runs with the process in it.
    fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        let enter =
            |path: &Path| fs::write(path.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        enter(&self.path);
        let done = work();
        enter(self.path.parent().unwrap());
        done
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// The smallest program there is: what the statistics say of it is their own price.
fn idle_program(hook: Hook) -> OwnedFd {
    /// `bpf_attr` of `BPF_PROG_LOAD`.
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        licence: u64,
        log: [u32; 4],
        version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        hook: u32,
    }
    // r0 = 1; exit
    let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let mut request = Load {
        kind: 8,
        count: 2,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        licence: c"GPL".as_ptr().expose_provenance() as u64,
        hook: hook as u32,
        ..Load::default()
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the pointers are to live data; on success the kernel gives a descriptor that nobody else owns.
    unsafe {
        OwnedFd::from_raw_fd(bpf::bpf(5, &mut request).unwrap())
    }
}

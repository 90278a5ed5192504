//! The origin: records what arrives, and says the answers that are to be tried, byte for byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use lab::ns::Ns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::plan::{Arrived, Board, FIRST_PORT, QUIET, SLOTS, tag};
use super::wire::{self, MENDED, Message, RELAYED, STRICT, Stop};

/// The running origin; it ends on drop, and its connections with it.
pub(super) struct Origin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    pub(super) fn start(ns: &Ns, board: &Arc<Board>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let board = Arc::clone(board);
        let thread = ns.thread("corpus-origin", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for port in FIRST_PORT..FIRST_PORT + SLOTS {
                    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await;
                    match listener {
                        Ok(listener) => drop(tokio::spawn(accept(listener, port, Arc::clone(&board)))),
                        Err(error) => return ready.send(Err(error)).unwrap(),
                    }
                }
                ready.send(Ok(())).unwrap();
                let _ = stopped.await;
            });
        })?;
        started.recv().context("the origin's thread has ended")??;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, port: u16, board: Arc<Board>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, port, Arc::clone(&board)));
    }
}

async fn serve(mut stream: TcpStream, port: u16, board: Arc<Board>) {
    let mut input = Vec::new();
    // Of the last request: what comes behind it untagged may be its own doing.
    let mut last = None;
    loop {
        let reading = wire::requests(&input, RELAYED);
        if let Some(request) = reading.whole.into_iter().next() {
            input.drain(..request.length);
            let owner = board.owner(&request.line[1], port);
            last = owner.or(last);
            let Some(number) = owner else { return };
            board.exchanges[number].arrived.lock().unwrap().push(Arrived::Whole(request.clone()));
            if !answer(&mut stream, &board, number, &request).await {
                return;
            }
            continue;
        }
        if matches!(reading.stop, Stop::Invalid(_)) {
            nonsense(&board, port, last, input, reading.part, reading.stop);
            return;
        }
        match stream.read_buf(&mut input).await {
            Ok(1..) => {}
            Ok(0) | Err(_) if input.is_empty() => return,
            Ok(0) | Err(_) => return nonsense(&board, port, last, input, reading.part, reading.stop),
        }
    }
}

/// Notes what is no whole request.
fn nonsense(
    board: &Board,
    port: u16,
    last: Option<usize>,
    input: Vec<u8>,
    part: Option<Message>,
    stop: Stop,
) {
    let of_head = part.as_ref().and_then(|part| board.owner(&part.line[1], port));
    let Some(number) = of_head.or(last).or_else(|| board.playing(port)) else { return };
    let arrived = match part {
        Some(part) if stop == Stop::Incomplete => Arrived::Part(part),
        _ => Arrived::Nonsense(input, stop),
    };
    board.exchanges[number].arrived.lock().unwrap().push(arrived);
}

/// Answers a request; false if the connection ends with it.
async fn answer(stream: &mut TcpStream, board: &Board, number: usize, request: &Message) -> bool {
    let part = tag(&request.line[1]).map_or("*", |(_, part)| part);
    let message = board.message(number);
    if message.is_answer && part == "0" {
        return say(stream, board, number).await;
    }
    let is_head = request.line[0] == b"HEAD";
    let content = content(number, part);
    let closes = if part == "m" { "Connection: close\r\n" } else { "" };
    let length = content.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nX-Tag: c{number}/{part}\r\nContent-Length: {length}\r\n{closes}\r\n");
    let out = if is_head { head } else { head + &content };
    stream.write_all(out.as_bytes()).await.is_ok() && closes.is_empty()
}

/// The content of the origin's own answer to a part of an exchange.
pub(super) fn content(number: usize, part: &str) -> String {
    format!("answer to c{number}/{part}.")
}

/// Says the answer that is to be tried; false if the connection ends with it.
async fn say(stream: &mut TcpStream, board: &Board, number: usize) -> bool {
    let (exchange, message) = (&board.exchanges[number], board.message(number));
    let written = exchange.way.write(stream, &message.raw, number).await;
    let method = message.method.as_bytes();
    let goes_on = [STRICT, MENDED].into_iter().any(|allowed| {
        let reading = wire::answers(&message.raw, &[method], false, allowed);
        reading.answer().is_some_and(|(answer, is_whole)| is_whole && !answer.closes)
    });
    let goes_on = goes_on && written.is_ok();
    if !goes_on {
        let _ = stream.shutdown().await;
    }
    exchange.is_said.store(true, Ordering::SeqCst);
    if !goes_on {
        return false;
    }
    // To whoever finds no end in it, its end is that of the connection.
    let mut next = [0];
    loop {
        match tokio::time::timeout(QUIET, stream.peek(&mut next)).await {
            Ok(Ok(1..)) => return true,
            Err(_) if exchange.is_answered.load(Ordering::SeqCst) => {}
            _ => return false,
        }
    }
}

//! The client: many connections at a time, each with one message and a marked request behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use lab::gateway::PROXY_PORT;
use lab::net::GATEWAY_V4;
use lab::ns::Ns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

use super::origin::content;
use super::plan::{Board, End, FIRST_PORT, PATIENCE, QUIET, SLOTS, Way, request};
use super::wire::{self, MENDED, RELAYED, STRICT, Stop};

/// So many exchanges that hang are enough to know.
const MANY: usize = 100;

/// Plays all exchanges of the board, from this host; all but those that were left when too many had hung.
pub(super) fn play(ns: &Ns, board: &Arc<Board>) -> Result<()> {
    let board = Arc::clone(board);
    let thread = ns.thread("corpus-client", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let slots: Vec<_> = (FIRST_PORT..FIRST_PORT + SLOTS)
                .map(|port| tokio::spawn(slot(port, Arc::clone(&board), Arc::clone(&next))))
                .collect();
            for slot in slots {
                slot.await.unwrap();
            }
        });
    })?;
    thread.join().map_err(|_| anyhow::anyhow!("the client has panicked"))
}

async fn slot(port: u16, board: Arc<Board>, next: Arc<AtomicUsize>) {
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        // Where everything hangs, no end of it would come.
        if number >= board.exchanges.len() || board.hung().len() > MANY {
            return;
        }
        board.begin(number, port);
        let mut heard = Vec::new();
        let end = if board.message(number).is_answer {
            for_answer(&board, number, port, &mut heard).await
        } else {
            with_request(&board, number, &mut heard).await
        };
        // A gateway that does not take the connection is one that hangs.
        board.end(number, heard, end.unwrap_or(End::Hung));
    }
}

async fn connect() -> std::io::Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(SocketAddr::from((GATEWAY_V4, PROXY_PORT)))).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads once; `None` when nothing comes for so long.
async fn hear(input: &mut OwnedReadHalf, heard: &mut Vec<u8>, patience: Duration) -> Option<usize> {
    timeout(patience, input.read_buf(heard)).await.ok().map(|read| read.unwrap_or(0))
}

/// Whether the answer to the marked request is what was heard last.
fn is_done(heard: &[u8], number: usize) -> bool {
    heard.ends_with(content(number, "m").as_bytes())
}

/// Sends a message and the marked request in one go.
async fn with_request(board: &Board, number: usize, heard: &mut Vec<u8>) -> std::io::Result<End> {
    let bytes = board.sent(number);
    let way = board.exchanges[number].way;
    // Whoever finds no end in it gets one once nothing moves; later, if there is an end for those who mend it.
    let ends = |allowed| matches!(wire::requests(&bytes, allowed).stop, Stop::End | Stop::Closes);
    let (is_strict, is_mended) = (ends(STRICT), ends(MENDED));
    let has_end = is_strict && is_mended;
    let quiet = if is_strict || is_mended { 10 * QUIET } else { QUIET };
    let (mut input, mut output) = connect().await?.into_split();
    let sending = tokio::spawn(async move {
        // The gateway may have heard enough before it is all sent.
        let _ = way.write(&mut output, &bytes, number).await;
        output
    });
    let mut patience = PATIENCE;
    let mut output = None;
    let mut sending = Some(sending);
    loop {
        if let Some(task) = sending.take_if(|task| task.is_finished()) {
            output = task.await.ok();
            patience = if has_end { PATIENCE } else { quiet };
        } else if sending.is_some() {
            patience = QUIET;
        }
        match hear(&mut input, heard, patience).await {
            Some(0) => return Ok(End::Closed),
            Some(_) if is_done(heard, number) => return Ok(End::Answered),
            Some(_) => {}
            None if sending.is_some() => {}
            None => match output.take() {
                Some(mut output) if !has_end => {
                    let _ = output.shutdown().await;
                    patience = PATIENCE;
                }
                _ => return Ok(End::Hung),
            },
        }
    }
}

/// Asks for the message, and sends the marked request once it is there.
async fn for_answer(board: &Board, number: usize, port: u16, heard: &mut Vec<u8>) -> std::io::Result<End> {
    let (exchange, message) = (&board.exchanges[number], board.message(number));
    let (mut input, mut output) = connect().await?.into_split();
    output.write_all(&request(&message.method, number, "0", port)).await?;
    loop {
        match hear(&mut input, heard, PATIENCE).await {
            Some(0) => return Ok(End::Closed),
            Some(_) => {}
            None => return Ok(End::Hung),
        }
        let reading = wire::answers(heard, &[message.method.as_bytes()], false, RELAYED);
        if let Some((answer, true)) = reading.answer() {
            exchange.is_answered.store(true, Ordering::SeqCst);
            if answer.closes {
                break;
            }
            // What the origin says more must have been said before the next request goes out: after that, nobody could tell.
            let said = async {
                while !exchange.is_said.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = timeout(PATIENCE, said).await;
            let marked = request("GET", number, "m", port);
            if Way::Whole.write(&mut output, &marked, number).await.is_err() {
                return Ok(End::Closed);
            }
            break;
        }
    }
    loop {
        match hear(&mut input, heard, PATIENCE).await {
            Some(0) => return Ok(End::Closed),
            Some(_) if is_done(heard, number) => return Ok(End::Answered),
            Some(_) => {}
            None => return Ok(End::Hung),
        }
    }
}

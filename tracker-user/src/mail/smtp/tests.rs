//! Against servers that say what they are told to: what real ones do is tested end to end.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::threads::Size;

/// A server on this host that says each of `lines` in turn: the first at once, the others each after a line that it has read.
/// What it has read.
async fn server(lines: &'static [&'static str]) -> (Server, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        let mut read = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                let mut line = String::new();
                if socket.read_line(&mut line).await.unwrap() == 0 {
                    break;
                }
                read.push(line.trim_end().to_owned());
            }
            if socket.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
        read
    });
    (Server::parse(&format!("smtp://{address}"), None).unwrap(), task)
}

fn threads() -> Threads {
    Threads::start("test", Size { least: 1, most: 1, queue: 1 }).unwrap()
}

#[tokio::test]
async fn a_mail_is_handed_over_and_what_is_not_taken_is_told() {
    let lines = &[
        "220 mail.test\r\n",
        "250-mail.test\r\n250 PIPELINING\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go on\r\n",
        "",
        "",
        "",
        "250 taken\r\n",
        "250 ok\r\n",
        "550 5.1.1 nobody\r\n",
        "250 reset\r\n",
        "451 later\r\n",
        "250 reset\r\n",
        "530 first log in\r\n",
        "221 bye\r\n",
    ];
    let (server, said) = server(lines).await;
    let mut conversation = open(&server, "gw.test", &threads()).await.unwrap();
    let mail = "Subject: x\r\n\r\ntext\r\n";
    assert_eq!(conversation.hand_over("g@a.test", "b@a.test", mail).await, Ok(()));
    let refused = conversation.hand_over("g@a.test", "c@a.test", mail).await;
    assert!(
        matches!(&refused, Err(Failure::Refused(why)) if why.ends_with("says: 550 5.1.1 nobody")),
        "{refused:?}"
    );
    assert!(matches!(conversation.hand_over("g@a.test", "d@a.test", mail).await, Err(Failure::Later(_))));
    let unusable = conversation.hand_over("g@a.test", "e@a.test", mail).await;
    assert!(
        matches!(&unusable, Err(Failure::Unusable(why)) if why.contains("mail.password-file")),
        "{unusable:?}"
    );
    conversation.close().await;
    let said = said.await.unwrap();
    let expected = [
        "EHLO gw.test",
        "MAIL FROM:<g@a.test>",
        "RCPT TO:<b@a.test>",
        "DATA",
        "Subject: x",
        "",
        "text",
        ".",
        "MAIL FROM:<g@a.test>",
        "RCPT TO:<c@a.test>",
        "RSET",
        "MAIL FROM:<g@a.test>",
        "RSET",
        "MAIL FROM:<g@a.test>",
        "QUIT",
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_server_that_cannot_be_talked_to_is_told_of() {
    for (lines, is_unusable) in [
        (&["554 no\r\n"][..], true),
        (&["421 busy\r\n"], false),
        (&["220 hello\r\n", "502 what?\r\n"], true),
        (&["HTTP/1.1 400 Bad Request\r\n"], false),
        (&[""], false),
    ] {
        let (server, _said) = server(lines).await;
        let failure = open(&server, "gw.test", &threads()).await.err().unwrap();
        assert_eq!(matches!(failure, Failure::Unusable(_)), is_unusable, "{lines:?}: {failure}");
    }
    let nobody = Server::parse("smtp://127.0.0.1:1", None).unwrap();
    assert!(matches!(open(&nobody, "gw.test", &threads()).await, Err(Failure::Unreachable(_))));
    let nameless = Server { user: Some("gw".into()), ..nobody };
    assert!(matches!(open(&nameless, "gw.test", &threads()).await, Err(Failure::Unusable(_))));
}

#[tokio::test]
async fn what_came_before_tls_does_not_count_after_it() {
    let (server, _said) = server(&["220 ready\r\n250-injected\r\n"]).await;
    let mut conversation = Conversation {
        stream: Box::new(TcpStream::connect((server.host.as_str(), server.port)).await.unwrap()),
        read: Vec::new(),
        server: server.to_string(),
        is_secure: false,
        abilities: Vec::new(),
    };
    let failure = conversation.start_tls(&server, None, "gw.test").await.err().unwrap();
    assert!(matches!(&failure, Failure::Unusable(why) if why.contains("more than its answer")), "{failure}");
}

#[tokio::test]
async fn a_password_is_sent_by_plain_or_login_and_never_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    for (lines, said, outcome) in [
        (
            &["220 x\r\n", "250-x\r\n250 AUTH LOGIN PLAIN\r\n", "235 ok\r\n"][..],
            &["AUTH PLAIN AGd3AHNlY3JldA=="][..],
            Ok(()),
        ),
        (
            &[
                "220 x\r\n",
                "250-x\r\n250 AUTH=LOGIN\r\n",
                "334 VXNlcm5hbWU6\r\n",
                "334 UGFzc3dvcmQ6\r\n",
                "235 ok\r\n",
            ],
            &["AUTH LOGIN", "Z3c=", "c2VjcmV0"],
            Ok(()),
        ),
        (
            &["220 x\r\n", "250-x\r\n250 AUTH PLAIN\r\n", "535 no: AGd3AHNlY3JldA== secret\r\n"],
            &["AUTH PLAIN AGd3AHNlY3JldA=="],
            Err("(535)"),
        ),
        (&["220 x\r\n", "250-x\r\n250 AUTH CRAM-MD5\r\n"], &[], Err("by PLAIN or LOGIN")),
        (&["220 x\r\n", "250 x\r\n"], &[], Err("by PLAIN or LOGIN")),
    ] {
        let (mut server, task) = server(lines).await;
        (server.user, server.password_file) = (Some("gw".into()), Some(file.clone()));
        let opened = open(&server, "gw.test", &threads()).await.map(drop);
        match (opened, outcome) {
            (Ok(()), Ok(())) => {}
            (Err(Failure::Unusable(why)), Err(word)) => {
                assert!(why.contains(word) && !why.contains("secret") && !why.contains("AGd3"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(task.await.unwrap().get(1..).unwrap(), said);
    }
}

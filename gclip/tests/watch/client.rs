// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who asks `gclip watch` over HTTP, one connection a question.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::PATIENCE;
use super::openapi;

pub struct Browser {
    pub port: u16,
    /// Further lines of the head, each with its end.
    pub head: String,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// `None` if that has no head.
    pub fn read(answer: &[u8]) -> Option<Reply> {
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Reply { status, head, body: answer[end + 4..].to_vec() })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The sentence that says why not.
    #[track_caller]
    pub fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()["error"].as_str().unwrap().to_string()
    }
}

impl Browser {
    pub fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> Reply {
        self.try_ask(method, path, more, body).expect("an answer has a head")
    }

    /// `None`: the connection ended without an answer.
    pub fn try_ask(&self, method: &str, path: &str, more: &str, body: &str) -> Option<Reply> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = if more.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let question = format!(
            "{method} {path} HTTP/1.1\r\n{host}{}{more}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.head,
            body.len()
        );
        // Who refuses need not hear all of it, and may close at once.
        let _ = stream.write_all(question.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let reply = Reply::read(&answer)?;
        openapi::check(method, path, &reply);
        Some(reply)
    }

    pub fn try_get(&self, path: &str) -> Option<Reply> {
        self.try_ask("GET", path, "", "")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "")
    }

    pub fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        self.ask(method, path, "Content-Type: application/json\r\n", &body.to_string())
    }

    #[track_caller]
    pub fn works(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.send(method, path, body);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    /// Looks until something is so.
    #[track_caller]
    pub fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            // The program may not listen yet.
            let reply = self.try_get(path);
            if let Some(reply) = &reply
                && reply.status == 200
                && wanted(&reply.json())
            {
                return reply.json();
            }
            let last = reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
            assert!(start.elapsed() < PATIENCE, "{what}: {last:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Server-sent events, as they come.
pub struct Listener {
    stream: TcpStream,
    told: String,
}

impl Browser {
    pub fn listen(&self, path: &str) -> Listener {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let question = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", self.head);
        stream.write_all(question.as_bytes()).unwrap();
        Listener { stream, told: String::new() }
    }
}

impl Listener {
    /// The answer without what is told.
    pub fn head(mut self) -> Reply {
        let told = self.until("\r\n\r\n").as_bytes().to_vec();
        Reply::read(&told).unwrap()
    }

    /// Waits until this has been told; returns all that has.
    #[track_caller]
    pub fn until(&mut self, what: &str) -> &str {
        while !self.told.contains(what) {
            let mut bytes = [0; 4096];
            let length = self.stream.read(&mut bytes).unwrap();
            assert!(length > 0, "{}", self.told);
            self.told.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        &self.told
    }
}

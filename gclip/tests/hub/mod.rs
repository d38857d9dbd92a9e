// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Hugging Face hub small enough for a test: listing, conversion requests, files with ranges, and faults.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::Digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONVERTED: &str = "refs/pr/7";

#[derive(Clone, Copy)]
pub enum Fault {
    /// The connection ends after this many bytes of an answer, for the first `times` answers.
    Cut {
        after: usize,
        times: usize,
    },
    FlipLastByte,
    TooLong,
}

#[derive(Default)]
pub struct FakeHub {
    /// Revision and name -> contents, and whether it is a large file (hashed with SHA-256).
    files: Vec<(String, String, Vec<u8>, bool)>,
    faults: HashMap<String, Fault>,
    ignores_ranges: bool,
    lists_names_only: bool,
    token: Option<String>,
    address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone)]
struct Request {
    path: String,
    range: Option<String>,
}

pub fn sha256(contents: &[u8]) -> String {
    hex(&sha2::Sha256::digest(contents))
}

fn git_hash(contents: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", contents.len()));
    hasher.update(contents);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FakeHub {
    pub fn new() -> FakeHub {
        FakeHub::default()
    }

    pub fn file(self, name: &str, contents: &[u8]) -> FakeHub {
        self.add("main", name, contents, false)
    }

    pub fn large_file(self, name: &str, contents: &[u8]) -> FakeHub {
        self.add("main", name, contents, true)
    }

    /// A file that only the hub's own conversion request has.
    pub fn converted_file(self, name: &str, contents: &[u8]) -> FakeHub {
        self.add(CONVERTED, name, contents, true)
    }

    fn add(mut self, revision: &str, name: &str, contents: &[u8], large: bool) -> FakeHub {
        self.files.push((revision.into(), name.into(), contents.into(), large));
        self
    }

    pub fn fault(mut self, name: &str, fault: Fault) -> FakeHub {
        self.faults.insert(name.into(), fault);
        self
    }

    pub fn without_ranges(mut self) -> FakeHub {
        self.ignores_ranges = true;
        self
    }

    /// As some mirrors: hashes only in the headers of the files, and only before the redirect to their storage.
    pub fn without_hashes(mut self) -> FakeHub {
        self.lists_names_only = true;
        self
    }

    pub fn token(mut self, token: &str) -> FakeHub {
        self.token = Some(token.into());
        self
    }

    /// Serves from now on, on a thread that ends with the test process.
    pub fn start(mut self) -> Arc<FakeHub> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.address = format!("http://{}", listener.local_addr().unwrap());
        let hub = Arc::new(self);
        let serving = hub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serving.serve(stream);
            }
        });
        hub
    }

    pub fn endpoint(&self) -> String {
        self.address.clone()
    }

    pub fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub fn downloads(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|request| request.path.contains("/resolve/")).map(|r| r.path.clone()).collect()
    }

    /// The Range header of every request for a file.
    pub fn ranges_of(&self, name: &str) -> Vec<Option<String>> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|request| request.path.ends_with(name)).map(|r| r.range.clone()).collect()
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: HashMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.into())))
            .collect();
        let target = first.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().replace("%2F", "/");
        let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")).map(str::to_string);
        self.log.lock().unwrap().push(Request { path: path.clone(), range: range.clone() });

        let expected = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if expected.is_some() && headers.get("authorization") != expected.as_ref() {
            return answer(&mut stream, "401 Unauthorized", b"no");
        }
        if let Some(rest) = path.strip_prefix("/api/models/owner/tiny-clip/") {
            match rest.strip_prefix("revision/") {
                Some(revision) => self.list(&mut stream, revision),
                None => self.discussions(&mut stream),
            }
        } else if let Some(rest) = path.strip_prefix("/owner/tiny-clip/resolve/") {
            match first.starts_with("HEAD ") {
                true => self.head_answer(&mut stream, rest),
                false => self.file_answer(&mut stream, rest, range),
            }
        } else {
            answer(&mut stream, "404 Not Found", b"nothing here");
        }
    }

    fn list(&self, stream: &mut TcpStream, revision: &str) {
        let files: Vec<_> = self.files.iter().filter(|file| file.0 == revision).collect();
        if files.is_empty() {
            return answer(stream, "404 Not Found", b"no such revision");
        }
        let siblings: Vec<_> = files
            .iter()
            .map(|(_, name, contents, large)| {
                let mut json = serde_json::json!({
                    "rfilename": name, "size": contents.len(), "blobId": git_hash(contents)
                });
                if self.lists_names_only {
                    json = serde_json::json!({"rfilename": name});
                } else if *large {
                    json["lfs"] = serde_json::json!({"sha256": sha256(contents), "size": contents.len()});
                }
                json
            })
            .collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        answer(stream, "200 OK", body.as_bytes());
    }

    fn discussions(&self, stream: &mut TcpStream) {
        let mut found = vec![serde_json::json!({"num": 1, "title": "Hello", "author": {"name": "someone"}})];
        if self.files.iter().any(|file| file.0 == CONVERTED) {
            found.push(serde_json::json!({
                "num": 7, "title": "Adding `safetensors` variant of this model", "author": {"name": "SFconvertbot"}
            }));
        }
        let body = serde_json::json!({"discussions": found}).to_string();
        answer(stream, "200 OK", body.as_bytes());
    }

    fn head_answer(&self, stream: &mut TcpStream, rest: &str) {
        let file = self.files.iter().find(|(revision, name, ..)| rest == format!("{revision}/{name}"));
        let Some((.., contents, large)) = file else { return answer(stream, "404 Not Found", b"") };
        let head = match large {
            true => {
                format!("HTTP/1.1 302 Found\r\nLocation: /storage\r\nX-Linked-Etag: \"{}\"", sha256(contents))
            }
            false => format!("HTTP/1.1 200 OK\r\nETag: \"{}\"", git_hash(contents)),
        };
        let _ =
            stream.write_all(format!("{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
    }

    fn file_answer(&self, stream: &mut TcpStream, rest: &str, range: Option<String>) {
        let Some((_, name, contents, _)) =
            self.files.iter().find(|(revision, name, ..)| rest == format!("{revision}/{name}"))
        else {
            return answer(stream, "404 Not Found", b"no such file");
        };
        let mut contents = contents.clone();
        let fault = self.faults.get(name).copied();
        match fault {
            Some(Fault::FlipLastByte) => *contents.last_mut().unwrap() ^= 1,
            Some(Fault::TooLong) => contents.extend_from_slice(b"more"),
            _ => {}
        }
        let range = range.filter(|_| !self.ignores_ranges);
        let start: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let body = &contents[start..];
        let content_range = format!("Content-Range: bytes {start}-{}/{}", contents.len() - 1, contents.len());
        let (status, headers) =
            if start > 0 { ("206 Partial Content", vec![content_range]) } else { ("200 OK", vec![]) };
        let sent = match fault {
            Some(Fault::Cut { after, times }) if self.ranges_of(name).len() <= times => &body[..after],
            _ => body,
        };
        let mut head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
        for header in headers {
            head += &format!("{header}\r\n");
        }
        // The reader may hang up early (a file that is too long): no failure of the test.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"\r\n"));
        let _ = stream.write_all(sent);
    }
}

fn answer(stream: &mut TcpStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! An object store in this process, which speaks as much S3 as is needed to put objects, whole and in pieces. It checks
//! no signatures, and refuses when it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
pub struct S3(Arc<State>);

#[derive(Default)]
struct State {
    port: Mutex<u16>,
    /// `BUCKET/NAME`, as they were put.
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Of uploads that are not complete, by upload and number.
    pieces: Mutex<BTreeMap<(String, u32), Vec<u8>>>,
    uploads: AtomicUsize,
    refuses: AtomicBool,
    /// Objects that were put in the place of another one.
    replaced: AtomicUsize,
}

impl S3 {
    pub fn start() -> S3 {
        let store = S3::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        *store.0.port.lock().unwrap() = listener.local_addr().unwrap().port();
        let serving = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = serving.clone();
                std::thread::spawn(move || store.serve(stream));
            }
        });
        store
    }

    /// What a client reads in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.0.port.lock().unwrap())),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test-secret".into()),
        ]
    }

    pub fn refuse(&self, refuses: bool) {
        self.0.refuses.store(refuses, Ordering::SeqCst);
    }

    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.objects.lock().unwrap().clone()
    }

    /// How many came in pieces.
    pub fn uploads(&self) -> usize {
        self.0.uploads.load(Ordering::SeqCst)
    }

    pub fn replaced(&self) -> usize {
        self.0.replaced.load(Ordering::SeqCst)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut from = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let mut words = line.split_whitespace();
            let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
            let mut length = 0;
            loop {
                let mut header = String::new();
                from.read_line(&mut header).ok()?;
                if header.trim().is_empty() {
                    break;
                }
                let (name, value) = header.split_once(':')?;
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            from.read_exact(&mut body).ok()?;
            let (status, headers, answer) = self.answer(&method, &target, body);
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{answer}", answer.len())
                .ok()?;
        }
    }

    fn answer(&self, method: &str, target: &str, body: Vec<u8>) -> (&'static str, String, String) {
        let none = String::new;
        if self.0.refuses.load(Ordering::SeqCst) {
            let why = "<Error><Code>AccessDenied</Code><Message>Not for you</Message></Error>";
            return ("403 Forbidden", none(), why.into());
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let name = path.trim_start_matches('/').to_string();
        let asked = |key: &str| {
            query.split('&').find_map(|part| Some(part.strip_prefix(key)?.strip_prefix('=')?.to_string()))
        };
        let tag = || "ETag: \"0\"\r\n".to_string();
        match (method, asked("uploadId")) {
            ("PUT", Some(upload)) => {
                let number = asked("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
                self.0.pieces.lock().unwrap().insert((upload, number), body);
                ("200 OK", tag(), none())
            }
            ("PUT", None) => {
                self.keep(name, body);
                ("200 OK", tag(), none())
            }
            ("POST", None) if query == "delete" => {
                let asked = String::from_utf8_lossy(&body).into_owned();
                let keys = asked.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next());
                let bucket = name.split('/').next().unwrap_or_default();
                for key in keys {
                    self.0.objects.lock().unwrap().remove(&format!("{bucket}/{key}"));
                }
                ("200 OK", none(), "<DeleteResult></DeleteResult>".into())
            }
            ("POST", None) => {
                let number = self.0.uploads.fetch_add(1, Ordering::SeqCst);
                let answer = format!(
                    "<InitiateMultipartUploadResult><UploadId>u{number}</UploadId></InitiateMultipartUploadResult>"
                );
                ("200 OK", none(), answer)
            }
            ("POST", Some(upload)) => {
                let mut pieces = self.0.pieces.lock().unwrap();
                let own: Vec<(String, u32)> =
                    pieces.keys().filter(|(of, _)| *of == upload).cloned().collect();
                let whole = own.iter().flat_map(|key| pieces.remove(key).unwrap()).collect();
                self.keep(name, whole);
                let answer =
                    "<CompleteMultipartUploadResult><ETag>\"0\"</ETag></CompleteMultipartUploadResult>";
                ("200 OK", none(), answer.into())
            }
            ("DELETE", _) => {
                self.0.objects.lock().unwrap().remove(&name);
                ("204 No Content", none(), none())
            }
            _ => ("404 Not Found", none(), none()),
        }
    }

    fn keep(&self, name: String, body: Vec<u8>) {
        if self.0.objects.lock().unwrap().insert(name, body).is_some() {
            self.0.replaced.fetch_add(1, Ordering::SeqCst);
        }
    }
}

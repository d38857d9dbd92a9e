// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ONVIF device with two streams: answers probes and SOAP as a camera does, checks the digest, and misbehaves on wish.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha1::{Digest, Sha1};

/// WS-Discovery's group; each test has a port of its own, as tests run beside each other.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const USER: &str = "me";
const PASSWORD: &str = "s3cret & more";
/// A token's time may be this far from the device's, in seconds.
const TOLERANCE: i64 = 300;

#[derive(Clone)]
pub struct Manner {
    pub name: &'static str,
    /// Wants user and password, but for the time.
    pub login: bool,
    /// Seconds that its clock is behind.
    pub behind: i64,
    /// To each probe.
    pub answers: usize,
    /// Answers to probes are none.
    pub nonsense: bool,
    /// How it answers questions; `""`: properly.
    pub fault: &'static str,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { name: "camera", login: false, behind: 0, answers: 1, nonsense: false, fault: "" }
    }
}

#[derive(Default)]
struct Counts {
    probes: AtomicUsize,
    refusals: AtomicUsize,
}

pub struct Device {
    pub endpoint: String,
    /// Of its services.
    pub port: u16,
    /// At which it is asked who it is, by itself.
    pub udp: u16,
    counts: Arc<Counts>,
}

/// The group at a port at which nobody listens.
pub fn free_group() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    format!("{GROUP}:{}", socket.local_addr().unwrap().port())
}

impl Device {
    pub fn start(group: &str, manner: Manner) -> Device {
        let group: SocketAddr = group.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = format!("urn:uuid:00000000-0000-4000-8000-0000000{port:05}");
        let counts = Arc::new(Counts::default());
        let device = Arc::new(Served { manner, port, endpoint: endpoint.clone(), counts: counts.clone() });

        let shared = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        shared.set_reuse_address(true).unwrap();
        shared.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, group.port())).into()).unwrap();
        shared.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST).unwrap();
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp = own.local_addr().unwrap().port();
        for socket in [shared.into(), own] {
            let device = device.clone();
            std::thread::spawn(move || device.answer_probes(&socket));
        }
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let device = device.clone();
                std::thread::spawn(move || device.answer(stream));
            }
        });
        Device { endpoint, port, udp, counts }
    }

    pub fn probes(&mut self) -> usize {
        self.counts.probes.load(Ordering::SeqCst)
    }

    /// Questions with a wrong token.
    pub fn refusals(&mut self) -> usize {
        self.counts.refusals.load(Ordering::SeqCst)
    }
}

struct Served {
    manner: Manner,
    port: u16,
    endpoint: String,
    counts: Arc<Counts>,
}

impl Served {
    fn answer_probes(&self, socket: &UdpSocket) {
        let mut bytes = [0; 8192];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            self.counts.probes.fetch_add(1, Ordering::SeqCst);
            if self.manner.nonsense {
                let other = self.probe_match("urn:uuid:somebody-else");
                for answer in [&b"\xff\x00<"[..], b"", b"<Envelope><Body><Probe", other.as_bytes()] {
                    socket.send_to(answer, from).unwrap();
                }
                continue;
            }
            // Some do not answer who asks for devices of any kind.
            if !text.contains(":NetworkVideoTransmitter") {
                continue;
            }
            let id = between(&text, "<a:MessageID>", "</a:MessageID>").expect("a probe has an id");
            for _ in 0..self.manner.answers {
                socket.send_to(self.probe_match(id).as_bytes(), from).unwrap();
            }
        }
    }

    fn probe_match(&self, id: &str) -> String {
        let (endpoint, port, name) = (&self.endpoint, self.port, self.manner.name.replace(' ', "%20"));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SOAP-ENV:Envelope xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:wsa=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\">\
             <SOAP-ENV:Header><wsa:RelatesTo>{id}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch>\
             <wsa:EndpointReference><wsa:Address>{endpoint}</wsa:Address></wsa:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types>\
             <d:Scopes>onvif://www.onvif.org/hardware/X-1 onvif://www.onvif.org/name/{name}</d:Scopes>\
             <d:XAddrs>http://192.0.2.1/onvif/device_service http://127.0.0.1:{port}/onvif/device_service</d:XAddrs>\
             </d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"
        )
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(question) = question(&mut reader) {
            if self.reply(&stream, &question).is_err() {
                return;
            }
        }
    }

    fn reply(&self, mut stream: &TcpStream, question: &str) -> std::io::Result<()> {
        match self.manner.fault {
            "silent" => std::thread::sleep(Duration::from_secs(600)),
            "endless" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<a>")?;
                loop {
                    stream.write_all(&[b'x'; 4096])?;
                }
            }
            "slow" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
                loop {
                    stream.write_all(b" ")?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            "broken" => return send(stream, "200 OK", "", "<s:Envelope><s:Body>"),
            "bomb" => return send(stream, "200 OK", "", &"<a>".repeat(10_000)),
            "500" => return send(stream, "500 Internal Server Error", "", "oops"),
            "fault" => {
                let reason = "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text>the moon is full</s:Text>\
                              </s:Reason></s:Fault>";
                return send(stream, "500 Internal Server Error", "", &envelope(reason));
            }
            "digest" => {
                return send(
                    stream,
                    "401 Unauthorized",
                    "WWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\n",
                    "",
                );
            }
            "elsewhere" => return send(stream, "302 Found", "Location: http://192.0.2.1/\r\n", ""),
            _ => {}
        }
        let open = question.contains("GetSystemDateAndTime");
        if self.manner.login && !open && !self.is_allowed(question) {
            if question.contains("UsernameToken") {
                self.counts.refusals.fetch_add(1, Ordering::SeqCst);
            }
            let fault = "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value></s:Subcode>\
                         </s:Code><s:Reason><s:Text>no</s:Text></s:Reason></s:Fault>";
            return send(stream, "400 Bad Request", "", &envelope(fault));
        }
        send(stream, "200 OK", "", &envelope(&self.body(question)))
    }

    fn body(&self, question: &str) -> String {
        if question.contains("GetSystemDateAndTime") {
            return time(now() - self.manner.behind);
        }
        if question.contains("GetCapabilities") {
            // Its own idea of its address is wrong.
            return "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>http://192.0.2.1/onvif/Media</tt:XAddr>\
                    </tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>"
                .into();
        }
        if question.contains("GetProfiles") {
            let profile = |token: &str, (width, height), fps| {
                format!(
                    "<trt:Profiles token=\"{token}\" fixed=\"true\"><tt:Name>n</tt:Name><tt:VideoEncoderConfiguration token=\"e\">\
                     <tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height>\
                     </tt:Resolution><tt:RateControl><tt:FrameRateLimit>{fps}</tt:FrameRateLimit></tt:RateControl>\
                     </tt:VideoEncoderConfiguration></trt:Profiles>"
                )
            };
            let streams = match self.manner.fault {
                "empty" => "<trt:Profiles token=\"sound\"/>".into(),
                _ => profile("sub&amp;1", (640, 360), 15) + &profile("main&amp;0", (2560, 1440), 25),
            };
            return format!("<trt:GetProfilesResponse>{streams}</trt:GetProfilesResponse>");
        }
        let token = between(question, "<ProfileToken>", "</ProfileToken>").expect("which profile");
        let number = token
            .strip_prefix("sub&amp;")
            .or(token.strip_prefix("main&amp;"))
            .expect("a token as it was told");
        let scheme = if self.manner.fault == "http" { "http" } else { "rtsp" };
        format!(
            "<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{scheme}://127.0.0.1:554/stream?channel=1&amp;subtype={number}</tt:Uri>\
             </trt:MediaUri></trt:GetStreamUriResponse>"
        )
    }

    /// Whether the digest is that of the password, and the token new.
    fn is_allowed(&self, question: &str) -> bool {
        let field = |name: &str| {
            let rest = &question[question.find(&format!(":{name}"))?..];
            between(rest, ">", "<").map(str::to_string)
        };
        let (Some(user), Some(digest), Some(nonce), Some(created)) =
            (field("Username>"), field("Password "), field("Nonce "), field("Created>"))
        else {
            return false;
        };
        let sum = Sha1::new()
            .chain_update(BASE64_STANDARD.decode(nonce).unwrap())
            .chain_update(&created)
            .chain_update(PASSWORD)
            .finalize();
        let age = (now() - self.manner.behind) - seconds(&created);
        user == USER && BASE64_STANDARD.encode(sum) == digest && age.abs() < TOLERANCE
    }
}

/// The body of the next request; `None` at the end.
fn question(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn send(mut stream: &TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/soap+xml\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"s\" xmlns:tt=\"tt\" xmlns:trt=\"trt\" xmlns:tds=\"tds\" xmlns:ter=\"ter\">\
         <s:Header/><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(inside, _)| inside)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// `2026-11-29T11:00:00Z` in seconds since 1970.
fn seconds(text: &str) -> i64 {
    glib::DateTime::from_iso8601(text, None).unwrap().to_unix()
}

fn time(seconds: i64) -> String {
    let time = glib::DateTime::from_unix_utc(seconds).unwrap();
    let inside = time.format(
        "<tt:UTCDateTime><tt:Time><tt:Hour>%H</tt:Hour><tt:Minute>%M</tt:Minute><tt:Second>%S</tt:Second></tt:Time>\
         <tt:Date><tt:Year>%Y</tt:Year><tt:Month>%m</tt:Month><tt:Day>%d</tt:Day></tt:Date></tt:UTCDateTime>",
    );
    format!(
        "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime>{}</tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>",
        inside.unwrap()
    )
}

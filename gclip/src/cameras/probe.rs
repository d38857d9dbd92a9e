// SPDX-License-Identifier: MIT OR Apache-2.0
//! WS-Discovery: asks everybody in the network who is a camera, by UDP to one multicast address, and gathers the answers.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use socket2::SockRef;
use url::Url;

use super::xml::Node;
use crate::random;

/// What cameras are in ONVIF's words; some answer to the one only, some to the other.
const KINDS: [&str; 2] = [
    "<d:Types xmlns:n=\"http://www.onvif.org/ver10/network/wsdl\">n:NetworkVideoTransmitter</d:Types>",
    "<d:Types xmlns:n=\"http://www.onvif.org/ver10/device/wsdl\">n:Device</d:Types>",
];
/// UDP loses packets: each question is asked this often, with this much time between.
const TIMES: u32 = 2;
const BETWEEN: Duration = Duration::from_millis(150);
/// More are not looked at.
const MOST_DEVICES: usize = 1000;
const MOST_ANSWERS: usize = 20_000;
/// Addresses of one device.
const MOST_ADDRESSES: usize = 8;

/// Who has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its name for ever, such as `urn:uuid:...`.
    pub endpoint: String,
    /// Of its device service, the one most likely to be reached first.
    pub addresses: Vec<Url>,
    /// What it says of itself; from strangers.
    pub name: Option<String>,
    pub hardware: Option<String>,
}

/// Whom to ask, and from where.
pub struct Question {
    pub to: SocketAddr,
    /// Addresses of this machine whose networks are asked; without any, the one that the system takes.
    pub from: Vec<Ipv4Addr>,
    pub wait: Duration,
}

impl Question {
    /// Everybody who answers in time, each once, in the order of their addresses.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub fn ask(&self) -> Result<Vec<Device>> {
        let (devices, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let interfaces = match self.from.as_slice() {
            [] => &[Ipv4Addr::UNSPECIFIED],
            some => some,
        };
        std::thread::scope(|scope| {
            for own in interfaces {
                let (devices, failures) = (&devices, &failures);
                scope.spawn(move || {
                    if let Err(error) = self.ask_from(*own, devices) {
                        failures.lock().push(error);
                    }
                });
            }
        });
        let mut failures = failures.into_inner();
        // A machine has interfaces that lead nowhere.
        if failures.len() == interfaces.len()
            && let Some(error) = failures.pop()
        {
            return Err(error.context(format!("cannot ask at {}", self.to)));
        }
        let mut devices = devices.into_inner();
        devices.sort_by_key(|device: &Device| device.addresses.first().map(|url| url.to_string()));
        Ok(devices)
    }

    fn ask_from(&self, own: Ipv4Addr, devices: &Mutex<Vec<Device>>) -> Result<()> {
        let own_address: IpAddr =
            if self.to.is_ipv4() { own.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((own_address, 0))?;
        if self.to.ip().is_multicast() && !own.is_unspecified() {
            SockRef::from(&socket).set_multicast_if_v4(&own)?;
        }
        let questions: Vec<(String, String)> = KINDS
            .iter()
            .map(|kind| random::uuid().map(|id| (probe(&id, kind), id)))
            .collect::<Result<_>>()?;
        let end = Instant::now() + self.wait;
        for time in 0..TIMES {
            for (text, _) in &questions {
                socket.send_to(text.as_bytes(), self.to)?;
            }
            let until = if time + 1 == TIMES { end } else { (Instant::now() + BETWEEN).min(end) };
            let known = |id: &str| questions.iter().any(|(_, own)| id.ends_with(own));
            gather(&socket, until, &known, devices)?;
        }
        Ok(())
    }
}

/// Takes what comes in until then.
fn gather(
    socket: &UdpSocket,
    until: Instant,
    is_ours: &dyn Fn(&str) -> bool,
    devices: &Mutex<Vec<Device>>,
) -> Result<()> {
    let mut bytes = vec![0; 1 << 16];
    for _ in 0..MOST_ANSWERS {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut bytes) {
            Ok((length, sender)) => {
                let text = String::from_utf8_lossy(&bytes[..length]);
                // What is no answer is somebody else's business.
                for device in answers(&text, sender.ip(), is_ours).unwrap_or_default() {
                    add(&mut devices.lock(), device);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            // Of a question to one device: nobody listens there. It may come later.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A device answers each question, on each network on which it is asked.
fn add(devices: &mut Vec<Device>, new: Device) {
    let room = devices.len() < MOST_DEVICES;
    // Not by their addresses: many list the one that all of their kind had at first.
    let same = |old: &&mut Device| old.endpoint.eq_ignore_ascii_case(&new.endpoint);
    if let Some(old) = devices.iter_mut().find(same) {
        for address in new.addresses {
            if !old.addresses.contains(&address) && old.addresses.len() < MOST_ADDRESSES {
                old.addresses.push(address);
            }
        }
    } else if room {
        devices.push(new);
    }
}

/// The devices that an answer is about.
///
/// # Errors
/// It is none, or one to somebody else's question.
fn answers(text: &str, sender: IpAddr, is_ours: &dyn Fn(&str) -> bool) -> Result<Vec<Device>> {
    let root = Node::parse(text)?;
    // Where there is no such line the socket's port tells that it is for us.
    let to = root.text_of("RelatesTo");
    ensure!(to.is_none_or(is_ours), "it answers somebody else");
    let matches = root.find("ProbeMatches").context("it is no answer")?;
    Ok(matches.all("ProbeMatch").into_iter().filter_map(|found| device(found, sender)).collect())
}

fn device(found: &Node, sender: IpAddr) -> Option<Device> {
    let written = found.text_of("XAddrs")?.split_whitespace();
    let mut addresses: Vec<Url> =
        written.filter_map(|text| Url::parse(text).ok()).filter(is_service).take(MOST_ADDRESSES).collect();
    // Cameras list addresses that they had once, or have in other networks; and certificates are their own.
    addresses.sort_by_key(|url| (url.host_str() != Some(&sender.to_string()), url.scheme() != "http"));
    addresses.dedup();
    let first = addresses.first()?;
    let endpoint = found.find("EndpointReference").and_then(|reference| reference.text_of("Address"));
    let endpoint = endpoint.unwrap_or(first.as_str()).to_string();
    let scopes = found.text_of("Scopes").unwrap_or_default();
    let (name, hardware) = (scope(scopes, "name"), scope(scopes, "hardware"));
    Some(Device { endpoint, addresses, name, hardware })
}

fn is_service(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
}

/// `onvif://www.onvif.org/name/Front%20door`: "Front door".
fn scope(scopes: &str, kind: &str) -> Option<String> {
    let begin = format!("onvif://www.onvif.org/{kind}/");
    let value = scopes.split_whitespace().find_map(|scope| scope.strip_prefix(begin.as_str()))?;
    let text = percent_decode_str(value).decode_utf8_lossy().trim().to_string();
    Some(text).filter(|text| !text.is_empty())
}

fn probe(id: &str, kind: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"><s:Header>\
         <a:Action s:mustUnderstand=\"1\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
         <a:MessageID>urn:uuid:{id}</a:MessageID>\
         <a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
         <a:To s:mustUnderstand=\"1\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>\
         <s:Body><d:Probe>{kind}</d:Probe></s:Body></s:Envelope>"
    )
}

/// Addresses of this machine in IPv4 networks: all, or of the interfaces that are named by name or address.
///
/// # Errors
/// There is no such interface.
pub fn interfaces(wanted: &[String]) -> Result<Vec<Ipv4Addr>> {
    let all = if_addrs::get_if_addrs().context("cannot list the network interfaces")?;
    let all: Vec<(String, Ipv4Addr)> = all
        .into_iter()
        .filter_map(|interface| match interface.addr.ip() {
            IpAddr::V4(address) => Some((interface.name, address)),
            IpAddr::V6(_) => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(all.into_iter().map(|(_, address)| address).collect());
    }
    let mut chosen = Vec::new();
    for name in wanted {
        let before = chosen.len();
        let fits = |(known, address): &&(String, Ipv4Addr)| known == name || address.to_string() == *name;
        chosen.extend(all.iter().filter(fits).map(|(_, address)| *address));
        ensure!(chosen.len() > before, unknown_interface(name, &all));
    }
    Ok(chosen)
}

fn unknown_interface(name: &str, all: &[(String, Ipv4Addr)]) -> anyhow::Error {
    let known: Vec<String> = all.iter().map(|(name, address)| format!("{name} ({address})")).collect();
    anyhow!("there is no interface {name} with an IPv4 address, only {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(inside: &str) -> String {
        format!(
            "<e:Envelope xmlns:e=\"e\" xmlns:w=\"w\" xmlns:d=\"d\"><e:Header><w:RelatesTo>urn:uuid:ours</w:RelatesTo>\
             </e:Header><e:Body><d:ProbeMatches>{inside}</d:ProbeMatches></e:Body></e:Envelope>"
        )
    }

    fn read(text: &str) -> Result<Vec<Device>> {
        answers(text, "10.0.0.7".parse().unwrap(), &|id| id.ends_with("ours"))
    }

    #[test]
    fn the_address_that_answers_is_tried_first() {
        let inside = "<d:ProbeMatch><w:EndpointReference><w:Address> urn:uuid:1 </w:Address></w:EndpointReference>\
                      <d:Scopes>onvif://www.onvif.org/hardware/X-1 onvif://www.onvif.org/name/Front%20door</d:Scopes>\
                      <d:XAddrs>http://192.168.1.64/x ftp://10.0.0.7/ https://10.0.0.7/x http://10.0.0.7/x nonsense</d:XAddrs>\
                      </d:ProbeMatch>";
        let devices = read(&answer(inside)).unwrap();
        let addresses: Vec<&str> = devices[0].addresses.iter().map(Url::as_str).collect();
        assert_eq!(addresses, ["http://10.0.0.7/x", "https://10.0.0.7/x", "http://192.168.1.64/x"]);
        assert_eq!(devices[0].endpoint, "urn:uuid:1");
        assert_eq!(
            (devices[0].name.as_deref(), devices[0].hardware.as_deref()),
            (Some("Front door"), Some("X-1"))
        );
    }

    #[test]
    fn what_is_no_answer_to_us_tells_nothing() {
        let nowhere = "<d:ProbeMatch><d:XAddrs>file:///etc</d:XAddrs></d:ProbeMatch><d:ProbeMatch/>";
        assert_eq!(read(&answer(nowhere)).unwrap(), []);
        assert!(read(&answer("").replace("ours", "theirs")).is_err());
        assert!(read("<Envelope><Body><Hello/></Body></Envelope>").is_err() && read("hello").is_err());
    }

    #[test]
    fn who_answers_twice_is_one_device() {
        let device = |endpoint: &str, address: &str| Device {
            endpoint: endpoint.into(),
            addresses: vec![Url::parse(address).unwrap()],
            name: None,
            hardware: None,
        };
        let mut devices = vec![];
        for (endpoint, address) in
            [("urn:a", "http://1/"), ("URN:A", "http://2/"), ("urn:a", "http://1/"), ("urn:b", "http://2/")]
        {
            add(&mut devices, device(endpoint, address));
        }
        assert_eq!(devices.iter().map(|device| device.addresses.len()).collect::<Vec<_>>(), [2, 1]);
    }
}

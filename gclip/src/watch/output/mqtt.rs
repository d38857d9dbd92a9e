// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines to an MQTT broker, at least once each (QoS 1). A line leaves the queue's care only when the broker has
//! acknowledged it: while the broker is away lines wait in the queue, and what was on its way is sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rumqttc::{
    Client, Connection, Event, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet, QoS, Transport,
};

use super::doubt::Doubt;
use super::topics::{self, Inventory, Kept};
use crate::watch::config::MqttTarget;
use crate::watch::console::Console;
use crate::watch::queue::{Line, Queue};
use crate::watch::retry::Retry;

/// Lines on their way at most; they count beside the queue's own.
const WINDOW: usize = 100;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the broker may take to answer a connection.
const ANSWER: u64 = 5;
/// Outlines of many regions are long.
const LONGEST_LINE: usize = 16 << 20;
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Lines that are refused again and again are told about this often.
const REMIND: Duration = Duration::from_secs(600);
/// Of the broker, for the acknowledgement of the last word.
const GOODBYE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

pub struct Publisher {
    pub target: MqttTarget,
    pub queue: Arc<Queue>,
    pub console: Arc<Console>,
    /// Name in the log.
    pub who: String,
    pub inventory: Arc<Inventory>,
}

/// One connection to the broker, as its two threads see it.
struct Session {
    doubt: Arc<Mutex<Doubt>>,
    flight: Mutex<Flight>,
    changed: Condvar,
}

impl Default for Session {
    fn default() -> Session {
        let doubt = Arc::new(Mutex::new(Doubt::new(WINDOW)));
        Session { doubt, flight: Mutex::default(), changed: Condvar::new() }
    }
}

/// What is on its way.
enum Sent {
    Line(Line),
    /// Said beside the lines; it is said anew when it gets lost.
    Beside,
}

/// Lines that the broker does not take.
#[derive(Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

#[derive(Default)]
struct Flight {
    connected: bool,
    /// Why it is over.
    ended: Option<String>,
    /// Whether anything was acknowledged.
    acknowledged: bool,
    /// Sent and not acknowledged, oldest first; with the packet's number as soon as it has one.
    sent: VecDeque<(Option<u16>, Sent)>,
}

impl Publisher {
    pub fn run(&self) {
        let mut retry = Retry::new(RETRY.0, RETRY.1);
        let mut refusals = Refusals::default();
        let doubt = Arc::new(Mutex::new(Doubt::new(WINDOW)));
        let mut told = false;
        loop {
            let session = Arc::new(Session { doubt: doubt.clone(), ..Session::default() });
            self.deliver(&session, &mut told, &mut refusals);
            let Flight { connected, acknowledged, ended, sent } = std::mem::take(&mut *session.flight.lock());
            let lines = sent.into_iter().filter_map(|(_, sent)| match sent {
                Sent::Line(line) => Some(line),
                Sent::Beside => None,
            });
            let mut left: VecDeque<Line> = lines.collect();
            let culprit = if connected { doubt.lock().broke(left.iter()) } else { None };
            if let Some(line) = &culprit {
                left.pop_front();
                self.refuse(line, &mut refusals);
            }
            self.queue.put_back(left.into_iter());
            if self.queue.is_closed() && self.queue.undelivered() == 0 {
                return;
            }
            // A broker that takes connections and nothing else is left in peace for longer and longer.
            if acknowledged || culprit.is_some() {
                retry.reset();
            }
            if !told || acknowledged {
                let why = self.console.hide(&ended.unwrap_or_default());
                self.console.log(&self.who, &format!("{}: {why}; lines wait for it", self.target.broker));
                told = true;
            }
            self.queue.pause(retry.next_wait());
        }
    }

    /// Gives up a line that the broker does not take; says so once in a while.
    fn refuse(&self, line: &Line, refusals: &mut Refusals) {
        self.queue.count_dropped();
        refusals.untold += 1;
        if refusals.told.is_some_and(|told| told.elapsed() < REMIND) {
            return;
        }
        let (lines, length) = (refusals.untold, line.bytes.len());
        *refusals = Refusals { told: Some(Instant::now()), untold: 0 };
        let what = format!(
            "{}: it closes the connection on lines as long as one of {length} bytes of {}: {lines} dropped (raise \
             the broker's limit for packets, or write shorter lines: masks = \"none\")",
            self.target.broker, line.camera
        );
        self.console.log(&self.who, &what);
    }

    /// Sends lines until the connection ends or there will be no more.
    fn deliver(&self, session: &Arc<Session>, told: &mut bool, refusals: &mut Refusals) {
        let (client, mut connection) = Client::new(self.options(), WINDOW);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(ANSWER);
        connection.eventloop.set_network_options(network);
        let (of_driver, queue) = (session.clone(), self.queue.clone());
        let driver = std::thread::Builder::new().name("mqtt".into());
        if let Err(error) = driver.spawn(move || of_driver.drive(connection, &queue)) {
            session.flight.lock().ended = Some(error.to_string());
        }
        let mut greeted = false;
        loop {
            {
                let mut flight = session.flight.lock();
                // A broker that takes connections and no line is not there yet.
                if flight.acknowledged && std::mem::take(told) {
                    self.console.log(&self.who, &format!("{}: connected again", self.target.broker));
                }
                if flight.ended.is_some() {
                    return;
                }
                if !flight.connected || flight.sent.len() >= session.doubt.lock().window() {
                    session.changed.wait_for(&mut flight, PAUSE);
                    continue;
                }
            }
            if !std::mem::replace(&mut greeted, true) {
                for kept in topics::greeting(&self.target, &self.inventory.get()) {
                    self.keep(session, &client, kept);
                }
                continue;
            }
            if let Some(line) = self.queue.take(PAUSE) {
                if session.doubt.lock().is_refused(&line, Instant::now()) {
                    self.refuse(&line, refusals);
                    continue;
                }
                for kept in topics::beside(&self.target, &self.inventory.get(), &line.camera, &line.about) {
                    self.keep(session, &client, kept);
                }
                let topic = topics::of_camera(&self.target, &line.camera);
                let payload = line.without_newline().to_vec();
                self.send(session, &client, Sent::Line(line), (topic, payload, false));
            } else if self.queue.is_closed() && session.flight.lock().sent.is_empty() {
                self.leave(session, &client);
                return;
            }
        }
    }

    fn keep(&self, session: &Session, client: &Client, Kept { topic, payload }: Kept) {
        self.send(session, client, Sent::Beside, (topic, payload.into_bytes(), true));
    }

    fn send(
        &self,
        session: &Session,
        client: &Client,
        sent: Sent,
        (topic, payload, retain): (String, Vec<u8>, bool),
    ) {
        // Before it is sent: its number may come back at once.
        session.flight.lock().sent.push_back((None, sent));
        if let Err(error) = client.publish(topic, QoS::AtLeastOnce, retain, payload) {
            session.flight.lock().ended.get_or_insert_with(|| error.to_string());
        }
    }

    /// Everything has arrived: says goodbye, so that the last will is not needed.
    fn leave(&self, session: &Session, client: &Client) {
        if let Some(kept) = topics::program(&self.target, topics::OFFLINE) {
            self.keep(session, client, kept);
            let end = Instant::now() + GOODBYE;
            let mut flight = session.flight.lock();
            while !flight.sent.is_empty() && flight.ended.is_none() && Instant::now() < end {
                session.changed.wait_until(&mut flight, end);
            }
        }
        // A courtesy.
        let _ = client.disconnect();
    }

    fn options(&self) -> MqttOptions {
        // Two programs with one name would throw each other out.
        let name = format!("gclip-{}-{}", std::process::id(), self.who.trim_start_matches("output."));
        let usual = if self.target.trusted.is_some() { 8883 } else { 1883 };
        let mut options =
            MqttOptions::new(name, &self.target.broker.host, self.target.broker.port.unwrap_or(usual));
        if let Some(trusted) = &self.target.trusted {
            options.set_transport(Transport::tls(trusted.clone(), None, None));
        }
        if let Some(Kept { topic, payload }) = topics::program(&self.target, topics::OFFLINE) {
            options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
        }
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(LONGEST_LINE, LONGEST_LINE);
        if let Some(user) = &self.target.broker.user {
            options.set_credentials(user, self.target.broker.password.as_deref().unwrap_or_default());
        }
        options
    }
}

impl Session {
    /// Moves packets until the connection ends, and counts what the broker acknowledges.
    fn drive(&self, mut connection: Connection, queue: &Queue) {
        for event in connection.iter() {
            let mut flight = self.flight.lock();
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => flight.connected = true,
                Ok(Event::Outgoing(Outgoing::Publish(number))) => {
                    if let Some((unsent, _)) = flight.sent.iter_mut().find(|(of_line, _)| of_line.is_none()) {
                        *unsent = Some(number);
                    }
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    let arrived = flight.sent.iter().position(|(of_line, _)| *of_line == Some(ack.pkid));
                    match arrived.and_then(|index| flight.sent.remove(index)) {
                        Some((_, Sent::Line(line))) => {
                            queue.count_delivered();
                            flight.acknowledged = true;
                            self.doubt.lock().acknowledged(&line);
                        }
                        Some((_, Sent::Beside)) => {}
                        // An answer to something else wakes nobody.
                        None => continue,
                    }
                }
                Ok(_) => continue,
                Err(error) => {
                    flight.ended.get_or_insert_with(|| error.to_string());
                    self.changed.notify_all();
                    return;
                }
            }
            self.changed.notify_all();
        }
        self.flight.lock().ended.get_or_insert_with(|| "the connection is closed".into());
        self.changed.notify_all();
    }
}

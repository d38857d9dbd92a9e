// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the compressed data of a JPEG are those of its picture: a decoder goes on after a hole in them, with colours and
//! places that are wrong, and says nothing as long as there is a next code. Codes are counted here: as many as the picture has
//! blocks, all of them known, and then the end.
//!
//! Not looked at: the scans of a progressive JPEG that only refine (their codes depend on all before them), and what
//! decoders refuse anyway (arithmetic coding, lossless).

use std::collections::HashMap;

/// What is wrong with the data of a scan.
pub fn damage(jpeg: &[u8]) -> Option<&'static str> {
    Reader { bytes: jpeg, at: 2, frame: None, tables: HashMap::new(), interval: 0 }.read().err()
}

type Checked<T = ()> = Result<T, &'static str>;

const TOO_SHORT: &str = "its data end before the picture does";
const TOO_LONG: &str = "its data go on behind the picture";
/// Marks the end of a picture.
const END: u8 = 0xd9;

const NO_CODE: &str = "its data hold a code that is none";

/// Of a code as 16 bits with anything behind it: its length and its symbol. Length 0: no code begins so.
type Codes = Vec<(u8, u8)>;

struct Component {
    id: u8,
    across: usize,
    down: usize,
}

struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
}

impl Frame {
    fn read(segment: &[u8], progressive: bool) -> Option<Frame> {
        let side =
            |at: usize| Some(usize::from(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?])));
        let written = segment.get(6..)?.chunks_exact(3).take(usize::from(*segment.get(5)?));
        let components: Vec<Component> = written
            .map(|part| Component {
                id: part[0],
                across: usize::from(part[1] >> 4),
                down: usize::from(part[1] & 15),
            })
            .collect();
        let frame = Frame { height: side(1)?, width: side(3)?, progressive, components };
        let sane = |part: &Component| (1..=4).contains(&part.across) && (1..=4).contains(&part.down);
        // A height of 0 is told later, which nobody writes.
        (frame.width > 0
            && frame.height > 0
            && !frame.components.is_empty()
            && frame.components.iter().all(sane))
        .then_some(frame)
    }

    /// Samples of a block that is as large as the coarsest component's.
    fn most(&self) -> (usize, usize) {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        (most(|part| part.across), most(|part| part.down))
    }

    /// How many units a scan has, and of which component each block of a unit is.
    fn units(&self, scanned: &[usize]) -> (usize, Vec<usize>) {
        let (across, down) = self.most();
        if let [only] = scanned {
            let part = &self.components[*only];
            let blocks = |side: usize, own: usize, most: usize| (side * own).div_ceil(most).div_ceil(8);
            return (blocks(self.width, part.across, across) * blocks(self.height, part.down, down), vec![0]);
        }
        let blocks = scanned.iter().enumerate().flat_map(|(place, &index)| {
            let part = &self.components[index];
            std::iter::repeat_n(place, part.across * part.down)
        });
        (self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down), blocks.collect())
    }
}

/// What a scan says of itself.
struct Scan {
    /// Of the frame's components.
    components: Vec<usize>,
    /// Of each of them: its tables for the first coefficient and the others.
    tables: Vec<(u8, u8)>,
    first: u8,
    last: u8,
    refines: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    /// By class and number as they are written.
    tables: HashMap<u8, Codes>,
    /// Units between two restarts; 0: there are none.
    interval: usize,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Checked {
        while let Some(marker) = self.next_marker() {
            if marker == END {
                break;
            }
            let Some(segment) = self.segment() else { break };
            match marker {
                0xc0..=0xc2 => match Frame::read(segment, marker == 0xc2) {
                    Some(frame) => self.frame = Some(frame),
                    None => break,
                },
                0xc4 => self.learn_codes(segment),
                0xdd => {
                    self.interval = segment.first_chunk().map_or(0, |two| u16::from_be_bytes(*two).into());
                }
                0xda => match self.scan(segment) {
                    Some(scan) if scan.refines && scan.first > 0 => self.pass_over(),
                    Some(scan) => self.check(&scan)?,
                    None => break,
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// The next marker, behind any number of fill bytes; `None` where there is none.
    fn next_marker(&mut self) -> Option<u8> {
        let rest = self.bytes.get(self.at..)?;
        let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
        self.at += fill + 1;
        rest.get(fill).copied().filter(|_| fill > 0)
    }

    /// What a marker says, without its length.
    fn segment(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        self.at += length;
        rest.get(2..length)
    }

    fn learn_codes(&mut self, mut segment: &[u8]) {
        while let Some((&[name, ref counts @ ..], symbols)) = segment.split_first_chunk::<17>() {
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let Some((symbols, rest)) = symbols.split_at_checked(total) else { return };
            self.tables.insert(name, codes(counts, symbols));
            segment = rest;
        }
    }

    /// `None`: not as it has to be, which decoders tell.
    fn scan(&self, segment: &[u8]) -> Option<Scan> {
        let frame = self.frame.as_ref()?;
        let (count, rest) = segment.split_first()?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let &[first, last, approximation] = rest.first_chunk()?;
        let mut scan =
            Scan { components: vec![], tables: vec![], first, last, refines: approximation >> 4 > 0 };
        for part in parts.chunks_exact(2) {
            scan.components.push(frame.components.iter().position(|component| component.id == part[0])?);
            // Classes: 0 for first coefficients, 1 for the others.
            scan.tables.push((part[1] >> 4, 0x10 | part[1] & 15));
        }
        let (first, last) = (scan.first, scan.last);
        let fits = if frame.progressive { first <= last && last < 64 } else { first == 0 && last == 63 };
        (fits && !scan.components.is_empty()).then_some(scan)
    }

    /// Goes to the marker behind the data.
    fn pass_over(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7);
        self.at += rest.windows(2).position(is_marker).unwrap_or(rest.len());
    }

    fn check(&mut self, scan: &Scan) -> Checked {
        let Some(frame) = &self.frame else { return Ok(()) };
        let (units, blocks) = frame.units(&scan.components);
        let mut tables = Vec::new();
        for (of_first, of_others) in &scan.tables {
            let (dc, ac) = (self.tables.get(of_first), self.tables.get(of_others));
            let needed = (scan.first > 0 || scan.refines || dc.is_some()) && (scan.last == 0 || ac.is_some());
            // Decoders refuse what has no tables.
            if !needed {
                return Ok(());
            }
            tables.push((dc, ac));
        }
        let mut bits = Bits { bytes: self.bytes, at: self.at, held: 0, count: 0 };
        let mut left_out = 0;
        for unit in 0..units {
            if self.interval > 0 && unit > 0 && unit % self.interval == 0 {
                bits.restart()?;
                left_out = 0;
            }
            for &place in &blocks {
                let (dc, ac) = tables[place];
                block(&mut bits, scan, (dc, ac), &mut left_out)?;
            }
        }
        self.at = bits.end()?;
        Ok(())
    }
}

/// Reads over the codes of one block. `left_out`: blocks to come of which nothing is written.
fn block(
    bits: &mut Bits,
    scan: &Scan,
    (dc, ac): (Option<&Codes>, Option<&Codes>),
    left_out: &mut u32,
) -> Checked {
    let mut at = u32::from(scan.first);
    if at == 0 {
        if scan.refines {
            return bits.skip(1);
        }
        if let Some(codes) = dc {
            let size = bits.symbol(codes)?;
            bits.skip(size.into())?;
        }
        at = 1;
    }
    let last = u32::from(scan.last);
    if *left_out > 0 && at <= last {
        *left_out -= 1;
        return Ok(());
    }
    while let Some(codes) = ac.filter(|_| at <= last) {
        let symbol = bits.symbol(codes)?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size > 0 {
            at += run;
            if at > last {
                return Err(NO_CODE);
            }
            bits.skip(size)?;
            at += 1;
        } else if run == 15 {
            at += 16;
        } else if run > 0 && scan.first == 0 {
            return Err(NO_CODE);
        } else {
            // The rest of the block is 0, and in progressive scans so are some that follow.
            *left_out = (1 << run) - 1 + bits.take(run)?;
            break;
        }
    }
    Ok(())
}

/// All beginnings of 16 bits: the codes' lengths are counted, and their values follow from them.
fn codes(counts: &[u8], symbols: &[u8]) -> Codes {
    let mut codes = vec![(0, 0); 1 << 16];
    let (mut from, mut symbols) = (0usize, symbols.iter());
    for (length, count) in (1u8..).zip(counts) {
        let room = 1 << (16 - length);
        for symbol in symbols.by_ref().take(usize::from(*count)) {
            if let Some(places) = codes.get_mut(from..from + room) {
                places.fill((length, *symbol));
            }
            from += room;
        }
    }
    codes
}

/// The bits of a scan, up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The newest `count` bits that are not read yet, at the low end.
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// Holds `count` bits or all that there are; `count` is 32 at most.
    fn fill(&mut self, count: u32) {
        while self.count < count {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 1;
                    0xff
                }
                (Some(0xff), _) | (None, _) => return,
                (Some(byte), _) => *byte,
            };
            self.at += 1;
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn take(&mut self, count: u32) -> Checked<u32> {
        self.fill(count);
        self.count = self.count.checked_sub(count).ok_or(TOO_SHORT)?;
        Ok((self.held >> self.count) as u32 & ((1 << count) - 1))
    }

    fn skip(&mut self, count: u32) -> Checked {
        self.take(count).map(|_| ())
    }

    fn symbol(&mut self, codes: &Codes) -> Checked<u8> {
        self.fill(16);
        // At the end there may be less; what a code has to have is there.
        let held =
            if self.count >= 16 { self.held >> (self.count - 16) } else { self.held << (16 - self.count) };
        let (length, symbol) = codes[(held & 0xffff) as usize];
        if u32::from(length) > self.count {
            return Err(TOO_SHORT);
        }
        if length == 0 {
            return Err(if self.count < 16 { TOO_SHORT } else { NO_CODE });
        }
        self.count -= u32::from(length);
        Ok(symbol)
    }

    /// Where the marker behind the data stands. Part of a byte is filled up, and some writers fill more with zeros.
    fn end(&mut self) -> Checked<usize> {
        loop {
            self.fill(8);
            let Some(whole) = self.count.checked_sub(8) else { break };
            let byte = (self.held >> (self.count / 8 * 8 - 8)) as u8;
            if byte != 0 {
                return Err(TOO_LONG);
            }
            self.count = whole;
        }
        self.count = 0;
        Ok(self.at)
    }

    fn restart(&mut self) -> Checked {
        let mut at = self.end()?;
        while self.bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        match self.bytes.get(at..at + 2) {
            Some([0xff, 0xd0..=0xd7]) => self.at = at + 2,
            _ => return Err(TOO_SHORT),
        }
        Ok(())
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often pictures hold one memory. GStreamer counts in eight bits how often a memory is mapped, and a picture that
//! comes again and again, from `imagefreeze` or in hundreds of branches, may wait for the model more often than that.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Maps of one memory at most; GStreamer bears 255, and others map it too.
const MOST: usize = 100;

/// By address: a memory that is held cannot go, nor can another come in its place.
static HELD: Mutex<Option<HashMap<usize, usize>>> = Mutex::new(None);

/// One picture's hold on the memories of a buffer.
pub struct Hold(Vec<usize>);

impl Hold {
    /// `None` where one of them is held too often already.
    pub fn on(buffer: &gst::BufferRef) -> Option<Hold> {
        let memories: Vec<usize> = buffer.iter_memories().map(|memory| memory.as_ptr() as usize).collect();
        let mut held = HELD.lock();
        let held = held.get_or_insert_default();
        if memories.iter().any(|memory| held.get(memory).is_some_and(|&count| count >= MOST)) {
            return None;
        }
        for &memory in &memories {
            *held.entry(memory).or_default() += 1;
        }
        Some(Hold(memories))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        let held = held.get_or_insert_default();
        for memory in &self.0 {
            if let Some(count) = held.get_mut(memory) {
                *count -= 1;
                if *count == 0 {
                    held.remove(memory);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_memory_is_held_so_often_and_no_more() {
        gst::init().unwrap();
        let (one, other) = (gst::Buffer::from_slice([1]), gst::Buffer::from_slice([2]));
        // Another buffer of the same memory.
        let again = one.copy();
        let mut holds: Vec<Hold> = (0..MOST).map(|_| Hold::on(&again).unwrap()).collect();
        assert!(Hold::on(&one).is_none());
        assert!(Hold::on(&other).is_some());
        holds.pop();
        let last = Hold::on(&one);
        assert!(last.is_some() && Hold::on(&one).is_none());
        drop((last, holds));
        let of = |buffer: &gst::Buffer| buffer.peek_memory(0).as_ptr() as usize;
        let held = HELD.lock();
        assert!(
            held.as_ref().is_none_or(|held| !held.contains_key(&of(&one)) && !held.contains_key(&of(&other)))
        );
    }
}

//! Connections: frames in order, each way, until cut. Either end may learn of the cut later than the other.

use std::collections::VecDeque;

/// One connection. Frames travel as the bytes that cross a real link.
#[derive(Debug)]
pub(crate) struct Connection {
    pub id: u64,
    pub up: VecDeque<Vec<u8>>,
    pub down: VecDeque<Vec<u8>>,
    /// Frames stand still until this step.
    pub stalled_until: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    pub connections: Vec<Connection>,
    ids: u64,
}

impl Network {
    pub(crate) fn connect(&mut self) -> u64 {
        self.ids += 1;
        self.connections.push(Connection {
            id: self.ids,
            up: VecDeque::new(),
            down: VecDeque::new(),
            stalled_until: 0,
        });
        self.ids
    }

    pub(crate) fn get(&mut self, id: u64) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    /// Frames under way are lost.
    pub(crate) fn cut(&mut self, id: u64) {
        self.connections.retain(|connection| connection.id != id);
    }
}

impl Connection {
    pub(crate) fn send_up(&mut self, frames: Vec<Vec<u8>>) {
        self.up.extend(frames);
    }

    pub(crate) fn send_down(&mut self, frames: Vec<Vec<u8>>) {
        self.down.extend(frames);
    }
}

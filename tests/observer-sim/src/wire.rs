//! Packets of the MySQL protocol: a length of three bytes, a number, and the payload.
//!
//! Purpose: written by hand, because faults need the raw socket in the middle of a packet, and errors at login need their exact
//! number and SQLSTATE, which server libraries choose themselves.
//!
//! Not here: what packets mean (`protocol`).

use std::io::{self, Read, Write};

const MAX: usize = 0xFF_FFFF;

/// What a session talks over.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    number: u8,
    out: Vec<u8>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({})", self.number)
    }
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, number: 0, out: Vec::new() }
    }

    /// The next packet, in one piece; `None` when the client is gone.
    pub(crate) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut payload = Vec::new();
        loop {
            let mut head = [0; 4];
            match self.stream.read_exact(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            let [a, b, c, number] = head;
            self.number = number.wrapping_add(1);
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            let begin = payload.len();
            payload.resize(begin + len, 0);
            self.stream.read_exact(payload.get_mut(begin..).unwrap_or_default())?;
            if len < MAX {
                return Ok(Some(payload));
            }
        }
    }

    /// A packet of an answer; it is sent by `flush`.
    pub(crate) fn put(&mut self, payload: &[u8]) {
        let mut rest = payload;
        loop {
            let (part, more) = rest.split_at(rest.len().min(MAX));
            let [a, b, c, _] = u32::try_from(part.len()).unwrap_or(0).to_le_bytes();
            self.out.extend([a, b, c, self.number]);
            self.out.extend(part);
            self.number = self.number.wrapping_add(1);
            rest = more;
            // A full packet is followed by another one, which may be empty.
            if part.len() < MAX {
                return;
            }
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out)?;
        self.stream.flush()
    }

    /// Fault: only the first half of what was put.
    pub(crate) fn flush_half(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(out.get(..out.len() / 2).unwrap_or_default())?;
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Pipe(Arc<Mutex<VecDeque<u8>>>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.lock().unwrap().read(buffer)
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn packets_of_any_size_come_back() {
        let pipe = Pipe::default();
        let mut writer = Wire::new(Box::new(pipe.clone()));
        let mut reader = Wire::new(Box::new(pipe));
        for len in [0, 5, MAX - 1, MAX, MAX + 7] {
            writer.put(&vec![7; len]);
            writer.flush().unwrap();
            assert_eq!(reader.read().unwrap().map(|packet| packet.len()), Some(len));
        }
        assert_eq!(reader.read().unwrap(), None);
    }
}

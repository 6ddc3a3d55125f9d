//! Server-sent events: the data of each, however the bytes were split on their way.
//!
//! Follows the WHATWG's HTML standard, 9.2.6, as far as data go: any of the three line ends, comments, several `data`
//! lines in one event. Names, ids and retry times mean nothing to us.

/// More in one event than this is refused: whole, it would be more than any output may be.
const EVENT_BYTES_MAX: usize = crate::OUTPUT_AND_LOG_BYTES_MAX;

/// One event is larger than any output may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Takes bytes as they come and gives the data of events as they end.
#[derive(Default)]
pub(super) struct Decoder {
    /// The line that has not ended.
    line: Vec<u8>,
    /// The data of the event that has not ended; none: it has no data line yet.
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return: a line feed now belongs to the same line end.
    after_return: bool,
}

impl Decoder {
    /// Takes `bytes`; what has ended with them is added to `events`.
    pub(super) fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLarge> {
        if bytes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
            bytes = &bytes[1..];
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&bytes[..end])?;
            self.end_line(events)?;
            let is_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            match bytes.first() {
                Some(b'\n') if is_return => bytes = &bytes[1..],
                None => self.after_return = is_return,
                _ => {}
            }
        }
        self.extend_line(bytes)
    }

    /// How much it keeps of what has not ended.
    pub(super) fn bytes(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, Vec::len)
    }

    /// What the stream ended in: the standard drops it, but some servers leave out the last empty line, or the last
    /// line's end.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        let mut events = Vec::new();
        self.end_line(&mut events).ok()?;
        events.pop().or(self.data)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Vec<u8>>) -> Result<(), TooLarge> {
        if self.line.is_empty() {
            events.extend(self.data.take());
            return Ok(());
        }
        // A byte order mark may begin the first line of all.
        let line = self.line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&self.line);
        let value = match line.strip_prefix(b"data") {
            Some(b"") => Some(&b""[..]),
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => Some(value),
            _ => None,
        };
        if let Some(value) = value {
            match &mut self.data {
                Some(data) if data.len() + value.len() >= EVENT_BYTES_MAX => return Err(TooLarge),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events of a stream that comes in these pieces, and what it ended in.
    fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut events).unwrap();
        }
        (events.into_iter().map(text).collect(), decoder.finish().map(text))
    }

    #[test]
    fn events_are_told_apart_by_empty_lines_of_any_kind() {
        for stream in ["data: a\n\ndata: b\n\n", "data:a\r\n\r\ndata:b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
            assert_eq!(decoded([stream.as_bytes()]), (vec!["a".into(), "b".into()], None), "{stream:?}");
        }
    }

    #[test]
    fn everything_but_data_is_left_out_and_data_lines_of_one_event_are_joined() {
        let stream =
            "\u{FEFF}: hello\nevent: x\ndata: a\ndata:  b\ndata\nid: 1\nretry: 5\ndatum: c\n\n\n: still here\n\n";
        assert_eq!(decoded([stream.as_bytes()]), (vec!["a\n b\n".into()], None));
    }

    #[test]
    fn what_a_stream_ends_in_is_told_apart() {
        assert_eq!(decoded([&b"data: a\n\ndata: [DONE]"[..]]), (vec!["a".into()], Some("[DONE]".into())));
        assert_eq!(decoded([&b"data: a\n"[..]]), (vec![], Some("a".into())));
        assert_eq!(decoded([&b": bye"[..]]), (vec![], None));
    }

    #[test]
    fn an_event_that_never_ends_is_refused_before_it_fills_the_memory() {
        for piece in [vec![b'x'; 1 << 20], [b"data: ".to_vec(), vec![b'x'; 1 << 20], b"\n".to_vec()].concat()] {
            let (mut decoder, mut events) = (Decoder::default(), Vec::new());
            let refused = (0..12).map(|_| decoder.push(&piece, &mut events)).find(Result::is_err);
            assert_eq!(refused, Some(Err(TooLarge)));
            assert!(events.is_empty());
        }
    }

    proptest! {
        #[test]
        fn however_a_stream_is_split_it_says_the_same(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["data: ä🔔", "data:", ":", "x", "\r", "\n", "\r\n", "\n\n"]), 0..40),
            cuts in proptest::collection::vec(1..8_usize, 1..20),
        ) {
            let stream = parts.concat().into_bytes();
            let (mut rest, mut pieces) = (&stream[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, left) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = left;
            }
            prop_assert_eq!(decoded(pieces), decoded([&stream[..]]));
        }
    }
}

//! The log of one run: a line for each step with its time, and the output at the end.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use service_kit::clock::Clock;

/// The most bytes that output and log have together: a broker carries no message above 16 MiB.
pub const OUTPUT_AND_LOG_BYTES_MAX: usize = 10 * 1024 * 1024;

/// The most bytes of the steps, so that a chatty provider leaves room for the output.
const STEPS_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes of one line.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What the output leaves free, so that the log can say that its copy of it was cut.
const MARKER_ROOM: usize = 128;

/// Writes the log of one run. Clones write the same log.
#[derive(Clone)]
pub struct RunLog {
    clock: Clock,
    steps: Arc<Mutex<Steps>>,
}

#[derive(Default)]
struct Steps {
    text: String,
    /// Bytes of lines that found no room.
    cut: usize,
}

impl RunLog {
    /// An empty log.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, steps: Arc::default() }
    }

    /// Adds a line with the present time. It is shown to the agent's owner: no secret, no token.
    pub fn line(&self, step: impl Display) {
        let line = line_at(self.clock.now(), step);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        // Once something was cut nothing follows it: the log has one gap, not many.
        if steps.cut > 0 || steps.text.len() + line.len() > STEPS_BYTES_MAX {
            steps.cut += line.len();
        } else {
            steps.text.push_str(&line);
        }
    }

    /// Ends the log with a line that always finds room and, on success, with the output. Returns the output and the log
    /// as they are sent: together at most [`OUTPUT_AND_LOG_BYTES_MAX`], with a marker wherever something was cut.
    ///
    /// If there is not room for all, the log's copy of the output is cut first, then the output.
    #[must_use]
    pub fn finish(&self, last_step: impl Display, output: Option<&str>) -> (String, String) {
        self.finish_with(last_step, output.map(|output| (output, Marker::Exact)))
    }

    /// [`finish`](Self::finish) with an output that went on after `beginning`, which is as long as all that is sent.
    #[must_use]
    pub fn finish_beginning(&self, last_step: impl Display, beginning: &str) -> (String, String) {
        self.finish_with(last_step, Some((beginning, Marker::AtLeast)))
    }

    fn finish_with(&self, last_step: impl Display, output: Option<(&str, Marker)>) -> (String, String) {
        let last = line_at(self.clock.now(), last_step);
        let steps = std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner));
        let mut log = steps.text;
        if steps.cut > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(log, "{}", Marker::Exact.text(steps.cut));
        }
        log.push_str(&last);
        let Some((output, marker)) = output else { return (String::new(), log) };

        log.push_str("output:\n");
        let output = without_null(output);
        let room = OUTPUT_AND_LOG_BYTES_MAX - log.len();
        let kept = cut(&output, room - MARKER_ROOM, marker);
        log.push_str(&cut(&output, room - kept.len(), marker));
        (kept.into_owned(), log)
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// One line, whatever line ends the step brings.
fn line_at(time: DateTime<Utc>, step: impl Display) -> String {
    let step = step.to_string();
    let step = without_null(step.trim_end()).replace(['\n', '\r'], " ");
    format!("{} {}\n", shown(time), cut(&step, LINE_BYTES_MAX, Marker::Exact))
}

/// Not every database stores U+0000 in a text, and a model may well answer one.
fn without_null(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// `text` in at most `bytes_max` bytes, ending in a marker if something had to go.
fn cut(text: &str, bytes_max: usize, marker: Marker) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return text.into();
    }
    // The longest marker: it counts at most all bytes.
    let room = bytes_max.saturating_sub(marker.text(text.len()).len());
    let kept = &text[..text.floor_char_boundary(room)];
    format!("{kept}{}", marker.text(text.len() - kept.len())).into()
}

/// Says that something was cut.
#[derive(Debug, Clone, Copy)]
enum Marker {
    /// So many bytes.
    Exact,
    /// So many bytes, and others that were never read.
    AtLeast,
}

impl Marker {
    fn text(self, bytes: usize) -> String {
        match self {
            Self::Exact => format!("[{bytes} bytes cut here]"),
            Self::AtLeast => format!("[at least {bytes} bytes cut here]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn log() -> (Clock, RunLog) {
        let clock = Clock::manual("2026-11-21T10:00:00.0005Z".parse().unwrap());
        (clock.clone(), RunLog::new(clock))
    }

    #[test]
    fn each_step_is_a_line_with_its_time_and_the_output_comes_last() {
        let (clock, log) = log();
        log.line("asked");
        clock.advance(TimeDelta::milliseconds(1_500));
        let (output, text) = log.finish("answered:\nyes", Some("line 1\nline 2"));
        assert_eq!(output, "line 1\nline 2");
        let expected = "2026-11-21T10:00:00.000Z asked\n\
                        2026-11-21T10:00:01.500Z answered: yes\n\
                        output:\nline 1\nline 2";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_output_of_fifty_megabytes_is_cut_with_a_marker_in_both_places() {
        let (_, log) = log();
        let given = "ä".repeat(25_000_000);
        let (output, text) = log.finish("answered", Some(&given));
        assert!(output.len() + text.len() <= OUTPUT_AND_LOG_BYTES_MAX);
        assert!(output.len() + text.len() > OUTPUT_AND_LOG_BYTES_MAX - 10);
        for cut_text in [&output, &text] {
            let (kept, marker) = cut_text.rsplit_once('[').unwrap();
            let kept = kept.rsplit('\n').next().unwrap().len();
            assert_eq!(marker, format!("{} bytes cut here]", given.len() - kept));
        }
    }

    #[test]
    fn an_output_with_room_for_one_copy_only_is_whole_and_its_copy_in_the_log_is_cut() {
        let (_, log) = log();
        let given = "x".repeat(8 * 1024 * 1024);
        let (output, text) = log.finish("answered", Some(&given));
        assert_eq!(output.len(), given.len());
        assert!(text.ends_with(" bytes cut here]"), "{}", &text[text.len() - 60..]);
        assert!(output.len() + text.len() <= OUTPUT_AND_LOG_BYTES_MAX);
    }

    #[test]
    fn a_chatty_provider_cannot_push_out_how_the_run_ended() {
        let (_, log) = log();
        for _ in 0..200 {
            log.line("x".repeat(10_000));
        }
        let (_, text) = log.finish("failed: no", None);
        assert!(text.len() <= STEPS_BYTES_MAX + 200);
        assert!(text.ends_with(" bytes cut here]\n2026-11-21T10:00:00.000Z failed: no\n"));
    }

    #[test]
    fn null_characters_are_replaced() {
        let (_, log) = log();
        let (output, text) = log.finish("answered\0", Some("a\0b"));
        assert_eq!(output, "a\u{FFFD}b");
        assert!(!text.contains('\0'));
    }

    proptest! {
        #[test]
        fn what_is_cut_fits_and_counts_what_is_gone(text in "\\PC{0,200}", bytes_max in 40_usize..300) {
            let result = cut(&text, bytes_max, Marker::Exact);
            prop_assert!(result.len() <= bytes_max);
            if text.len() <= bytes_max {
                prop_assert_eq!(result.as_ref(), text.as_str());
            } else {
                let kept = (0..=text.len())
                    .filter(|end| text.is_char_boundary(*end))
                    .find(|end| result == format!("{}{}", &text[..*end], Marker::Exact.text(text.len() - end)));
                prop_assert!(kept.is_some(), "{}", result);
            }
        }
    }
}

//! Where a span is: its trace and itself, found by a run's id or read from a `traceparent`.

use model::id::RunId;
use uuid::Uuid;

/// Where the ids of traces come from.
const RUNS: Uuid = Uuid::from_u128(0x2a4d_0b7e_5c1f_4e86_9f3b_7d52_c8a1_60e4);

/// A place in a trace: a span that is there already, or is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub(super) trace: u128,
    pub(super) span: u64,
}

impl Place {
    /// The first span of a run's trace: its tick.
    #[must_use]
    pub fn tick(run: RunId) -> Self {
        Self::of_run(run, b"tick")
    }

    /// The span that says how a run ended.
    #[must_use]
    pub fn outcome(run: RunId) -> Self {
        Self::of_run(run, b"outcome")
    }

    fn of_run(run: RunId, span: &[u8]) -> Self {
        let trace = Uuid::new_v5(&RUNS, &run.0.to_be_bytes());
        Self { trace: trace.as_u128(), span: Uuid::new_v5(&trace, span).as_u64_pair().0 }
    }

    /// A new place in the trace of this id.
    #[must_use]
    pub fn in_trace(trace: Uuid) -> Self {
        Self { trace: trace.as_u128(), span: rand::random::<u64>() | 1 }
    }

    /// A new place in the same trace.
    #[must_use]
    pub fn beside(self) -> Self {
        Self { span: rand::random::<u64>() | 1, ..self }
    }

    /// What a W3C `traceparent` of version 00 says; none: it is not well-formed.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = traceparent.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = version == "00" && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        if !well_formed || parts.next().is_some() {
            return None;
        }
        let place = Self { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
        (place.trace != 0 && place.span != 0).then_some(place)
    }

    /// As a W3C `traceparent`.
    #[must_use]
    pub fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }

    /// The trace's id, as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_only_from_a_well_formed_header_and_is_written_as_it_was_read() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        let place = Place::parse(&good).unwrap();
        assert_eq!((place.traceparent(), place.trace_id()), (good.clone(), trace.to_owned()));
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replace("00-", "01-"),
            &format!("{good}-x"),
            &good.replace(trace, &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", "0000000000000000"),
            &good.replace("00f067aa0ba902b7", "00f067aa0ba902b"),
        ] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    /// Other versions may be at work on the same run: these must not change.
    #[test]
    fn everyone_finds_the_places_of_a_run_by_its_id_alone() {
        let run = RunId(17_951_580_000_001);
        assert_eq!(Place::tick(run), Place::tick(run));
        assert_eq!(Place::tick(run).trace_id(), Place::outcome(run).trace_id());
        assert_ne!(Place::tick(run), Place::outcome(run));
        assert_ne!(Place::tick(run).trace_id(), Place::tick(RunId(run.0 + 1)).trace_id());
    }
}

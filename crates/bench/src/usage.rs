//! What processes take of the machine, as Linux counts it.

use std::time::Duration;

use anyhow::Context;
use test_kit::Stack;

/// Ticks of processor time in a second: fixed on Linux, whatever the kernel's own is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has taken so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Seconds of a processor.
    pub(crate) cpu_seconds: f64,
    /// Megabytes in memory.
    pub(crate) memory_megabytes: f64,
}

/// Of the first process of each of these microservices.
pub(crate) fn of(stack: &Stack, microservices: &[&'static str]) -> anyhow::Result<Vec<Usage>> {
    let id = |name: &&str| stack.replicas(name).first().and_then(test_kit::Replica::process_id);
    microservices.iter().map(|name| of_process(id(name).with_context(|| format!("{name} does not run"))?)).collect()
}

/// Share of one processor between two looks, in percent.
pub(crate) fn percent(before: Usage, after: Usage, between: Duration) -> f64 {
    (after.cpu_seconds - before.cpu_seconds) / between.as_secs_f64() * 100.0
}

fn of_process(id: u32) -> anyhow::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name")?;
    let field = |number: usize| after_name.split_whitespace().nth(number).and_then(|text| text.parse::<f64>().ok());
    let ticks = field(11).zip(field(12)).map(|(user, system)| user + system).context("no times")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory")?;
    let kilobytes: f64 = resident.trim().trim_end_matches(" kB").parse()?;
    Ok(Usage { cpu_seconds: ticks / TICKS_PER_SECOND, memory_megabytes: kilobytes / 1024.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_takes_some_memory() {
        let usage = of_process(std::process::id()).unwrap();
        assert!((1.0..100_000.0).contains(&usage.memory_megabytes), "{usage:?}");
    }
}

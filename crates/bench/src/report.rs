//! What a part measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::sample::{Spread, Summary};

/// All figures of one part.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    part: &'static str,
    quick: bool,
    cores: usize,
    /// How many processes wanted a core in the last minute, before and after: above the cores, others were measured too.
    load_before: f64,
    load_after: f64,
    seconds: f64,
    figures: Vec<Figure>,
    #[serde(skip)]
    began: Instant,
}

/// One figure, and beside it what nothing but the bare work reaches.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    measured: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Beside>,
}

#[derive(Debug, Serialize)]
struct Beside {
    name: String,
    measured: Spread,
    /// The figure over this one, run by run.
    ratio: Spread,
}

impl Report {
    pub(crate) fn begin(part: &'static str, quick: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let (load_before, load_after) = (load(), 0.0);
        Self { part, quick, cores, load_before, load_after, seconds: 0.0, figures: Vec::new(), began: Instant::now() }
    }

    /// A figure that has nothing beside it.
    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &'static str, values: impl IntoIterator<Item = f64>) {
        let figure = Figure { name: name.into(), unit, measured: Spread::of(values), beside: None };
        self.put(figure);
    }

    /// The percentiles of one or several samples of times.
    pub(crate) fn add_times(&mut self, name: &str, runs: &[Summary]) {
        self.add(format!("{name}, p50"), "ms", runs.iter().map(|run| run.p50_ms));
        self.add(format!("{name}, p99"), "ms", runs.iter().map(|run| run.p99_ms));
        self.add(format!("{name}, latest"), "ms", runs.iter().map(|run| run.max_ms));
    }

    /// A figure beside another: both of each run.
    pub(crate) fn compare(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        beside: impl Into<String>,
        runs: &[(f64, f64)],
    ) {
        let other = Beside {
            name: beside.into(),
            measured: Spread::of(runs.iter().map(|(_, other)| *other)),
            ratio: Spread::of(runs.iter().map(|(ours, other)| ours / other)),
        };
        let measured = Spread::of(runs.iter().map(|(ours, _)| *ours));
        self.put(Figure { name: name.into(), unit, measured, beside: Some(other) });
    }

    fn put(&mut self, figure: Figure) {
        eprintln!("{}", row(&figure));
        self.figures.push(figure);
    }

    /// Prints the table and writes the file.
    pub(crate) fn finish(mut self, output: &Path) -> anyhow::Result<()> {
        (self.load_after, self.seconds) = (load(), self.began.elapsed().as_secs_f64());
        println!("\n{}", self.table());
        std::fs::create_dir_all(output)?;
        std::fs::write(output.join(format!("{}.json", self.part)), serde_json::to_vec_pretty(&self)?)?;
        Ok(())
    }

    fn table(&self) -> String {
        let Self { part, cores, load_before, load_after, seconds, .. } = self;
        let quick = if self.quick { ", quick" } else { "" };
        let mut table = format!(
            "{part}{quick}: {seconds:.0} s on {cores} cores, load {load_before:.1} before and {load_after:.1} after\n\n"
        );
        table += "| figure | unit | median (least–most, runs) | beside it | ratio |\n|---|---|---|---|---|\n";
        for figure in &self.figures {
            let _ = writeln!(table, "{}", row(figure));
        }
        table
    }
}

fn row(figure: &Figure) -> String {
    let Figure { name, unit, measured, beside } = figure;
    let (beside, ratio) = match beside {
        Some(Beside { name, measured, ratio }) => (format!("{name}: {}", text(measured)), text(ratio)),
        None => Default::default(),
    };
    format!("| {name} | {unit} | {} | {beside} | {ratio} |", text(measured))
}

fn text(spread: &Spread) -> String {
    let Spread { median, min, max, runs } = *spread;
    if runs < 2 {
        return number(median);
    }
    format!("{} ({}–{}, {runs})", number(median), number(min), number(max))
}

/// Three digits that count, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The load average of the last minute; nothing where the system does not tell.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_stands_beside_its_limit_with_the_ratio_of_each_run() {
        let mut report = Report::begin("test", true);
        report.compare("delivered", "/s", "bare POSTs", &[(50.0, 100.0), (30.0, 120.0), (45.0, 90.0)]);
        report.add("alone", "ms", [0.5]);
        let table = report.table();
        let row = "| delivered | /s | 45.0 (30.0–50.0, 3) | bare POSTs: 100 (90.0–120, 3) | 0.500 (0.250–0.500, 3) |";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("| alone | ms | 0.500 |  |  |"), "{table}");
    }
}

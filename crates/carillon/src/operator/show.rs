//! Prints what the API answered: as a table for people, as the API's own JSON for programs.

use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::output::print;

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// For people.
    Table,
    /// For programs: as the API shows it.
    Json,
}

/// A column: what stands above it, and where its value is in a row, as a JSON pointer.
pub(crate) type Column = (&'static str, &'static str);

/// Prints rows.
pub(crate) fn rows(shape: Shape, columns: &[Column], rows: &[Value]) -> anyhow::Result<()> {
    match shape {
        Shape::Json => print(format_args!("{}\n", Value::from(rows))),
        Shape::Table => {
            let mut table = plain();
            table.set_header(columns.iter().map(|(name, _)| *name));
            for row in rows {
                table.add_row(columns.iter().map(|(_, pointer)| cell(row.pointer(pointer))));
            }
            print_table(&table)
        }
    }
}

/// Prints one thing as JSON.
pub(crate) fn one(value: &Value) -> anyhow::Result<()> {
    print(format_args!("{value}\n"))
}

/// Prints one thing, a line for each of its fields.
pub(crate) fn fields(shape: Shape, columns: &[Column], row: &Value) -> anyhow::Result<ExitCode> {
    match shape {
        Shape::Json => one(row)?,
        Shape::Table => {
            let mut table = plain();
            for (name, pointer) in columns {
                table.add_row([(*name).to_owned(), cell(row.pointer(pointer))]);
            }
            print_table(&table)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// On a terminal as wide as that, else as wide as need be.
fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn print_table(table: &Table) -> anyhow::Result<()> {
    print(format_args!("{}\n", table.trim_fmt()))
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

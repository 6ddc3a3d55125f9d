//! The reference pages in docs/, made from the code: what can be looked up is never kept by hand.
//!
//! `UPDATE=1 cargo test -p carillon reference` writes them anew; without it, the tests fail where a page is not what
//! the code says.

mod configuring;
mod metrics;

use std::path::{Path, PathBuf};

/// A path from the root of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Holds a page against what it is made from, or writes it.
fn keep(name: &str, page: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(page.lines()).find(|(kept, made)| kept != made);
    assert!(
        kept == page,
        "{name} is not what the code says: `UPDATE=1 cargo test -p carillon reference` writes it anew. {differs:?}"
    );
}

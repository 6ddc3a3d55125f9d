//! The committed Rust of the bus contract is what its `.proto` file says.
//!
//! After a change of the contract, before the new fields are used: `UPDATE=1 cargo test -p model --test wire_is_generated`.

use std::path::{Path, PathBuf};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_committed_wire_types_are_those_of_the_proto_files() {
    let files = protox::compile(["carillon/v1/events.proto"], [root("../../proto")]).expect("the contract compiles");
    let folder = tempfile::tempdir().expect("a folder for the generated file");
    prost_build::Config::new()
        .out_dir(folder.path())
        .bytes(["."])
        .btree_map(["."])
        .enable_type_names()
        .compile_fds(files)
        .expect("the contract generates");
    let generated = std::fs::read_to_string(folder.path().join("carillon.v1.rs")).expect("a generated file");

    let committed = root("src/wire/carillon.v1.rs");
    if std::env::vars().any(|(name, _)| name == "UPDATE") {
        std::fs::write(&committed, &generated).expect("the committed file is writable");
    }
    let found = std::fs::read_to_string(&committed).expect("the committed file");
    assert!(found == generated, "out of date: run `UPDATE=1 cargo test -p model --test wire_is_generated`");
}

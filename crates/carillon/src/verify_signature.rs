//! `carillon verify-signature`: is this body signed with this secret?

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::VerifySignatureArguments;

/// Exits 0 if it is, 1 if not.
pub(crate) fn verify(arguments: &VerifySignatureArguments) -> anyhow::Result<ExitCode> {
    let body = read(&arguments.body)?;
    if callback_deliverer::verify_signature(arguments.secret.as_bytes(), &body, &arguments.signature) {
        println!("the signature is that of this body");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "the signature is NOT that of this body ({} bytes): check that the body is raw as received, and the secret",
        body.len()
    );
    Ok(ExitCode::FAILURE)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
    Ok(body)
}

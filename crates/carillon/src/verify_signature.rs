//! `carillon verify-signature`: is this body signed with this secret?

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use callback_deliverer::signature::{HEADER, standard};

use crate::cli::VerifySignatureArguments;
use crate::output::print;

/// Exits 0 if it is, 1 if not.
pub(crate) fn verify(arguments: &VerifySignatureArguments) -> anyhow::Result<ExitCode> {
    let body = read(&arguments.body)?;
    let (secret, signature) = (arguments.secret.as_bytes(), &arguments.signature);
    let is_genuine = match arguments.id.as_deref().zip(arguments.timestamp.as_deref()) {
        None => callback_deliverer::verify_signature(secret, &body, value_of(signature, HEADER)),
        Some((id, timestamp)) => {
            let id = value_of(id, standard::ID_HEADER).trim();
            let timestamp = value_of(timestamp, standard::TIMESTAMP_HEADER).trim();
            standard::verify(secret, id, timestamp, &body, value_of(signature, standard::SIGNATURE_HEADER))
        }
    };
    let (code, verdict) = if is_genuine {
        (ExitCode::SUCCESS, "the signature is that of this body".to_owned())
    } else {
        let (length, check) = (body.len(), "check that the body is raw as received, and the secret");
        (ExitCode::FAILURE, format!("the signature is NOT that of this body ({length} bytes): {check}"))
    };
    // The exit code tells, whether or not somebody reads the words.
    let _ = print(format_args!("{verdict}\n"));
    Ok(code)
}

/// The value of the header, also where its whole line is given.
fn value_of<'a>(text: &'a str, header: &str) -> &'a str {
    match text.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case(header) => value,
        _ => text,
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
    Ok(body)
}

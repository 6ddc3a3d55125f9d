//! `amqps` to a broker with a certificate for `localhost`, of an authority that `SSL_CERT_FILE` names.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::place::{CARILLON, password, variable};

/// What `carillon bus status` says of the broker at `host`, believing only the authority in `ca`.
fn status(host: &str, ca: &str) -> (Output, String) {
    let url = variable("CARILLON_TEST_AMQPS_URL");
    let ca = PathBuf::from(variable("CARILLON_TEST_TLS_DIR")).join(ca);
    let mut command = Command::new(CARILLON);
    command.args(["bus", "status", "--url", &url.replace("localhost", host)]);
    let output = command.env("SSL_CERT_FILE", ca).env("RUST_LOG", "debug").output().unwrap();
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(!said.contains(&password(&url)), "{said}");
    (output, said)
}

#[test]
fn a_broker_that_a_known_authority_vouches_for_is_asked() {
    let (output, said) = status("localhost", "ca.pem");
    assert!(output.status.success() && said.contains("agent-runner.runs"), "{said}");
}

#[test]
fn a_broker_of_another_name_or_of_an_unknown_authority_is_not() {
    for (host, ca) in [("127.0.0.1", "ca.pem"), ("localhost", "other-ca.pem")] {
        let (output, said) = status(host, ca);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("TLS") && said.contains("certificate"), "{said}");
    }
}

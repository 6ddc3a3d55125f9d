//! TLS to PostgreSQL: `sslmode=verify-full` against a real server, with a certificate for `localhost`. Needs the
//! system's libpq and a server: run it with `make test-tls`.

#[cfg(test)]
mod verify;

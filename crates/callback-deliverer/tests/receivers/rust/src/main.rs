//! A receiver that verifies with the Rust of docs/receiving.md. The query's `hub` is the secret.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};

include!("snippet.rs");

fn main() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    for connection in listener.incoming() {
        if let Err(error) = receive(connection?) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn receive(mut connection: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let (mut first, mut line) = (String::new(), String::new());
    reader.read_line(&mut first)?;
    let (mut signature, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            match name.to_lowercase().as_str() {
                "x-hub-signature-256" => signature = value.to_owned(),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = first.split(' ').nth(1).unwrap_or_default();
    let url = url::Url::parse("http://localhost/").and_then(|base| base.join(path)).map_err(std::io::Error::other)?;
    let secret = url.query_pairs().find(|(name, _)| name == "hub").map(|(_, secret)| secret.into_owned());
    let good = verify(&signature, &body, &secret.unwrap_or_default());
    let status = if good { "204 No Content" } else { "400 Bad Request\r\ncontent-length: 0" };
    write!(connection, "HTTP/1.1 {status}\r\nconnection: close\r\n\r\n")
}

//! URLs that tenants must not reach, in the spellings in which they try; and names that change their mind.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use url::Url;

use super::{EgressError, Guard, GuardedClient, Resolver};

/// What the URL alone tells. Some parsers read no URL in them at all, which is as good.
const REFUSED: [&str; 84] = [
    // Loopback, in every way to write it.
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/x",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.255.255.254/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7F.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0x7f.1/",
    "http://127.0.0.1./",
    "http://127.0.0.1%2e/",
    "http://%31%32%37.0.0.1/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://user:password@127.0.0.1/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1\\@example.com/",
    "http:///127.0.0.1/",
    "http:127.0.0.1/",
    "\thttp://127.0.0.1/",
    "ht\ntp://127.0.0.1/",
    "http://127.0.\t0.1/",
    "https://127.0.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://0.0.0.1/",
    // Private networks, and what clouds keep inside.
    "http://10.0.0.1/",
    "http://10.1/",
    "http://167772161/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://192.168.257/",
    "http://100.64.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.43518/",
    "http://0xa9fea9fe/",
    "http://2852039166/",
    "http://169.254.170.2/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    // The rest that is not the internet.
    "http://192.0.0.8/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    // IPv6, and IPv4 inside of it: mapped, compatible, translated, NAT64, 6to4, Teredo.
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:a00:1::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[100::1]/",
    "http://[5f00::1]/",
    // Names of networks inside.
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.b.localhost/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://printer.local/",
    "http://db/",
];

/// A guard for which every name has these addresses, at each look the next.
fn guard(looks: &[&[&str]]) -> Guard {
    let address = |text: &&str| text.parse::<IpAddr>().unwrap();
    let looks = looks.iter().map(|look| look.iter().map(address).collect()).collect();
    Guard { resolver: Resolver::Played(Arc::new(Mutex::new(looks))), ..Guard::new(Vec::new()) }
}

fn client(looks: &[&[&str]]) -> GuardedClient {
    guard(looks).client(Duration::from_secs(5)).unwrap()
}

#[test]
fn no_spelling_leads_inside() {
    for text in REFUSED {
        if let Ok(url) = Url::parse(text) {
            let refused = Guard::new(Vec::new()).check_url(&url);
            let inside = matches!(refused, Err(EgressError::NotPublic { .. } | EgressError::InternalName(_)));
            assert!(inside, "{text} is read as {url}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_name_is_refused_for_any_address_that_is_not_public() {
    let url: Url = "https://hooks.example.com/".parse().unwrap();
    for look in [
        &["127.0.0.1"][..],
        &["1.1.1.1", "10.0.0.1"],
        &["169.254.169.254"],
        &["2606:4700:4700::1111", "::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:a00:1::"],
        &["0.0.0.0"],
    ] {
        let refused = client(&[look]).vetted_request(Method::POST, &url).await;
        assert!(matches!(refused, Err(EgressError::NotPublic { .. })), "{look:?}");
    }
    assert!(client(&[&["1.1.1.1", "2606:4700:4700::1111"]]).vetted_request(Method::POST, &url).await.is_ok());
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_refused_at_the_next_request_and_at_the_connection() {
    let url: Url = "http://rebind.example.com/".parse().unwrap();
    // Public when the first request looks, inside when the second does.
    let client_of_two = client(&[&["1.1.1.1"], &["127.0.0.1"]]);
    assert!(client_of_two.vetted_request(Method::POST, &url).await.is_ok());
    assert!(client_of_two.vetted_request(Method::POST, &url).await.is_err());

    // Public when the request looks, inside when the connection is made: the connection looks too.
    let request = client(&[&["1.1.1.1"], &["127.0.0.1"]]).vetted_request(Method::POST, &url).await.unwrap();
    let error = request.send().await.unwrap_err();
    assert!(matches!(EgressError::of(&error), Some(EgressError::NotPublic { .. })), "{error:?}");
}

#[tokio::test]
async fn a_name_that_nobody_answers_for_is_given_up() {
    let guard = Guard { resolver: Resolver::Silent, ..Guard::new(Vec::new()) };
    let client = guard.client(Duration::from_secs(5)).unwrap();
    let url: Url = "https://hooks.example.com/".parse().unwrap();
    let vetted = client.vetted_request(Method::POST, &url);
    let refused = tokio::time::timeout(Duration::from_secs(60), vetted).await.expect("it waits for ever");
    assert!(matches!(refused, Err(EgressError::Unresolved { .. })), "{refused:?}");
}

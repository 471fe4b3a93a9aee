use std::net::IpAddr;
use std::sync::Arc;

use url::Url;

use super::*;

fn policy() -> NetworkPolicy {
    let policy = NetworkPolicy::default();
    policy.cluster.set(["10.96.0.0/12".parse().unwrap(), "fd12:3456::/108".parse().unwrap()], ["172.18.0.2".parse().unwrap()]);
    policy
}

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn check(policy: &NetworkPolicy, purpose: Purpose, url: &str) -> Result<(), Refusal> {
    policy.check(purpose, &Url::parse(url).unwrap())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Address,
    Host,
    Insecure,
    Scheme,
    UserInfo,
}

fn verdict(result: &Result<(), Refusal>) -> Verdict {
    match result {
        Ok(()) => Verdict::Allowed,
        Err(Refusal::Address { .. }) => Verdict::Address,
        Err(Refusal::Host { .. }) => Verdict::Host,
        Err(Refusal::InsecureHttp { .. }) => Verdict::Insecure,
        Err(Refusal::Scheme { .. }) => Verdict::Scheme,
        Err(Refusal::UserInfo { .. }) => Verdict::UserInfo,
    }
}

#[test]
fn urls_are_checked_by_scheme_user_information_and_address() {
    use Verdict::{Address, Allowed, Insecure, Scheme, UserInfo};
    let policy = policy();
    for (url, expected) in [
        ("https://github.com", Allowed),
        ("https://gitea.acme.io", Allowed),
        ("https://gitea.acme.io.", Allowed),
        ("https://bücher.example", Allowed),
        ("https://10.1.2.3", Allowed),
        ("https://192.168.1.10:3000/git", Allowed),
        ("https://172.16.0.9", Allowed),
        ("https://100.64.0.1", Allowed),
        ("https://8.8.8.8", Allowed),
        ("https://[2001:db8::1]", Allowed),
        ("https://[fd00::10]", Allowed),
        ("https://[::ffff:10.1.2.3]", Allowed),
        ("https://[64:ff9b::8.8.8.8]", Allowed),
        ("https://[2002:808:808::1]", Allowed),
        // Loopback, in every spelling.
        ("https://127.0.0.1", Address),
        ("https://127.0.0.1.", Address),
        ("https://127.1", Address),
        ("https://127.255.255.254", Address),
        ("https://2130706433", Address),
        ("https://0x7f000001", Address),
        ("https://0x7f.0.0.1", Address),
        ("https://017700000001", Address),
        ("https://0177.0.0.1", Address),
        ("https://%31%32%37.0.0.1", Address),
        ("https://１２７.0.0.1", Address),
        ("https://127。0。0。1", Address),
        ("https://localhost", Address),
        ("https://LOCALHOST.", Address),
        ("https://any.localhost:8443", Address),
        ("https://[::1]", Address),
        ("https://[0:0:0:0:0:0:0:1]", Address),
        ("https://[::ffff:127.0.0.1]", Address),
        ("https://[::ffff:7f00:1]", Address),
        ("https://[::127.0.0.1]", Address),
        ("https://[64:ff9b::127.0.0.1]", Address),
        ("https://[2002:7f00:1::]", Address),
        ("https://0.0.0.0", Address),
        ("https://0", Address),
        ("https://0.1.2.3", Address),
        ("https://[::]", Address),
        // Link-local addresses and metadata services.
        ("https://169.254.169.254/latest/meta-data", Address),
        ("https://2852039166", Address),
        ("https://0xa9fea9fe", Address),
        ("https://169.254.170.2", Address),
        ("https://[fe80::1]", Address),
        ("https://[febf::1]", Address),
        ("https://[fd00:ec2::254]", Address),
        ("https://[fd20:ce::254]", Address),
        ("https://[::ffff:169.254.169.254]", Address),
        ("https://[64:ff9b::a9fe:a9fe]", Address),
        ("https://100.100.100.200", Address),
        ("https://168.63.129.16", Address),
        ("https://192.0.0.192", Address),
        ("https://metadata.google.internal", Address),
        ("https://metadata.google.internal./computeMetadata", Address),
        // Multicast, broadcast and unspecified addresses.
        ("https://224.0.0.1", Address),
        ("https://239.255.255.250", Address),
        ("https://[ff02::1]", Address),
        ("https://255.255.255.255", Address),
        ("https://240.0.0.1", Address),
        // The cluster's own.
        ("https://10.96.0.1", Address),
        ("https://10.111.255.255", Address),
        ("https://10.112.0.1", Allowed),
        ("https://[::ffff:10.96.0.1]", Address),
        ("https://[fd12:3456::1]", Address),
        ("https://172.18.0.2:6443", Address),
        ("https://172.18.0.3", Allowed),
        // Schemes other than https, and URLs with user information.
        ("http://gitea.acme.io", Insecure),
        ("http://127.0.0.1", Insecure),
        ("ftp://gitea.acme.io", Scheme),
        ("file:///etc/passwd", Scheme),
        ("gopher://gitea.acme.io", Scheme),
        ("https://github.com@127.0.0.1", UserInfo),
        ("https://ada:secret@gitea.acme.io", UserInfo),
        ("https://gitea.acme.io/@127.0.0.1", Allowed),
        ("https://gitea.acme.io#@127.0.0.1", Allowed),
        ("https://gitea.acme.io\\@127.0.0.1", Allowed),
    ] {
        let found = check(&policy, Purpose::Provider, url);
        assert_eq!(verdict(&found), expected, "{url}: {found:?}");
    }
}

#[test]
fn allowed_ranges_permit_exactly_their_addresses() {
    let mut policy = policy();
    policy.allow_cidrs = ["127.0.0.0/8", "10.96.0.10/32", "fd00:ec2::/64"].map(|text| text.parse().unwrap()).to_vec();
    for (url, expected) in [
        ("https://127.0.0.1", Verdict::Allowed),
        ("https://localhost", Verdict::Allowed),
        ("https://[::ffff:127.0.0.1]", Verdict::Allowed),
        ("https://[::1]", Verdict::Address),
        ("https://10.96.0.10", Verdict::Allowed),
        ("https://10.96.0.11", Verdict::Address),
        ("https://[fd00:ec2::254]", Verdict::Allowed),
        ("https://169.254.169.254", Verdict::Address),
    ] {
        assert_eq!(verdict(&check(&policy, Purpose::Provider, url)), expected, "{url}");
    }
}

#[test]
fn sinks_by_service_may_reach_the_cluster_but_neither_its_api_server_nor_special_addresses() {
    let policy = policy();
    for (url, expected) in [
        ("http://ci.team.svc:80/events", Verdict::Allowed),
        ("http://10.96.0.7", Verdict::Allowed),
        ("http://172.18.0.2", Verdict::Address),
        ("http://172.18.0.3", Verdict::Allowed),
        ("http://127.0.0.1", Verdict::Address),
        ("http://169.254.169.254", Verdict::Address),
        ("http://[::1]", Verdict::Address),
    ] {
        assert_eq!(verdict(&check(&policy, Purpose::ServiceSink, url)), expected, "{url}");
    }
}

#[test]
fn sinks_by_http_need_an_allowed_host() {
    let mut policy = policy();
    assert_eq!(verdict(&check(&policy, Purpose::HttpSink, "https://events.acme.io")), Verdict::Host);
    policy.sink_hosts = patterns(&["*.acme.io", "hooks.example:8443"]);
    for (url, expected) in [
        ("https://events.acme.io/git", Verdict::Allowed),
        ("https://a.b.acme.io", Verdict::Allowed),
        ("https://acme.io", Verdict::Host),
        ("https://evilacme.io", Verdict::Host),
        ("https://acme.io.evil.example", Verdict::Host),
        ("https://hooks.example:8443", Verdict::Allowed),
        ("https://hooks.example", Verdict::Host),
        ("http://events.acme.io", Verdict::Insecure),
    ] {
        assert_eq!(verdict(&check(&policy, Purpose::HttpSink, url)), expected, "{url}");
    }
}

#[test]
fn provider_hosts_restrict_all_hosts_except_the_known_clouds() {
    let mut policy = policy();
    policy.cloud_hosts = patterns(&["cloud.example", "api.cloud.example", "*.tenants.example"]);
    policy.provider_hosts = patterns(&["gitea.acme.io", "bücher.example", "[2001:db8::1]:3000"]);
    for (url, expected) in [
        ("https://gitea.acme.io", Verdict::Allowed),
        ("https://GITEA.acme.io.:8443/git", Verdict::Allowed),
        ("https://xn--bcher-kva.example", Verdict::Allowed),
        ("https://[2001:db8::1]:3000", Verdict::Allowed),
        ("https://[2001:db8::1]", Verdict::Host),
        ("https://other.acme.io", Verdict::Host),
        ("https://api.cloud.example", Verdict::Allowed),
        ("https://CLOUD.example./x", Verdict::Allowed),
        ("https://acme.tenants.example", Verdict::Allowed),
        ("https://api.acme.tenants.example", Verdict::Allowed),
        ("https://tenants.example", Verdict::Host),
        ("https://cloud.example:8443", Verdict::Host),
        ("https://eviltenants.example", Verdict::Host),
        ("https://cloud.example.evil.example", Verdict::Host),
    ] {
        assert_eq!(verdict(&check(&policy, Purpose::Provider, url)), expected, "{url}");
    }
}

#[test]
fn insecure_http_permits_http_but_no_more_addresses() {
    let mut policy = policy();
    policy.insecure_http = true;
    assert_eq!(verdict(&check(&policy, Purpose::Provider, "http://gitea.acme.io")), Verdict::Allowed);
    assert_eq!(verdict(&check(&policy, Purpose::Provider, "http://127.0.0.1")), Verdict::Address);
    assert_eq!(verdict(&check(&policy, Purpose::Provider, "ftp://gitea.acme.io")), Verdict::Scheme);
}

#[test]
fn invalid_patterns_are_refused() {
    for text in ["", "*", "*.", "a b", "https://a", "a/b", "a@b", "a:port", "a:99999", "*.*.a", "a?b"] {
        assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
    }
    for text in ["gitea.acme.io", "gitea.acme.io:3000", "*.acme.io"] {
        assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
    }
}

#[test]
fn only_allowed_addresses_of_a_name_are_tried() {
    let policy = policy();
    let vet = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        resolver::vet(&policy, Purpose::Provider, "rebound.example", addresses)
    };
    assert_eq!(vet(&["127.0.0.1", "8.8.8.8"]).unwrap(), ["8.8.8.8".parse::<IpAddr>().unwrap()]);
    assert_eq!(vet(&[]).unwrap(), Vec::<IpAddr>::new());
    let refusal = vet(&["::ffff:127.0.0.1", "10.96.0.1"]).unwrap_err();
    assert_eq!(refusal, Refusal::Address { host: "rebound.example".into(), address: "127.0.0.1".parse().unwrap() });
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_refused_when_connecting() {
    let mut policy = policy();
    policy.insecure_http = true;
    policy.resolve.insert(("inside.example".into(), 80), "127.0.0.1".parse().unwrap());
    let client = Arc::new(policy).client_builder(Purpose::Provider).build().unwrap();
    let error = client.get("http://inside.example/").send().await.unwrap_err();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut found = false;
    while let Some(error) = source {
        found |= error.downcast_ref::<Refusal>().is_some();
        source = error.source();
    }
    assert!(found, "{error:?}");
}

#[test]
fn with_listed_provider_hosts_a_proxy_must_be_listed_too() {
    let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<HostPattern>>();
    for (providers, proxies, proxy, allowed) in [
        (&[][..], &[][..], "http://proxy.acme.io:3128", true),
        (&["git.acme.io"], &[], "http://proxy.acme.io:3128", false),
        (&["git.acme.io"], &[], "http://git.acme.io", false),
        (&["git.acme.io"], &[], "http://github.com", false),
        (&["git.acme.io"], &["proxy.acme.io"], "http://proxy.acme.io:3128", true),
        (&["git.acme.io"], &["proxy.acme.io:3128"], "http://proxy.acme.io:3129", false),
        (&["git.acme.io"], &["*.acme.io"], "http://proxy.evil.example:3128", false),
        (&[], &["proxy.acme.io"], "http://proxy.evil.example:3128", false),
        (&[], &["127.0.0.1"], "http://127.0.0.1:3128", false),
        (&[], &[], "http://localhost:3128", false),
    ] {
        let policy = NetworkPolicy { provider_hosts: patterns(providers), proxy_hosts: patterns(proxies), ..NetworkPolicy::default() };
        assert_eq!(policy.check_proxy(&proxy.parse().unwrap()).is_ok(), allowed, "{proxy} with {providers:?} and {proxies:?}");
    }
    let policy = NetworkPolicy { provider_hosts: patterns(&["git.acme.io"]), ..NetworkPolicy::default() };
    let refusal = policy.check_proxy(&"http://proxy.acme.io:3128".parse().unwrap()).unwrap_err().to_string();
    assert!(refusal.contains("proxy.acme.io") && refusal.contains("--allow-proxy-hosts"), "{refusal}");
}

//! What the fact tables accept and what they report: for each provider the list and the creation of hooks, each kind of finding,
//! and Azure DevOps' recorded exchanges where they are present.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::ProviderKind;
use http::Method;
use serde_json::{Value, json};

use testkit::samples;
use testkit::sim::facts::Facts;
use testkit::sim::facts::extract::originals;

/// A valid request and a valid answer to it.
struct Exchange {
    kind: ProviderKind,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Option<Value>,
    status: u16,
    answer: Option<Value>,
}

impl Exchange {
    fn request(&self) -> Vec<String> {
        Facts::of(self.kind).request(&self.method, &self.path, &self.query, self.body.as_ref())
    }

    fn answered(&self) -> Vec<String> {
        Facts::of(self.kind).answer(&self.method, &self.path, self.status, self.answer.as_ref())
    }
}

fn github_hook() -> Value {
    exchange(ProviderKind::GitHub, &Method::POST).answer.unwrap()
}

fn hook_without_a_name() -> Value {
    let mut hook = github_hook();
    hook.as_object_mut().unwrap().remove("name");
    hook
}

/// For each provider the list of hooks, then the creation of one.
fn exchanges() -> Vec<Exchange> {
    let of = |kind, exchange: samples::Exchange| Exchange {
        kind,
        method: exchange.method.parse().unwrap(),
        path: exchange.path,
        query: exchange.query,
        body: exchange.body,
        status: exchange.status,
        answer: exchange.answer,
    };
    let all =
        ProviderKind::ALL.into_iter().flat_map(|kind| samples::of(kind).exchanges.into_iter().map(move |exchange| of(kind, exchange)));
    all.collect()
}

fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn exchange(kind: ProviderKind, method: &Method) -> Exchange {
    exchanges().into_iter().find(|exchange| exchange.kind == kind && exchange.method == *method).unwrap()
}

/// Checks that there is exactly one finding, with this text.
fn assert_one(findings: &[String], expected: &str) {
    assert!(matches!(findings, [only] if only.contains(expected)), "{findings:#?}, expected one of: {expected}");
}

#[test]
fn valid_requests_and_answers_have_no_findings() {
    let exchanges = exchanges();
    assert_eq!(exchanges.len(), 2 * ProviderKind::ALL.len());
    for exchange in exchanges {
        assert_eq!(exchange.request(), Vec::<String>::new(), "{} {}", exchange.kind, exchange.method);
        assert_eq!(exchange.answered(), Vec::<String>::new(), "{} {}", exchange.kind, exchange.method);
    }
}

#[test]
fn fields_and_paths_that_no_description_has_are_reported_at_every_provider() {
    for mut exchange in exchanges() {
        exchange.query = query(&[("api-version", "7.1"), ("frobnicate", "1")]);
        let findings = exchange.request();
        assert!(findings.iter().any(|finding| finding.contains("?frobnicate: unknown parameter")), "{findings:?}");
        if let Some(body) = &mut exchange.body {
            exchange.query = if exchange.kind == ProviderKind::AzureDevOps { query(&[("api-version", "7.1")]) } else { Vec::new() };
            body["frobnicate"] = json!(true);
            assert_one(&exchange.request(), "body.frobnicate: unknown field");
            exchange.answer.as_mut().unwrap()["frobnicate"] = json!(true);
            assert_one(&exchange.answered(), ".frobnicate: unknown field");
            exchange.answer = Some(json!([]));
            assert_one(&exchange.answered(), "a list, expected object");
        }
        exchange.answer = None;
        assert_one(&exchange.answered(), "no JSON, expected some");
        exchange.status = 299;
        assert_one(&exchange.answered(), "299: not described");
        exchange.path = "/frobnicate".to_owned();
        assert_one(&exchange.request(), "/frobnicate: unknown path");
        assert_one(&exchange.answered(), "/frobnicate: unknown path");
        (exchange.status, exchange.answer) = (404, Some(json!({ "message": "Not Found" })));
        assert!(exchange.answered().is_empty(), "a request for an unknown path may be answered with an error");
    }
}

#[test]
fn methods_that_a_path_does_not_have_are_reported() {
    let mut exchange = exchange(ProviderKind::GitHub, &Method::GET);
    exchange.method = Method::DELETE;
    assert_one(&exchange.request(), "/repos/{owner}/{repo}/hooks: no such method");
}

#[test]
fn parameters_are_checked() {
    let github = Facts::of(ProviderKind::GitHub);
    let of = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_one(&github.request(&Method::GET, "/repos/acme/shop/hooks", &of("page", "two"), None), "\"two\" is not integer");
    assert_one(&github.request(&Method::GET, "/repos/acme/shop/hooks/seven", &[], None), "{hook_id}: \"seven\" is not integer");
    assert_one(
        &github.request(&Method::GET, "/app/hook/deliveries", &of("status", "lost"), None),
        "\"lost\" is not \"success\"|\"failure\"",
    );
    let azure = Facts::of(ProviderKind::AzureDevOps);
    assert_one(&azure.request(&Method::GET, "/acme/_apis/hooks/subscriptions", &[], None), "?api-version: missing");
    let gitlab = Facts::of(ProviderKind::GitLab);
    let mut query = of("min_access_level", "40");
    query.extend(of("skip_groups[]", "7"));
    assert_eq!(gitlab.request(&Method::GET, "/groups", &query, None), Vec::<String>::new());
    assert_one(&gitlab.request(&Method::GET, "/groups", &of("min_access_level", "41"), None), "\"41\" is not 10|15");
    assert_one(&gitlab.request(&Method::GET, "/groups", &of("owned", "perhaps"), None), "\"perhaps\" is not boolean");
}

/// Body fields may be sent in the query or in a form, where every value is text; a name may differ in case only.
#[test]
fn parameters_are_accepted_wherever_the_provider_accepts_them() {
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let gitlab = |query: &[(String, String)], body: Option<Value>| {
        Facts::of(ProviderKind::GitLab).request(&Method::POST, "/projects/7/hooks", query, body.as_ref())
    };
    let address = of("url", "https://in.acme.io");
    assert_eq!(gitlab(&[address.clone(), of("push_events", "true")], None), Vec::<String>::new());
    assert_eq!(gitlab(std::slice::from_ref(&address), Some(json!({ "push_events": "0" }))), Vec::<String>::new());
    assert_one(&gitlab(&[of("push_events", "true")], None), "body.url: missing");
    assert_one(&gitlab(&[address.clone(), of("push_events", "perhaps")], None), "body.push_events: a string, expected boolean");
    assert_one(&gitlab(&[address.clone(), of("frobnicate", "1")], None), "?frobnicate: unknown parameter");
    let (query, body) = ([of("active", "true")], json!({ "active": true }));
    let github = Facts::of(ProviderKind::GitHub).request(&Method::PATCH, "/repos/acme/shop/hooks/7", &query, Some(&body));
    assert_one(&github, "?active: unknown parameter");

    let shouted = |kind, path: &str, query: &[(String, String)]| Facts::of(kind).request(&Method::GET, path, query, None);
    let version = [of("API-Version", "7.1")];
    assert_eq!(shouted(ProviderKind::AzureDevOps, "/acme/_APIS/Git/Repositories", &version), Vec::<String>::new());
    assert_one(&shouted(ProviderKind::GitHub, "/Repos/acme/shop", &[]), "unknown path");
}

#[test]
fn fields_are_checked() {
    let mut creation = exchange(ProviderKind::GitLab, &Method::POST);
    creation.body = Some(json!({ "push_events": "yes", "branch_filter_strategy": "none" }));
    let mut findings = creation.request();
    findings.sort();
    assert_eq!(
        findings,
        [
            "POST /projects/{id}/hooks: body.branch_filter_strategy: \"none\", expected \"wildcard\"|\"regex\"|\"all_branches\"",
            "POST /projects/{id}/hooks: body.push_events: a string, expected boolean",
            "POST /projects/{id}/hooks: body.url: missing",
        ]
    );
    creation.body = None;
    assert_one(&creation.request(), "body: missing");
    let mut list = exchange(ProviderKind::GitLab, &Method::GET);
    list.body = Some(json!({}));
    assert_one(&list.request(), "body: none is described");

    let mut list = exchange(ProviderKind::GitHub, &Method::GET);
    let hook = &mut list.answer.as_mut().unwrap()[0];
    hook["created_at"] = json!("yesterday");
    hook["config"]["insecure_ssl"] = json!(false);
    hook["last_response"].as_object_mut().unwrap().remove("code");
    hook["name"] = Value::Null;
    let findings = list.answered();
    let place = |field: &str| format!("GET /repos/{{owner}}/{{repo}}/hooks: 200[0].{field}");
    assert_eq!(
        findings,
        [
            place("config.insecure_ssl: a boolean, expected string|number"),
            place("created_at: a string, expected date-time"),
            place("last_response.code: missing"),
            place("name: null, expected string"),
        ]
    );
    let again = json!([hook_without_a_name(), hook_without_a_name(), github_hook()]);
    assert_one(&Facts::of(ProviderKind::GitHub).answer(&Method::GET, &list.path, 200, Some(&again)), "200[0].name: missing");
    let page = json!({ "values": [{ "type": "webhook_subscription", "events": ["repo:exploded"] }] });
    let findings = Facts::of(ProviderKind::BitbucketCloud).answer(&Method::GET, "/repositories/acme/shop/hooks", 200, Some(&page));
    assert_one(&findings, "200.values[0].events[0]: \"repo:exploded\", expected \"issue:comment_created\"");
}

/// Findings may appear in a log, and a value may be a secret.
#[test]
fn findings_name_no_values() {
    let mut creation = exchange(ProviderKind::GitLab, &Method::POST);
    creation.body = Some(json!({ "url": ["canary"], "token": { "canary": "canary" }, "push_events": "canary" }));
    let findings = creation.request();
    assert_eq!(findings.len(), 3);
    assert!(!findings.concat().contains("canary"), "{findings:?}");
}

#[test]
fn a_read_only_field_may_not_be_sent_and_null_only_where_the_description_allows_it() {
    let path = "/api/latest/projects/APP/repos";
    let server = Facts::of(ProviderKind::BitbucketDataCenter);
    let body = json!({ "name": "shop", "id": 7 });
    assert_one(&server.request(&Method::POST, path, &[], Some(&body)), "body.id: read-only, yet sent");
    assert_eq!(server.answer(&Method::POST, path, 201, Some(&body)), Vec::<String>::new());
    // Swagger 2 cannot describe null: it counts as absent in an answer, and is an error in a request.
    let mut creation = exchange(ProviderKind::Gitea, &Method::POST);
    creation.body.as_mut().unwrap()["branch_filter"] = Value::Null;
    creation.answer.as_mut().unwrap()["branch_filter"] = Value::Null;
    assert_one(&creation.request(), "body.branch_filter: null, expected string");
    assert_eq!(creation.answered(), Vec::<String>::new());
}

#[test]
fn a_path_matches_the_closest_template() {
    let get = |kind, path: &str| Facts::of(kind).request(&Method::GET, path, &[], None);
    for (kind, path) in [
        (ProviderKind::GitHub, "/repos/acme/shop/branches/release/1.0"),
        (ProviderKind::GitHub, "/repos/acme/shop/branches/release%2F1.0"),
        (ProviderKind::GitHub, "/repositories/1296269"),
        (ProviderKind::GitLab, "/projects/acme%2Fapps%2Fshop"),
        (ProviderKind::GitLab, "/projects/7/repository/branches/release%2F1.0"),
        (ProviderKind::GitLab, "/personal_access_tokens/self"),
        (ProviderKind::BitbucketCloud, "/repositories/%7Bfd67%7D/%7Bbeea%7D/hooks/%7B52ce%7D"),
        (ProviderKind::BitbucketCloud, "/repositories/acme/shop/refs/branches/release/1.0"),
        (ProviderKind::BitbucketDataCenter, "/api/1.0/projects/~ada/repos/shop/webhooks"),
        (ProviderKind::BitbucketDataCenter, "/api/latest/projects/APP/repos/shop/webhooks/search"),
        (ProviderKind::Gitea, "/repos/acme/shop/hooks/git"),
        (ProviderKind::Gitea, "/repos/acme/shop/branches/release/1.0"),
    ] {
        assert_eq!(get(kind, path), Vec::<String>::new(), "{kind} {path}");
    }
    let version = [("api-version".to_owned(), "7.1".to_owned())];
    for path in ["/acme/_apis/git/repositories", "/acme/My%20Shop/_apis/git/repositories", "/acme/Shop/_apis/git/repositories/my%20repo"] {
        assert_eq!(Facts::of(ProviderKind::AzureDevOps).request(&Method::GET, path, &version, None), Vec::<String>::new(), "{path}");
    }
    for (kind, path) in [
        (ProviderKind::GitHub, "/repos/acme/shop/"),
        (ProviderKind::GitHub, "/repos//shop"),
        (ProviderKind::GitHub, "/repos/acme/team/shop/hooks"),
        (ProviderKind::GitLab, "/projects/acme/apps/shop"),
        (ProviderKind::GitLab, "/api/v4/projects/7"),
        (ProviderKind::BitbucketDataCenter, "/api/0.9/projects"),
        (ProviderKind::Gitea, "repos/acme/shop"),
    ] {
        assert_one(&get(kind, path), "unknown path");
    }
}

#[test]
fn error_answers_need_no_description_and_web_pages_count_as_errors() {
    let facts = Facts::of(ProviderKind::GitHub);
    let answer = |status, body: Option<Value>| facts.answer(&Method::POST, "/repos/acme/shop/hooks", status, body.as_ref());
    assert!(answer(502, None).is_empty(), "a web page of a proxy");
    assert!(answer(404, None).is_empty(), "a web page in place of a described error");
    assert!(answer(429, Some(json!({ "message": "slow down" }))).is_empty());
    assert_one(&answer(429, Some(json!(["slow down"]))), "JSON that is not an object");
    assert_one(&answer(422, Some(json!({ "message": "Validation Failed" }))), "422.documentation_url: missing");
    assert_one(&facts.answer(&Method::DELETE, "/repos/acme/shop/hooks/7", 204, Some(&json!({}))), "a body, expected none");
    let sign_in = Facts::of(ProviderKind::AzureDevOps);
    assert!(sign_in.answer(&Method::GET, "/acme/_apis/projects", 203, None).is_empty());
    assert_one(&sign_in.answer(&Method::GET, "/acme/_apis/projects", 203, Some(&json!({}))), "expected text");
}

/// Requests and answers that Microsoft recorded.
#[test]
fn recorded_subscriptions_of_azure_devops_fit() -> Result<()> {
    let Some(folder) = originals() else { return Ok(()) };
    let facts = Facts::of(ProviderKind::AzureDevOps);
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("azure-devops-service-hooks-examples"))? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
        let example: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let (method, _) = name.split_once("__").context("the name begins with the method")?;
        let method = Method::from_bytes(method.as_bytes())?;
        let url = url::Url::parse(example["x-ms-vss-request-url"].as_str().context("no address")?)?;
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        // One of the recorded URLs ends with a slash, which the server accepts and the description does not have.
        let asked = url.path().trim_end_matches('/');
        let findings = facts.request(&method, asked, &query, example["parameters"].get("body"));
        assert_eq!(findings, Vec::<String>::new(), "{name}");
        for (status, answer) in example["responses"].as_object().context("no answers")? {
            assert_eq!(facts.answer(&method, asked, status.parse()?, answer.get("body")), Vec::<String>::new(), "{name}");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen} examples");
    Ok(())
}

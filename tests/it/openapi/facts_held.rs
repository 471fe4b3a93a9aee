//! Simulators are compared with the official description: a field or parameter that it does not have, in an answer or in a
//! request, fails the test.

use anyhow::Result;
use forgebind::api::v1alpha1::ProviderKind;
use serde_json::{Value, json};

use testkit::sim::{
    Delivery, Outcome, ProviderEvent, Refusal, Request, Response, Retry, SeedData, SimulatedProvider, Simulator, UserAction,
};

/// Answers every request with the same document.
struct Echo(Value);

impl SimulatedProvider for Echo {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Gitea
    }

    fn seed_data(&self) -> SeedData {
        unreachable!("this provider has no seed data")
    }

    fn api_path<'a>(&self, request: &'a Request) -> Option<&'a str> {
        request.path.strip_prefix("/api/v1")
    }

    fn answer(&self, _: &Request) -> Response {
        Response::json(200, &self.0)
    }

    fn refusal(&self, _: Refusal) -> Response {
        Response::empty(500)
    }

    fn act(&self, _: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        Err("nothing happens here".to_owned())
    }

    fn deliveries(&self, _: &str, _: &ProviderEvent) -> Vec<Delivery> {
        Vec::new()
    }

    fn delivered(&self, _: &Delivery, _: &Outcome) -> Option<Retry> {
        None
    }
}

/// The finding of a simulator after one request; `None` without a finding.
async fn complaint(path: &str, document: Value) -> Option<String> {
    let simulator = Simulator::start(|_| Box::new(Echo(document))).await.unwrap();
    let status = reqwest::get(format!("{}{path}", simulator.url())).await.unwrap().status();
    assert_eq!(status, 200);
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(simulator)));
    dropped.err().map(|complaint| complaint.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_simulator_that_deviates_from_the_description_fails_its_test() {
    assert_eq!(complaint("/api/v1/version", json!({ "version": "1.26.4" })).await, None);
    assert_eq!(complaint("/acme/shop.git/info/refs?frobnicate=1", json!({ "frobnicate": true })).await, None, "not an API request");
    for (path, document, slip) in [
        ("/api/v1/version", json!({ "version": "1.26.4", "frobnicate": true }), "GET /version: 200.frobnicate: unknown field"),
        ("/api/v1/version?frobnicate=1", json!({ "version": "1.26.4" }), "GET /version: ?frobnicate: unknown parameter"),
        ("/api/v1/frobnicate", json!({}), "GET /frobnicate: unknown path"),
    ] {
        let complaint = complaint(path, document).await.unwrap_or_default();
        assert!(complaint.contains(slip), "{complaint:?}, expected: {slip}");
    }
}

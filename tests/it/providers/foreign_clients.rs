//! The simulators as other client libraries use the real services: requests in the form that those libraries send, and answers in
//! the form that they demand.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::clock::{Clock as _, SystemClock};
use forgebind::providers::transport::Timings;
use http::Method;
use reqwest::RequestBuilder;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use testkit::plain_http;
use testkit::sim::azure_devops::{make_older, state};
use testkit::sim::bitbucket_data_center::{BitbucketDataCenter, PASSWORD, PROJECT_TOKEN, REPOSITORY_TOKEN};
use testkit::sim::github::seed as github;
use testkit::sim::gitlab::seed as gitlab;
use testkit::sim::{Simulated, SimulatedProvider, Simulator, UserAction};

/// A parsed answer.
struct Answer {
    status: u16,
    link: String,
    version: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(self.text.trim_start_matches('\u{feff}')).unwrap_or_default()
    }
}

async fn simulated(kind: ProviderKind) -> Result<Simulated> {
    Simulated::new(kind).await
}

/// A request to a path of the simulator, without its credential.
fn request(simulated: &Simulated, method: Method, path: &str) -> Result<RequestBuilder> {
    let client = plain_http::builder().user_agent("somebody-else").redirect(reqwest::redirect::Policy::none()).build()?;
    Ok(client.request(method, format!("{}{path}", simulated.simulator.url())))
}

async fn send(request: RequestBuilder) -> Result<Answer> {
    let answer = request.send().await?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (status, link, version) = (answer.status().as_u16(), header("link"), header("x-github-api-version-selected"));
    Ok(Answer { status, link, version, text: answer.text().await? })
}

/// A JWT of the simulated App, as every library makes it.
fn app_jwt() -> Result<String> {
    let now = SystemClock.now().as_second();
    let part = |document: &Value| URL_SAFE_NO_PAD.encode(document.to_string());
    let claims = json!({"iat": now - 60, "exp": now + 300, "iss": github::APP_ID.to_string()});
    let signed = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let PrivateKeyDer::Pkcs1(der) = PrivateKeyDer::from_pem_slice(github::APP_KEY.as_bytes())? else { anyhow::bail!("no PKCS#1") };
    let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[tokio::test]
async fn an_app_that_asks_for_no_permission_gets_all_permissions_of_the_installation() -> Result<()> {
    let simulated = simulated(ProviderKind::GitHub).await?;
    let jwt = app_jwt()?;
    let found = send(request(&simulated, Method::GET, "/api/v3/orgs/acme/installation")?.bearer_auth(&jwt)).await?.json();
    let tokens = format!("/api/v3/app/installations/{}/access_tokens", found["id"]);
    let make = async |body: Value| send(request(&simulated, Method::POST, &tokens)?.bearer_auth(&jwt).json(&body)).await;
    for body in [json!({"permissions": {}}), json!({})] {
        let answer = make(body.clone()).await?;
        assert_eq!((answer.status, &answer.json()["permissions"]), (201, &found["permissions"]), "{body}");
    }
    let shop = send(request(&simulated, Method::GET, "/api/v3/repos/acme/shop")?.bearer_auth(github::OPERATOR)).await?.json();
    let narrowed = make(json!({"repository_ids": [shop["id"]], "permissions": {"contents": "read"}})).await?.json();
    assert_eq!((&narrowed["permissions"], &narrowed["repository_selection"]), (&json!({"contents": "read"}), &json!("selected")));
    let token = narrowed["token"].as_str().context("a token")?;
    let listed = send(request(&simulated, Method::GET, "/api/v3/installation/repositories")?.bearer_auth(token)).await?.json();
    assert_eq!((&listed["total_count"], &listed["repositories"][0]["full_name"]), (&json!(1), &json!("acme/shop")));
    assert_eq!(make(json!({"repository_ids": [0]})).await?.status, 422, "no repository of the installation");
    Ok(())
}

#[tokio::test]
async fn github_accepts_every_version_of_its_api_and_no_other() -> Result<()> {
    let simulated = simulated(ProviderKind::GitHub).await?;
    let ask = async |path: &str, version: Option<&str>| {
        let asked = request(&simulated, Method::GET, &format!("/api/v3{path}"))?.bearer_auth(github::OPERATOR);
        send(if let Some(version) = version { asked.header("x-github-api-version", version) } else { asked }).await
    };
    for (asked, selected, has_rate) in
        [(None, "2022-11-28", true), (Some("2022-11-28"), "2022-11-28", true), (Some("2026-03-10"), "2026-03-10", false)]
    {
        let answer = ask("/rate_limit", asked).await?;
        assert_eq!((answer.status, answer.version.as_str()), (200, selected));
        assert_eq!((answer.json()["rate"].is_object(), answer.json()["resources"]["core"].is_object()), (has_rate, true), "{asked:?}");
        assert_eq!(ask("/repos/acme/shop", asked).await?.status, 200, "{asked:?}");
    }
    assert_eq!(ask("/user", Some("2021-01-01")).await?.status, 400);
    assert_eq!(ask("/versions", None).await?.json(), json!(["2022-11-28", "2026-03-10"]));
    Ok(())
}

#[tokio::test]
async fn pushes_have_numeric_times_and_deletions_have_no_creation_fields() -> Result<()> {
    let simulated = simulated(ProviderKind::GitHub).await?;
    let hook = json!({"events": ["*"], "config": {"url": "http://127.0.0.1:9/in", "content_type": "json"}});
    let made = request(&simulated, Method::POST, "/api/v3/repos/acme/shop/hooks")?.bearer_auth(github::OPERATOR).json(&hook);
    assert_eq!(send(made).await?.status, 201);
    let sent = async |act: UserAction| -> Result<Vec<Value>> {
        let before = simulated.simulator.sent().len();
        simulated.simulator.act(&act).await?;
        let bodies = simulated.simulator.sent().into_iter().skip(before).map(|sent| sent.delivery.body);
        let documents = bodies.filter_map(|body| serde_json::from_slice::<Value>(&body).ok());
        Ok(documents.filter(|document| document["zen"].is_null()).collect())
    };
    let pushed = sent(UserAction::Push { repository: "acme/shop".into(), branch: "main".into(), message: "One".into() }).await?;
    let repository = &pushed.first().context("the push")?["repository"];
    for time in ["created_at", "pushed_at"] {
        assert!(repository[time].is_u64(), "{time}: {}", repository[time]);
    }
    assert!(repository["updated_at"].is_string() && repository["owner"]["name"] == "acme" && repository["master_branch"] == "main");
    let opened =
        UserAction::OpenPullRequest { repository: "acme/shop".into(), source: "topic".into(), target: "main".into(), title: "T".into() };
    for other in sent(opened).await? {
        assert!(other["repository"]["created_at"].is_string(), "a text in every other event");
    }
    let named =
        |documents: Vec<Value>| documents.into_iter().find(|document| document["ref_type"] == "branch").context("identified by name");
    let created = named(sent(UserAction::Push { repository: "acme/shop".into(), branch: "new".into(), message: "Two".into() }).await?)?;
    let deleted = named(sent(UserAction::DeleteBranch { repository: "acme/shop".into(), branch: "new".into() }).await?)?;
    for field in ["master_branch", "description"] {
        assert!(created.get(field).is_some() && deleted.get(field).is_none(), "{field}");
    }
    assert_eq!((&deleted["ref"], &deleted["pusher_type"]), (&json!("new"), &json!("user")));
    Ok(())
}

#[tokio::test]
async fn a_keyset_list_continues_in_its_own_direction() -> Result<()> {
    let simulated = simulated(ProviderKind::GitLab).await?;
    let ask = async |address: &str| {
        let path = address.strip_prefix(simulated.simulator.url()).unwrap_or(address);
        send(request(&simulated, Method::GET, path)?.header("private-token", gitlab::OPERATOR)).await
    };
    for (sort, beyond) in [("asc", "id_after="), ("desc", "id_before=")] {
        let mut next = format!("/api/v4/projects?membership=true&pagination=keyset&order_by=id&sort={sort}&per_page=7");
        let mut ids: Vec<u64> = Vec::new();
        let mut pages = 0;
        while !next.is_empty() {
            let answer = ask(&next).await?;
            assert_eq!(answer.status, 200, "{next}");
            ids.extend(answer.json().as_array().into_iter().flatten().filter_map(|project| project["id"].as_u64()));
            let link = answer.link.split_once('<').and_then(|(_, rest)| rest.split_once(">; rel=\"next\"")).map(|(address, _)| address);
            assert!(link.is_none_or(|link| link.contains(beyond)), "{link:?}");
            next = link.unwrap_or_default().to_owned();
            pages += 1;
            ensure!(pages < 100, "the list does not end");
        }
        let mut sorted = ids.clone();
        sorted.sort_unstable_by(|one, other| if sort == "asc" { one.cmp(other) } else { other.cmp(one) });
        sorted.dedup();
        assert!(pages > 2 && ids == sorted, "{sort}: each once, in order: {ids:?}");
    }
    assert_eq!(ask("/api/v4/projects?pagination=keyset&order_by=name").await?.status, 405, "only by id");
    let archived = ask("/api/v4/projects?archived=true&membership=true").await?.json();
    assert!(archived.as_array().is_some_and(|found| !found.is_empty() && found.iter().all(|found| found["archived"] == true)));
    Ok(())
}

/// The hooks of GitLab's shop, through another client's requests.
struct Hooks {
    simulated: Simulated,
}

impl Hooks {
    const PATH: &str = "/api/v4/projects/acme%2Fapps%2Fshop/hooks";

    fn ask(&self, method: Method, rest: &str) -> Result<RequestBuilder> {
        Ok(request(&self.simulated, method, &format!("{}{rest}", Self::PATH))?.header("private-token", gitlab::OPERATOR))
    }
}

fn form(builder: RequestBuilder, text: &str) -> RequestBuilder {
    builder.header("content-type", "application/x-www-form-urlencoded").body(text.to_owned())
}

#[tokio::test]
async fn gitlab_accepts_parameters_in_query_form_and_json_and_changes_a_hook_without_its_url() -> Result<()> {
    let hooks = Hooks { simulated: simulated(ProviderKind::GitLab).await? };
    let new = "url=https%3A%2F%2Fhooks.acme.example%2Fin&push_events=false&tag_push_events=true&custom_headers[][key]=X-A\
               &custom_headers[][value]=1&custom_headers[][key]=X-B&custom_headers[][value]=2";
    let made = send(form(hooks.ask(Method::POST, "")?, new)).await?;
    let hook = made.json();
    assert_eq!((made.status, &hook["push_events"], &hook["tag_push_events"]), (201, &json!(false), &json!(true)), "{hook}");
    assert_eq!(hook["custom_headers"].as_array().map(Vec::len), Some(2), "{hook}");
    let one = format!("/{}", hook["id"]);
    let multipart = "--b0\r\nContent-Disposition: form-data; name=\"note_events\"\r\n\r\ntrue\r\n--b0--\r\n".to_owned();
    let changes = [
        ("merge_requests_events", hooks.ask(Method::PUT, &format!("{one}?merge_requests_events=true"))?),
        ("job_events", form(hooks.ask(Method::PUT, &one)?, "job_events=1")),
        ("note_events", hooks.ask(Method::PUT, &one)?.header("content-type", "multipart/form-data; boundary=b0").body(multipart)),
        ("pipeline_events", hooks.ask(Method::PUT, &one)?.json(&json!({"pipeline_events": "true"}))),
        ("issues_events", hooks.ask(Method::PUT, &one)?.json(&json!({"issues_events": true}))),
    ];
    for (field, change) in changes {
        assert_eq!(hook[field], json!(false), "{field}");
        let answer = send(change).await?;
        assert_eq!((answer.status, &answer.json()[field]), (200, &json!(true)), "{field}: {}", answer.text);
        assert_eq!(answer.json()["url"], hook["url"], "{field}");
    }
    let nowhere = send(form(hooks.ask(Method::POST, "")?, "push_events=true")).await?;
    assert_eq!((nowhere.status, nowhere.json()), (400, json!({"error": "url is missing"})));
    let refused = send(hooks.ask(Method::PUT, &format!("{one}?enable_ssl_verification=true&push_events=perhaps"))?).await?;
    assert_eq!((refused.status, refused.json()), (400, json!({"error": "push_events is invalid"})));
    assert_eq!(hooks.simulated.simulator.take_slips().len(), 2, "the description names the mistakes of both refused requests");
    Ok(())
}

/// Every member of a document with one of these names, with its path.
fn members<'a>(document: &'a Value, names: &[&str], found: &mut Vec<(String, &'a Value)>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                if names.contains(&name.as_str()) && !value.is_null() {
                    found.push((name.clone(), value));
                }
                members(value, names, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, names, found)),
        _ => {}
    }
}

#[tokio::test]
async fn times_have_the_precision_that_strict_clients_demand() -> Result<()> {
    const TIMES: [&str; 9] = [
        "created_on",
        "updated_on",
        "created_at",
        "updated_at",
        "pushed_at",
        "createdDate",
        "modifiedDate",
        "updatedDate",
        "lastUpdateTime",
    ];
    let add = |repository: &str| UserAction::AddHook { repository: repository.to_owned(), url: "https://ci.acme.example/in".to_owned() };
    for (kind, paths, form) in [
        (ProviderKind::GitHub, vec!["/api/v3/repos/acme/shop", "/api/v3/repos/acme/shop/hooks"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"),
        (
            ProviderKind::GitLab,
            vec!["/api/v4/projects/acme%2Fapps%2Fshop", "/api/v4/projects/acme%2Fapps%2Fshop/hooks"],
            r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        ),
        (
            ProviderKind::BitbucketCloud,
            vec!["/2.0/repositories/acme/shop", "/2.0/repositories/acme/shop/hooks", "/2.0/workspaces/acme"],
            r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(\+00:00|Z)$",
        ),
        (
            ProviderKind::BitbucketDataCenter,
            vec!["/bitbucket/rest/api/latest/projects/APP/repos/shop/webhooks"],
            // Milliseconds since 1970.
            r"^\d{13}$",
        ),
        (
            ProviderKind::AzureDevOps,
            vec!["/acme/_apis/projects?api-version=7.1", "/acme/_apis/hooks/subscriptions?api-version=7.1"],
            r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$",
        ),
    ] {
        let simulated = simulated(kind).await?;
        simulated.simulator.act(&add(&simulated.seed_data.repository)).await?;
        let form = regex::Regex::new(form)?;
        let mut seen = 0;
        for path in paths {
            let answer = send(authorized(&simulated, request(&simulated, Method::GET, path)?)).await?;
            assert_eq!(answer.status, 200, "{kind} {path}: {}", answer.text);
            let document = answer.json();
            let mut found = Vec::new();
            members(&document, &TIMES, &mut found);
            for (name, value) in &found {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                assert!(form.is_match(&text), "{kind} {path}: {name} is {text}");
            }
            seen += found.len();
        }
        assert!(seen > 0, "{kind}");
    }
    Ok(())
}

/// The request with a credential that has every permission.
fn authorized(simulated: &Simulated, request: RequestBuilder) -> RequestBuilder {
    let of = |name: &str| simulated.seed_data.credential.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let token = of("token").unwrap_or_default();
    match simulated.provider.kind() {
        ProviderKind::BitbucketCloud => request.basic_auth(of("email").unwrap_or_default(), Some(token)),
        ProviderKind::AzureDevOps => request.basic_auth("", Some(token)),
        _ => request.bearer_auth(token),
    }
}

#[tokio::test]
async fn links_of_bitbucket_cloud_lead_from_the_workspace_to_its_repositories() -> Result<()> {
    let simulated = simulated(ProviderKind::BitbucketCloud).await?;
    let ask = async |path: &str| send(authorized(&simulated, request(&simulated, Method::GET, path)?)).await;
    let workspace = ask("/2.0/workspaces/acme").await?.json();
    let link = workspace["links"]["repositories"]["href"].as_str().context("a link to the repositories")?;
    let listed = ask(link.strip_prefix(simulated.simulator.url()).context("a link to here")?).await?;
    assert_eq!((listed.status, listed.json()["values"].as_array().map(Vec::len)), (200, Some(10)));
    let repository = ask("/2.0/repositories/acme/shop").await?.json();
    for (place, names) in [
        ("/links", &["self", "html", "avatar", "clone", "hooks", "commits", "pullrequests", "watchers", "forks", "downloads"][..]),
        ("/workspace/links", &["self", "html", "avatar"]),
        ("/project/links", &["self", "html", "avatar"]),
        ("/owner/links", &["self", "html", "avatar"]),
    ] {
        let links = repository.pointer(place).and_then(Value::as_object).context(place)?;
        assert_eq!(links.keys().map(String::as_str).collect::<BTreeSet<_>>(), names.iter().copied().collect(), "{place}");
    }
    Ok(())
}

#[tokio::test]
async fn data_center_names_the_current_user_and_has_a_second_address_for_personal_projects() -> Result<()> {
    let simulated = simulated(ProviderKind::BitbucketDataCenter).await?;
    let token = simulated.seed_data.credential[0].1.clone();
    let ask = async |token: Option<&str>, path: &str| {
        let asked = request(&simulated, Method::GET, &format!("/bitbucket{path}"))?;
        send(if let Some(token) = token { asked.bearer_auth(token) } else { asked }).await
    };
    let whoami = "/bitbucket/plugins/servlet/applinks/whoami";
    let by_password = request(&simulated, Method::GET, whoami)?.basic_auth("forgebind", Some(PASSWORD));
    for (asked, status, text) in [
        (by_password, 200, "forgebind"),
        (request(&simulated, Method::GET, whoami)?, 200, ""),
        (request(&simulated, Method::GET, whoami)?.bearer_auth(&token), 302, ""),
    ] {
        let answer = send(asked).await?;
        assert_eq!((answer.status, answer.text.as_str()), (status, text));
    }
    let token_as_password = request(&simulated, Method::GET, whoami)?.basic_auth("forgebind", Some(&token));
    assert_eq!(send(token_as_password).await?.status, 401, "only the REST API and git accept a token");
    assert_eq!(ask(None, "/login?next=/plugins").await?.status, 200, "the target of the redirect");
    let oldest = |settings| -> Box<dyn SimulatedProvider> { Box::new(BitbucketDataCenter::new(settings).of_the_oldest_release()) };
    let older = Simulated::with(Simulator::start(oldest).await?, Timings::default())?;
    for (credential, name) in [(token.as_str(), "forgebind"), (PROJECT_TOKEN, "access-token-user/1/APP")] {
        let answer = send(request(&older, Method::GET, whoami)?.bearer_auth(credential)).await?;
        assert_eq!((answer.status, answer.text.as_str()), (200, name), "8.9.2 accepted tokens everywhere");
    }
    let api = "/rest/api/latest";
    for version in [api, "/rest/api/1.0"] {
        let by_user = ask(Some(&token), &format!("{version}/users/~forgebind/repos")).await?;
        let by_project = ask(Some(&token), &format!("{version}/projects/~forgebind/repos")).await?;
        assert_eq!((by_user.status, by_user.json()["values"][0]["slug"].as_str()), (200, Some("notes")), "{}", by_user.text);
        assert_eq!(by_user.json(), by_project.json());
    }
    let hooks = ask(Some(&token), &format!("{api}/users/~forgebind/repos/notes/webhooks")).await?;
    assert_eq!((hooks.status, &hooks.json()["values"]), (200, &json!([])));
    assert_eq!(ask(Some(&token), &format!("{api}/users/forgebind")).await?.json()["slug"], "forgebind");

    let keys = |document: Value| -> BTreeSet<String> {
        let key = |project: &Value| project["key"].as_str().map(str::to_owned);
        document["values"].as_array().into_iter().flatten().filter_map(key).collect()
    };
    let projects = keys(ask(Some(&token), &format!("{api}/projects?limit=50")).await?.json());
    assert_eq!(projects, ["APP", "OPS", "~FORGEBIND"].map(str::to_owned).into());
    assert_eq!(keys(ask(Some(REPOSITORY_TOKEN), &format!("{api}/projects")).await?.json()), ["APP".to_owned()].into());
    let size = async |query: &str| anyhow::Ok(ask(Some(&token), &format!("{api}/repos?limit=50&{query}")).await?.json()["size"].clone());
    assert_eq!(size("projectkey=ops").await?, json!(1));
    assert_eq!(size("name=legacy").await?, json!(0), "archived repositories are listed only on request");
    assert_eq!((size("name=legacy&archived=ALL").await?, size("archived=ARCHIVED").await?), (json!(1), json!(1)));
    assert_eq!(size("visibility=public").await?, json!(1));
    assert_eq!(size("permission=REPO_ADMIN&projectkey=OPS").await?, json!(0));
    Ok(())
}

#[tokio::test]
async fn official_clients_of_azure_devops_find_their_resources_by_locations() -> Result<()> {
    let simulated = simulated(ProviderKind::AzureDevOps).await?;
    let ask = async |method: Method, path: &str, version: &str| {
        let accept = format!("application/json;api-version={version}");
        send(authorized(&simulated, request(&simulated, method, path)?).header("accept", accept)).await
    };
    let all = authorized(&simulated, request(&simulated, Method::OPTIONS, "/acme/_apis")?).header("accept", "application/json");
    let all = send(all).await?;
    assert_eq!(all.status, 200, "{}", all.text);
    let git = send(authorized(&simulated, request(&simulated, Method::OPTIONS, "/acme/_apis/Git")?)).await?.json();
    assert!(git["value"].as_array().is_some_and(|found| found.len() == 2 && found.iter().all(|location| location["area"] == "git")));
    // An address as the Python client makes it: the template with the known values filled in and the unknown segments left out.
    let address = |id: &str, values: &[(&str, &str)]| -> Result<String> {
        let document = all.json();
        let location = document["value"].as_array().into_iter().flatten().find(|location| location["id"] == id);
        let location = location.with_context(|| format!("{id} is not registered"))?;
        let text = |name: &str| location[name].as_str().unwrap_or_default().to_owned();
        let known = [("area", text("area")), ("resource", text("resourceName"))];
        let known = known.iter().map(|(name, value)| (*name, value.as_str())).chain(values.iter().copied()).collect::<Vec<_>>();
        let fill = |segment: &str| match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
            None => Some(segment.to_owned()),
            Some(name) => known.iter().find(|(known, _)| *known == name.trim_start_matches('*')).map(|(_, value)| (*value).to_owned()),
        };
        Ok(format!("/acme/{}", text("routeTemplate").split('/').filter_map(fill).collect::<Vec<_>>().join("/")))
    };
    let areas = address("e81700f7-3be2-46de-8624-2eb35882fcaa", &[])?;
    let areas = ask(Method::GET, &areas, "7.1-preview.1").await?;
    let git = areas.json()["value"].as_array().into_iter().flatten().find(|area| area["name"] == "git").cloned();
    assert_eq!(git.context("the area of git")?["locationUrl"], json!(format!("{}/acme/", simulated.simulator.url())));
    for (id, values, version) in [
        ("00d9565f-ed9c-4a06-9a50-00e7896ccab4", &[][..], "7.1-preview.1"),
        ("603fe2ac-9723-48b9-88ad-09305aa6c6e1", &[("projectId", "my%20shop")], "7.1-preview.4"),
        ("225f7195-f9c7-4d14-ab28-a83f7ff77e1f", &[("project", "MY%20SHOP"), ("repositoryId", "WEB")], "7.1"),
        ("fc50d02a-849f-41fb-8af1-0a5216103269", &[], "7.1;excludeUrls=true"),
    ] {
        let path = address(id, values)?;
        let answer = ask(Method::GET, &path, version).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let shouted = ask(Method::GET, "/ACME/_APIS/Projects?$TOP=1&API-Version=7.1", "7.1").await?;
    assert_eq!((shouted.status, &shouted.json()["count"]), (200, &json!(1)));
    let server = Simulated::with(Simulator::start(make_older).await?, Timings::default())?;
    let areas = request(&server, Method::GET, "/acme/_apis/ResourceAreas?api-version=7.0-preview.1")?;
    assert_eq!(
        send(authorized(&server, areas)).await?.json(),
        json!({"count": 0, "value": []}),
        "a Server serves everything at its own address"
    );
    Ok(())
}

#[tokio::test]
async fn deleting_a_subscription_needs_its_own_permission() -> Result<()> {
    let simulated = simulated(ProviderKind::AzureDevOps).await?;
    let path = |rest: &str| format!("/acme/_apis/{rest}{}api-version=7.1", if rest.contains('?') { "&" } else { "?" });
    let ask = async |token: &str, method: Method, rest: &str, body: Option<&Value>| {
        let asked = request(&simulated, method, &path(rest))?.basic_auth("", Some(token));
        send(if let Some(body) = body { asked.json(body) } else { asked }).await
    };
    let project = ask(state::TOKEN, Method::GET, "projects/My%20Shop", None).await?.json()["id"].as_str().context("an id")?.to_owned();
    for (token, granted) in [(state::TOKEN, 7_u8), (state::EDITORS_TOKEN, 3), (state::READERS_TOKEN, 0)] {
        for bits in 1..=7_u8 {
            let rest = format!("permissions/cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/{bits}?tokens=PublisherSecurity%2F{project}");
            let answer = ask(token, Method::GET, &rest, None).await?.json();
            assert_eq!(answer["value"], json!([granted & bits == bits]), "{granted} for {bits}");
        }
    }
    let subscription = json!({
        "publisherId": "tfs", "eventType": "git.push", "resourceVersion": "1.0", "consumerId": "webHooks",
        "consumerActionId": "httpRequest", "publisherInputs": {"projectId": project, "repository": ""},
        "consumerInputs": {"url": "https://ci.acme.example/in"},
    });
    let made = ask(state::EDITORS_TOKEN, Method::POST, "hooks/subscriptions", Some(&subscription)).await?;
    assert_eq!(made.status, 200, "{}", made.text);
    let one = format!("hooks/subscriptions/{}", made.json()["id"].as_str().context("an id")?);
    assert_eq!(ask(state::EDITORS_TOKEN, Method::PUT, &one, Some(&subscription)).await?.status, 200);
    let refused = ask(state::EDITORS_TOKEN, Method::DELETE, &one, None).await?;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("Delete subscriptions"), "{}", refused.text);
    assert_eq!(ask(state::EDITORS_TOKEN, Method::GET, &one, None).await?.status, 200, "the subscription still exists");
    assert_eq!(ask(state::READERS_TOKEN, Method::DELETE, &one, None).await?.status, 404, "a caller who cannot see it learns nothing");
    assert_eq!(ask(state::TOKEN, Method::DELETE, &one, None).await?.status, 204);
    Ok(())
}

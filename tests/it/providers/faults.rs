//! Injected faults at each provider, and the result of each case. Never acceptable: a second hook, a lost hook, a changed hook of
//! somebody else, or a credential sent to a second host.

use std::time::Duration;

use anyhow::Result;
use forgebind::api::v1alpha1::{EventKind, ProviderKind};
use forgebind::providers::transport::Timings;
use forgebind::providers::{Client, Deletion, ErrorKind, Hook, HookRequest, HookUrl, ProviderError, Repository};
use http::Method;

use testkit::contract::secret;
use testkit::sim::requests::requests;
use testkit::sim::{self, Fault, Order, Refusal, Simulated, Simulator, UserAction, Wait};
use testkit::sink::SinkServer;

use ErrorKind::{Conflict, NotFound, PermissionDenied, RateLimited, ResponseInvalid, Transient, Unauthenticated};
use Fault::{CutAnswer, Duplicate, ForeignLinks, HugeBody, LostAnswer, Meanwhile, Redirect, Refuse, Slow, WebPage};

/// Longer than these tests allow for a call.
const TOO_LONG: Duration = Duration::from_secs(8);
/// Somebody else's hook.
const FOREIGN: &str = "https://ci.elsewhere.example/hook";

/// The expected result of a case.
#[derive(Debug)]
enum Comes {
    /// The call succeeds.
    Through,
    /// The call fails with one of these kinds.
    To(&'static [ErrorKind]),
}

/// One row of the table: the case, and its result for a read, a creation and a deletion.
struct Case {
    name: &'static str,
    fault: Fault,
    read: Comes,
    create: Comes,
    delete: Comes,
}

/// A case with the same result for all three calls.
const fn same(name: &'static str, fault: Fault, kinds: &'static [ErrorKind]) -> Case {
    Case { name, fault, read: Comes::To(kinds), create: Comes::To(kinds), delete: Comes::To(kinds) }
}

/// A case that only affects reads.
const fn reading(name: &'static str, fault: Fault, read: Comes) -> Case {
    Case { name, fault, read, create: Comes::Through, delete: Comes::Through }
}

/// The table. `trap` is another host.
fn cases(kind: ProviderKind, trap: &str, repository: &str) -> Vec<Case> {
    // Azure DevOps answers with a web page when nobody is signed in.
    let page: &'static [ErrorKind] =
        if kind == ProviderKind::AzureDevOps { &[Unauthenticated, ResponseInvalid] } else { &[ResponseInvalid] };
    let somebody = UserAction::AddHook { repository: repository.to_owned(), url: "https://another.example/hook".to_owned() };
    let mut cases = vec![
        same("401", Refuse(Refusal::Unauthorized), &[Unauthenticated]),
        same("403", Refuse(Refusal::Forbidden), &[PermissionDenied]),
        // After a 404 a deletion checks the list, which still shows the hook: the 404 only hides it.
        same("404 that hides", Refuse(Refusal::NotFound), &[NotFound, PermissionDenied]),
        same("500", Refuse(Refusal::Failed(500)), &[Transient]),
        same("502", Refuse(Refusal::Failed(502)), &[Transient]),
        same("503", Refuse(Refusal::Failed(503)), &[Transient]),
        same("504", Refuse(Refusal::Failed(504)), &[Transient]),
        same("too slow", Slow(TOO_LONG), &[Transient]),
        same("a web page", WebPage(200), page),
        same("a web page with 203", WebPage(203), page),
        same("a web page with 404", WebPage(404), page),
        same("lost answer", LostAnswer, &[Transient]),
        same("100 MB", HugeBody, &[ResponseInvalid, Transient]),
        same("redirect to another host", Redirect(Some(trap.to_owned())), &[ResponseInvalid, Conflict, Unauthenticated]),
        Case {
            name: "redirect to the same host",
            fault: Redirect(None),
            read: Comes::Through,
            create: Comes::To(&[ResponseInvalid, Conflict]),
            delete: Comes::To(&[ResponseInvalid, Conflict]),
        },
        Case {
            name: "cut answer",
            fault: CutAnswer,
            read: Comes::To(&[Transient, ResponseInvalid]),
            create: Comes::To(&[Transient, ResponseInvalid]),
            // A deletion needs nothing from the body.
            delete: Comes::Through,
        },
        reading("links that name another host", ForeignLinks(trap.to_owned()), Comes::Through),
        reading("an entry twice", Duplicate, Comes::To(&[Transient, ResponseInvalid])),
        reading("the list changes while it is read", Meanwhile(somebody), Comes::Through),
    ];
    for wait in [Wait::Unsaid, Wait::Seconds(120), Wait::Date(120), Wait::Reset(120), Wait::Nonsense] {
        cases.push(same("429", Refuse(Refusal::TooManyRequests(wait)), &[RateLimited]));
        cases.push(same("the provider's own rate limit", Refuse(Refusal::RateLimited(wait)), &[RateLimited]));
    }
    cases
}

/// A new simulator for each case, so that a rate limit does not affect the next case.
struct ProviderEnv {
    simulated: Simulated,
    repository: Repository,
    client: std::sync::Arc<dyn Client>,
}

impl ProviderEnv {
    async fn new(kind: ProviderKind) -> Result<Self> {
        let maker = sim::registry::maker(kind).unwrap();
        let timings = Timings {
            call: Duration::from_secs(2),
            max_wait: Duration::from_millis(50),
            pause: Duration::from_millis(5),
            ..Timings::default()
        };
        let simulated = Simulated::with(Simulator::start(maker).await?, timings)?;
        let client = simulated.operator();
        // Like the controllers, inspect first: the result decides how the client sends later requests.
        client.inspect().await?;
        let repository = client.repository(&simulated.path(&simulated.seed_data.repository)).await?;
        let foreign = UserAction::AddHook { repository: simulated.seed_data.repository.clone(), url: FOREIGN.to_owned() };
        simulated.simulator.act(&foreign).await?;
        Ok(Self { simulated, repository, client })
    }

    fn order(&self, request: &(Method, &'static str), fault: &Fault) {
        let (method, containing) = (Some(request.0.clone()), request.1.to_owned());
        // The client retries reads, so the fault applies to every attempt, except for a redirect back to the same path.
        let times = if matches!(fault, Redirect(None) | Meanwhile(_)) { 1 } else { usize::MAX };
        self.simulated.simulator.order(Order { method, containing, skip: 0, times, fault: fault.clone() });
    }

    async fn create(&self) -> Result<Hook, ProviderError> {
        let (url, secret) = (HookUrl::new("https://hooks.acme.example/hooks/ours/1".into()), secret(1));
        let shape = self.client.hook_shapes(&[EventKind::Push].into()).remove(0);
        self.client.create_hook(&self.repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await
    }

    /// Lists the hooks after the faults have ended, with a new client that remembers no rate limit.
    async fn hooks(&self) -> Result<Vec<Hook>> {
        self.simulated.simulator.behave();
        let again = Simulated { factory: Simulated::factory(Timings::default()), ..self.simulated.clone() };
        Ok(again.operator().hooks(&self.repository).await?)
    }
}

fn judge<T: std::fmt::Debug>(what: &str, expected: &Comes, found: &Result<T, ProviderError>) {
    match (expected, found) {
        (Comes::Through, Ok(_)) => {}
        (Comes::To(kinds), Err(error)) if kinds.contains(&error.kind) => {}
        _ => panic!("{what}: expected {expected:?}, found {found:?}"),
    }
}

/// Checks that only the intended change happened: the foreign hook exists, and so do `ours` hooks of ours.
fn unharmed(what: &str, hooks: &[Hook], ours: usize) {
    assert_eq!(hooks.iter().filter(|hook| hook.url.expose() == FOREIGN).count(), 1, "{what}: somebody else's hook");
    let found = hooks.iter().filter(|hook| hook.url.expose().contains("/hooks/ours/")).count();
    assert_eq!(found, ours, "{what}: hooks of ours");
}

async fn the_table_holds(kind: ProviderKind) -> Result<()> {
    let trap = SinkServer::start().await?;
    let trap_url = format!("http://127.0.0.1:{}", trap.port());
    let repository = ProviderEnv::new(kind).await?.simulated.seed_data.repository.clone();
    let requests = requests(kind);
    for case in cases(kind, &trap_url, &repository) {
        let what = |operation: &str| format!("{kind}: {}, {operation}: {:?}", case.name, case.fault);

        let env = ProviderEnv::new(kind).await?;
        env.order(&requests.list, &case.fault);
        let read = env.client.hooks(&env.repository).await;
        judge(&what("read"), &case.read, &read);
        unharmed(&what("read"), &env.hooks().await?, 0);
        if let (Err(error), Refuse(Refusal::TooManyRequests(wait) | Refusal::RateLimited(wait))) = (&read, &case.fault) {
            assert!(error.retry_at.is_some(), "{}: a time to come back, also where none is told ({wait:?})", what("read"));
        }

        let env = ProviderEnv::new(kind).await?;
        env.order(&requests.create, &case.fault);
        let before = env.simulated.simulator.writes();
        let created = env.create().await;
        judge(&what("create"), &case.create, &created);
        assert_eq!(env.simulated.simulator.writes(), before + 1, "{}: a write is sent once", what("create"));
        let done = created.is_ok() || matches!(case.fault, LostAnswer | CutAnswer | Slow(_));
        if let Err(error) = &created
            && done
        {
            assert!(error.kind.is_ambiguous(), "{}: it may have been done", what("create"));
        }
        if matches!(case.fault, Slow(_)) {
            // The provider acts late or not at all; the next probe handles both.
            continue;
        }
        unharmed(&what("create"), &env.hooks().await?, usize::from(done));

        let env = ProviderEnv::new(kind).await?;
        let hook = env.create().await?;
        env.order(&requests.delete, &case.fault);
        let deleted = env.client.delete_hook(&env.repository, &hook.id).await;
        judge(&what("delete"), &case.delete, &deleted);
        let done = deleted.is_ok() || matches!(case.fault, LostAnswer | CutAnswer);
        unharmed(&what("delete"), &env.hooks().await?, usize::from(!done));
    }
    assert!(trap.deliveries().is_empty(), "{kind}: another host received a request: {:?}", trap.deliveries());
    Ok(())
}

/// The provider answers everything with 404: the client does not conclude that the hook is gone.
async fn a_404_that_hides_all_is_no_absence(kind: ProviderKind) -> Result<()> {
    let env = ProviderEnv::new(kind).await?;
    let hook = env.create().await?;
    env.simulated.simulator.order(Order::always(Refuse(Refusal::NotFound)));
    assert_eq!(env.client.delete_hook(&env.repository, &hook.id).await?, Deletion::Hidden, "{kind}");
    unharmed("hidden", &env.hooks().await?, 1);
    Ok(())
}

async fn all(kind: ProviderKind) -> Result<()> {
    the_table_holds(kind).await?;
    a_404_that_hides_all_is_no_absence(kind).await
}

mod bb_21_misbehaviour_harms_nothing_at {
    testkit::at_each_simulated_provider!(super::all);
}

//! The App: its JWT, its installations, and the tokens of installations.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::accounts::{Caller, Installation, InstallationToken, Permissions, suffices};
use super::documents::{error, invalid};
use super::state::{Repository, State};
use super::{hook_error, seed};
use crate::sim::message::{Request, Response};

/// The maximum lifetime of a JWT, in seconds.
const MAX: i64 = 600;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

type Answer = Result<Response, Response>;

/// Verifies that the App signed a JWT and that it is valid now.
pub fn verify(state: &State, token: &str) -> Result<(), Response> {
    let undecodable = || error(401, "A JSON web token could not be decoded");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { return Err(undecodable()) };
    let decoded =
        |part: &str| -> Value { URL_SAFE_NO_PAD.decode(part).ok().and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default() };
    if decoded(header)["alg"] != "RS256" {
        return Err(undecodable());
    }
    let PrivateKeyDer::Pkcs1(der) = PrivateKeyDer::from_pem_slice(seed::APP_KEY.as_bytes()).unwrap() else { panic!("the key is PKCS#1") };
    let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
    let (signed, signature) = (format!("{header}.{claims}"), URL_SAFE_NO_PAD.decode(signature).unwrap_or_default());
    public.verify(signed.as_bytes(), &signature).map_err(|_| undecodable())?;
    let (claims, now) = (decoded(claims), state.now().as_second());
    let app = claims["iss"].as_str().map_or_else(|| claims["iss"].to_string(), str::to_owned);
    if app != state.app.id.to_string() && app != state.app.client_id {
        return Err(error(404, "Integration not found"));
    }
    let (Some(issued), Some(ends)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else { return Err(undecodable()) };
    if ends <= now {
        let words = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires";
        return Err(error(401, words));
    }
    if ends > now + MAX {
        return Err(error(401, "'Expiration time' claim ('exp') is too far in the future"));
    }
    if issued > now {
        return Err(error(401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"));
    }
    Ok(())
}

impl State {
    fn as_app(caller: &Caller) -> Result<(), Response> {
        let words = "A JSON web token could not be decoded";
        if matches!(caller, Caller::App) { Ok(()) } else { Err(error(401, words)) }
    }

    pub fn app_document(&self) -> Value {
        json!({
            "id": self.app.id, "slug": seed::APP_SLUG, "node_id": "A_kwDOAAAAAw", "client_id": self.app.client_id, "owner": self.owner_document("acme"),
            "name": "Acme Forgebind", "description": null, "external_url": "https://acme.example",
            "html_url": format!("{}/github-apps/{}", self.web, seed::APP_SLUG), "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z", "permissions": self.app.permissions, "events": self.app.events,
            "installations_count": self.installations.len(),
        })
    }

    fn installation_document(&self, installation: &Installation) -> Value {
        let (api, id) = (self.api_url(), installation.id);
        let account = self.owner_document(&installation.account);
        json!({
            "id": id, "account": account, "repository_selection": if installation.selection.is_some() { "selected" } else { "all" },
            "access_tokens_url": format!("{api}/app/installations/{id}/access_tokens"),
            "repositories_url": format!("{api}/installation/repositories"),
            "html_url": format!("{}/organizations/{}/settings/installations/{id}", self.web, installation.account),
            "app_id": self.app.id, "client_id": self.app.client_id, "app_slug": seed::APP_SLUG, "target_id": account["id"],
            "target_type": account["type"], "permissions": installation.permissions, "events": self.app.events,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "single_file_name": null,
            "has_multiple_single_files": false, "single_file_paths": [], "suspended_at": installation.suspended_at.map(|at| format!("{at:.0}")),
            "suspended_by": installation.suspended_at.map(|_| self.owner_document("ada")),
        })
    }

    pub fn app(&mut self, request: &Request, caller: &Caller, rest: &[&str]) -> Answer {
        Self::as_app(caller)?;
        match (request.method.as_str(), rest) {
            ("GET", []) => Ok(Response::json(200, &self.app_document())),
            ("GET", ["installations"]) => {
                let entries: Vec<_> = self.installations.iter().map(|found| self.installation_document(found)).collect();
                Ok(self.page(request, &entries, &request.path))
            }
            ("GET", ["installations", id]) => {
                let found = self.installations.iter().find(|found| found.id.to_string() == *id);
                found.map(|found| Response::json(200, &self.installation_document(found))).ok_or_else(|| error(404, "Not Found"))
            }
            ("POST", ["installations", id, "access_tokens"]) => self.make_token(request, id),
            ("GET", ["hook", "config"]) => Ok(Response::json(200, &self.app_webhook())),
            ("PATCH", ["hook", "config"]) => {
                let body = request.json();
                let (url, secret) = self.app.webhook.clone().unwrap_or_default();
                let text = |name: &str| body[name].as_str().map(str::to_owned);
                self.app.webhook = Some((text("url").unwrap_or(url), text("secret").or(secret)));
                Ok(Response::json(200, &self.app_webhook()))
            }
            _ => Err(error(404, "Not Found")),
        }
    }

    fn app_webhook(&self) -> Value {
        let (url, secret) = self.app.webhook.clone().unwrap_or_default();
        let mut config = json!({"content_type": "json", "insecure_ssl": "0", "url": url});
        if secret.is_some() {
            config["secret"] = json!("********");
        }
        config
    }

    /// The installation at an owner or for a repository.
    pub fn find_installation(&self, caller: &Caller, fits: impl Fn(&Installation) -> bool) -> Answer {
        Self::as_app(caller)?;
        let found = self.installations.iter().find(|found| fits(found)).ok_or_else(|| error(404, "Not Found"))?;
        Ok(Response::json(200, &self.installation_document(found)))
    }

    fn make_token(&mut self, request: &Request, id: &str) -> Answer {
        let found = self.installations.iter().find(|found| found.id.to_string() == *id).cloned();
        let installation = found.ok_or_else(|| error(404, "Not Found"))?;
        if installation.suspended_at.is_some() {
            return Err(error(403, "This installation has been suspended"));
        }
        let body = request.json();
        let permissions = narrowed(&installation, &body["permissions"])?;
        let repositories = self.chosen(&installation, &body)?;
        let (expires_at, digits) = (self.now() + HOUR, self.digits());
        // Longer than 40 characters: an id and a signed part.
        let value = format!("ghs_{}_{}.{}.{}", self.app.id, &digits[..24], &digits[24..44], digits);
        let selection = if installation.selection.is_some() || repositories.is_some() { "selected" } else { "all" };
        let document = json!({
            "token": value, "expires_at": format!("{expires_at:.0}"), "permissions": permissions, "repository_selection": selection,
        });
        self.installation_tokens.push(InstallationToken { value, installation: installation.id, permissions, repositories, expires_at });
        Ok(Response::json(201, &document))
    }

    /// Names of the repositories to which a token is restricted, given by name or by id; `None` for all of the installation.
    fn chosen(&self, installation: &Installation, body: &Value) -> Result<Option<Vec<String>>, Response> {
        if body["repositories"].is_null() && body["repository_ids"].is_null() {
            return Ok(None);
        }
        let name_of = |wanted: &Value| {
            let fits = |found: &&Repository| wanted.as_str() == Some(found.name.as_str()) || wanted.as_u64() == Some(found.id);
            self.repositories.iter().find(|found| installation.covers(found) && fits(found)).map(|found| found.name.clone())
        };
        let asked = [&body["repositories"], &body["repository_ids"]].into_iter().filter_map(Value::as_array).flatten();
        let names: Option<Vec<String>> = asked.map(name_of).collect();
        let words = "There is at least one repository that does not exist or is not accessible to the parent installation.";
        names.map(Some).ok_or_else(|| invalid(words, None))
    }

    /// The repositories of an installation.
    pub fn installation_repositories(&self, request: &Request, caller: &Caller) -> Answer {
        let Caller::Installation(token, installation) = caller else {
            return Err(error(
                403,
                "You must authenticate with an installation access token in order to list repositories for an installation.",
            ));
        };
        let narrowed = |name: &String| token.repositories.as_ref().is_none_or(|names| names.contains(name));
        let found = self.repositories.iter().filter(|found| installation.covers(found) && narrowed(&found.name));
        let entries: Vec<_> = found.map(|found| self.repository_document(found, caller, super::documents::Form::Reached)).collect();
        let page = self.page(request, &entries, &request.path);
        let document = json!({
            "total_count": entries.len(), "repository_selection": if installation.selection.is_some() { "selected" } else { "all" },
            "repositories": page.document(),
        });
        Ok(Response { body: document.to_string().into(), ..page })
    }
}

/// The requested permissions, if the installation has them; all of them if none are requested or the object is empty.
fn narrowed(installation: &Installation, asked: &Value) -> Result<Permissions, Response> {
    let Some(asked) = asked.as_object().filter(|asked| !asked.is_empty()) else { return Ok(installation.permissions.clone()) };
    let mut permissions = Permissions::new();
    for (key, level) in asked {
        let level = if level == "write" { "write" } else { "read" };
        let own = installation.permissions.keys().find(|own| *own == key);
        let Some(own) = own.filter(|own| suffices(&installation.permissions, own, level)) else {
            return Err(invalid("The permissions requested are not granted to this installation.", None));
        };
        permissions.insert(own, level);
    }
    Ok(permissions)
}

/// The reason for refusing a hook.
pub fn refused(message: &str) -> Response {
    invalid("Validation Failed", Some(hook_error(message)))
}

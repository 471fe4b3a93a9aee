//! Refusals with the messages of the real service: JSON with a byte order mark, or the sign-in page.

use serde_json::json;

use crate::sim::Response;

const CONTENT_TYPE: &str = "application/json; charset=utf-8; api-version=7.1";

/// The document of an error.
pub fn refused(status: u16, type_key: &str, message: &str) -> Response {
    let document = json!({
        "$id": "1", "innerException": null, "message": message, "typeName": format!("Microsoft.VisualStudio.Services.{type_key}, Microsoft.VisualStudio.Services"),
        "typeKey": type_key, "errorCode": 0, "eventId": 3000,
    });
    Response::text(status, CONTENT_TYPE, &format!("\u{feff}{document}")).with("activityid", &super::state::guid(message))
}

/// A credential that is not accepted: a sign-in page, or a refusal if the client requested one.
pub fn not_signed_in(suppressed: bool, reads: bool) -> Response {
    if suppressed || !reads {
        return unauthorized();
    }
    Response::page(203, "Azure DevOps Services | Sign In")
}

pub fn unauthorized() -> Response {
    let message = "TF400813: The user 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa' is not authorized to access this resource.";
    refused(401, "UnauthorizedRequestException", message).with("www-authenticate", r#"Basic realm="https://dev.azure.com/""#)
}

pub fn expired() -> Response {
    let message = "Access Denied: The Personal Access Token used has expired.";
    let service_error = "Access+Denied%3A+The+Personal+Access+Token+used+has+expired.";
    refused(401, "AccessCheckException", message).with("x-tfs-serviceerror", service_error)
}

/// A missing scope looks the same as a wrong token.
pub fn scope_missing() -> Response {
    Response::empty(401).with("www-authenticate", "Bearer")
}

pub fn forbidden(user: &str, permission: &str) -> Response {
    let message = format!("Access denied: {user} needs the following permissions to perform this action: {permission}");
    refused(403, "AccessCheckException", &message)
}

pub fn no_repository(name: &str) -> Response {
    let message = format!(
        "TF401019: The Git repository with name or identifier {name} does not exist or you do not have permissions for the operation you \
         are attempting."
    );
    refused(404, "GitRepositoryNotFoundException", &message)
}

pub fn disabled_repository(name: &str) -> Response {
    refused(404, "GitRepositoryNotFoundException", &format!("VS403434: The Git repository {name} is disabled."))
}

pub fn no_project(name: &str) -> Response {
    let message = format!(
        "TF200016: The following project does not exist: {name}. Verify that the name of the project is correct and that the project \
         exists on the specified Azure DevOps Server."
    );
    refused(404, "ProjectDoesNotExistWithNameException", &message)
}

pub fn no_subscription(id: &str) -> Response {
    refused(404, "SubscriptionNotFoundException", &format!("VS403304: The subscription {id} cannot be found."))
}

pub fn no_such_address() -> Response {
    Response::page(404, "The resource cannot be found.")
}

pub fn input(message: &str) -> Response {
    refused(400, "SubscriptionInputException", message)
}

pub fn version_missing(method: &str) -> Response {
    let message = format!(
        "No api-version was supplied for the \"{method}\" request. The version must be supplied either as part of the Accept header (e.g. \
         \"application/json; api-version=1.0\") or as a query parameter (e.g. \"?api-version=1.0\")."
    );
    refused(400, "VssVersionNotSpecifiedException", &message)
}

pub fn version_too_new(version: &str, newest: &str) -> Response {
    let message = format!(
        "The requested REST API version of {version} is out of range for this server. The latest REST API version this server supports is \
         {newest}."
    );
    refused(400, "VssVersionOutOfRangeException", &message)
}

pub fn preview_missing(version: &str) -> Response {
    let message = format!(
        "The requested version \"{version}\" of the resource is under preview. The -preview flag must be supplied in the api-version for \
         such requests. For example: \"{version}-preview\""
    );
    refused(400, "VssInvalidPreviewVersionException", &message)
}

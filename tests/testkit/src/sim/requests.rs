//! How to recognise the product's requests at each simulator.

use forgebind::api::v1alpha1::ProviderKind;
use http::Method;

/// The requests of each operation on hooks, as method and part of the address.
pub struct Requests {
    pub list: (Method, &'static str),
    pub create: (Method, &'static str),
    pub delete: (Method, &'static str),
}

pub fn requests(kind: ProviderKind) -> Requests {
    match kind {
        ProviderKind::AzureDevOps => Requests {
            list: (Method::POST, "subscriptionsquery"),
            create: (Method::POST, "/subscriptions?"),
            delete: (Method::DELETE, "/subscriptions/"),
        },
        _ => Requests { list: (Method::GET, "hooks?"), create: (Method::POST, "hooks?"), delete: (Method::DELETE, "hooks/") },
    }
}

#![doc = include_str!("docs/architecture.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controllers;
pub mod crd;
pub mod evidence;
pub mod glob;
pub mod grant;
pub mod json;
pub mod keys;
pub mod kubeconfig;
pub mod listening;
pub mod providers;
pub mod public_urls;
pub mod receiver;
pub mod receiver_secrets;
pub mod run;
pub mod shown;
pub mod sink_support;
pub mod telemetry;
pub mod watches;
pub mod wording;

/// The guides, as they stand in `src/docs/`.
#[cfg(doc)]
pub mod docs {
    #[doc = include_str!("docs/install.md")]
    pub mod install {}

    #[doc = include_str!("docs/first-connection.md")]
    pub mod first_connection {}

    #[doc = include_str!("docs/permissions.md")]
    pub mod permissions {}

    #[doc = include_str!("docs/troubleshooting.md")]
    pub mod troubleshooting {}

    #[doc = include_str!("docs/upgrading.md")]
    pub mod upgrading {}

    #[doc = include_str!("docs/security.md")]
    pub mod security {}

    #[doc = include_str!("docs/faq.md")]
    pub mod faq {}

    #[doc = include_str!("docs/flags.md")]
    pub mod flags {}

    #[doc = include_str!("docs/conditions.md")]
    pub mod conditions {}

    #[doc = include_str!("docs/backup.md")]
    pub mod backup {}

    #[doc = include_str!("docs/check.md")]
    pub mod check {}

    #[doc = include_str!("docs/gitops.md")]
    pub mod gitops {}

    #[doc = include_str!("docs/metrics.md")]
    pub mod metrics {}

    #[doc = include_str!("docs/runbooks.md")]
    pub mod runbooks {}

    #[doc = include_str!("docs/events.md")]
    pub mod events {}

    #[doc = include_str!("docs/providers.md")]
    pub mod providers {}

    #[doc = include_str!("docs/simulators.md")]
    pub mod simulators {}

    #[doc = include_str!("docs/releasing.md")]
    pub mod releasing {}

    #[doc = include_str!("docs/adding-a-provider.md")]
    pub mod adding_a_provider {}

    /// The guide, one task a page.
    pub mod guide {
        #[doc = include_str!("docs/guide/deliver/events.md")]
        pub mod events {}

        #[doc = include_str!("docs/guide/platform/multi-tenancy.md")]
        pub mod multi_tenancy {}

        #[doc = include_str!("docs/guide/platform/several-clusters.md")]
        pub mod several_clusters {}

        #[doc = include_str!("docs/guide/platform/sizing-and-limits.md")]
        pub mod sizing_and_limits {}

        #[doc = include_str!("docs/guide/reference/annotations.md")]
        pub mod annotations {}

        #[doc = include_str!("docs/guide/reference/glossary.md")]
        pub mod glossary {}

        #[doc = include_str!("docs/guide/reference/supported-versions.md")]
        pub mod supported_versions {}
    }

    /// Why things are as they are, where the code alone does not tell.
    pub mod decisions {
        #[doc = include_str!("docs/decisions/0001-provider-port.md")]
        pub mod provider_port {}

        #[doc = include_str!("docs/decisions/0002-leaf-modules.md")]
        pub mod leaf_modules {}

        #[doc = include_str!("docs/decisions/0003-lease-as-fence.md")]
        pub mod lease_as_fence {}

        #[doc = include_str!("docs/decisions/0004-watches-that-tell-deletions.md")]
        pub mod watches_that_tell_deletions {}

        #[doc = include_str!("docs/decisions/0005-no-nullable-in-the-schema.md")]
        pub mod no_nullable_in_the_schema {}

        #[doc = include_str!("docs/decisions/0006-cloudevents-by-hand.md")]
        pub mod cloudevents_by_hand {}

        #[doc = include_str!("docs/decisions/0007-ring-alone.md")]
        pub mod ring_alone {}

        #[doc = include_str!("docs/decisions/0008-hook-under-another-host.md")]
        pub mod hook_under_another_host {}

        #[doc = include_str!("docs/decisions/0009-another-installation-by-one-condition.md")]
        pub mod another_installation_by_one_condition {}

        #[doc = include_str!("docs/decisions/0010-rights-and-removal.md")]
        pub mod rights_and_removal {}

        #[doc = include_str!("docs/decisions/0011-restore-and-copies.md")]
        pub mod restore_and_copies {}
        #[doc = include_str!("docs/decisions/0012-several-ways-in.md")]
        pub mod several_ways_in {}

        #[doc = include_str!("docs/decisions/0013-one-gate-for-credentials.md")]
        pub mod one_gate_for_credentials {}
    }
}

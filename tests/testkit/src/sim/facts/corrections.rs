//! Mistakes in the descriptions, with their evidence. Missing facts are in `additions.facts`.
//!
//! A correction that is no longer needed fails a test, and so does one whose place does not exist.

use forgebind::api::v1alpha1::ProviderKind::{self, AzureDevOps, BitbucketCloud, BitbucketDataCenter, GitHub, GitLab};

/// A mistake in a description.
#[derive(Debug)]
pub struct Correction {
    pub provider: ProviderKind,
    /// The place: `object @NAME FIELD.FIELD`, or `METHOD TEMPLATE` with `?PARAMETER`, `{PARAMETER}`, `body FIELD.FIELD` or
    /// `STATUS FIELD.FIELD`.
    pub at: &'static str,
    /// The correct fact.
    pub change: Change,
    /// The evidence: a page of the provider's documentation, or a recorded answer.
    pub evidence: &'static str,
}

/// The correct fact.
#[derive(Debug)]
pub enum Change {
    /// It is optional.
    Optional,
    /// It may be null.
    Nullable,
    /// It has this type.
    Is(&'static str),
    /// It may have this type too.
    Or(&'static str),
    /// The fields of the object at this place have these types.
    Are(&'static [(&'static str, &'static str)]),
    /// Every answer described as a list is an object with `count` and the list as `value`.
    CountAndValue,
}

const fn correction(provider: ProviderKind, at: &'static str, change: Change, evidence: &'static str) -> Correction {
    Correction { provider, at, change, evidence }
}

/// GitLab's generator writes `string` if the code names no type. These fields of a project have another type.
const PROJECT: Change = Change::Are(&[
    ("approvals_before_merge", "integer"),
    ("compliance_frameworks", "[string]"),
    ("custom_attributes", "[@API_Entities_CustomAttribute]"),
    ("marked_for_deletion_at", "date"),
    ("marked_for_deletion_on", "date"),
    ("merge_pipelines_enabled", "boolean"),
    ("merge_trains_enabled", "boolean"),
    ("merge_trains_skip_train_allowed", "boolean"),
    ("mirror", "boolean"),
    ("mirror_overwrites_diverged_branches", "boolean"),
    ("mirror_trigger_builds", "boolean"),
    ("mirror_user_id", "integer"),
    ("only_allow_merge_if_all_status_checks_passed", "boolean"),
    ("only_mirror_protected_branches", "boolean"),
    ("prevent_merge_without_jira_issue", "boolean"),
    ("requirements_enabled", "boolean"),
    ("security_and_compliance_enabled", "boolean"),
    ("shared_with_groups", "[{any}]"),
    ("visibility", r#""private"|"internal"|"public""#),
]);

/// The same for a group.
const GROUP: Change = Change::Are(&[
    ("auto_devops_enabled", "boolean"),
    ("created_at", "date-time"),
    ("custom_attributes", "[@API_Entities_CustomAttribute]"),
    ("default_branch_protection", "integer"),
    ("default_branch_protection_defaults", "{any}"),
    ("duo_features_enabled", "boolean"),
    ("file_template_project_id", "integer"),
    ("id", "integer"),
    ("ldap_group_links", "[@EE_API_Entities_LdapGroupLink]"),
    ("lfs_enabled", "boolean"),
    ("lock_duo_features_enabled", "boolean"),
    ("marked_for_deletion_on", "date"),
    ("mentions_disabled", "boolean"),
    ("organization_id", "integer"),
    ("parent_id", "integer"),
    ("request_access_enabled", "boolean"),
    ("require_two_factor_authentication", "boolean"),
    ("saml_group_links", "[@EE_API_Entities_SamlGroupLink]"),
    ("share_with_group_lock", "boolean"),
    ("two_factor_grace_period", "integer"),
    ("visibility", r#""private"|"internal"|"public""#),
]);

const ACCESS: Change = Change::Are(&[("access_level", "5|10|15|20|30|40|50|60"), ("notification_level", "integer")]);

const GL_PATHS: &str = "GitLab documentation, \"Project webhooks API\": the id or URL-encoded path of the project";
const DC_CONTEXT: &str = "Recorded refusals (Sourcegraph, bitbucketserver): the context is null where no field is at fault";
const GL_PROJECTS: &str = "GitLab documentation, \"Projects API\", get a single project, the example answer";
const GL_GROUPS: &str = "GitLab documentation, \"Groups API\", the example answers";
const BC_REPOSITORIES: &str = "Recorded repositories (Sourcegraph and go-scm, bitbucketcloud): null without a parent, and while empty";

pub const CORRECTIONS: &[Correction] = &[
    correction(
        GitHub,
        "object @rate-limit-overview rate",
        Change::Optional,
        "REST API, \"Breaking changes\", version 2026-03-10: resources.core takes the place of rate",
    ),
    correction(GitLab, "object @API_Entities_Project", PROJECT, GL_PROJECTS),
    correction(GitLab, "object @API_Entities_ProjectWithAccess", PROJECT, GL_PROJECTS),
    correction(
        GitLab,
        "GET /projects 200",
        Change::Is("[@API_Entities_ProjectWithAccess]"),
        "GitLab documentation, \"Projects API\", list all projects: short answers are an option (simple)",
    ),
    correction(GitLab, "object @API_Entities_ProjectAccess", ACCESS, GL_PROJECTS),
    correction(GitLab, "object @API_Entities_GroupAccess", ACCESS, GL_PROJECTS),
    correction(GitLab, "object @API_Entities_Group", GROUP, GL_GROUPS),
    correction(GitLab, "object @API_Entities_GroupDetail", GROUP, GL_GROUPS),
    correction(
        GitLab,
        "object @API_Entities_ProjectHook",
        Change::Are(&[
            ("alert_status", r#""executable"|"temporarily_disabled"|"disabled""#),
            ("branch_filter_strategy", r#""wildcard"|"regex"|"all_branches""#),
            ("id", "integer"),
            ("project_id", "integer"),
        ]),
        "GitLab documentation, \"Project webhooks API\", the example answers",
    ),
    correction(GitLab, "GET /projects/{id}/hooks/{hook_id}/events {id}", Change::Or("string"), GL_PATHS),
    correction(GitLab, "POST /projects/{id}/hooks/{hook_id}/events/{hook_log_id}/resend {id}", Change::Or("string"), GL_PATHS),
    correction(GitLab, "POST /projects/{id}/hooks/{hook_id}/test/{trigger} {id}", Change::Or("string"), GL_PATHS),
    correction(
        GitLab,
        "GET /projects/{id}/repository/branches/{branch} {branch}",
        Change::Is("string"),
        "GitLab documentation, \"Branches API\", get single repository branch: the URL-encoded name of the branch",
    ),
    correction(
        GitLab,
        "GET /projects/{id}/merge_requests 200",
        Change::Is("[@API_Entities_MergeRequestBasic]"),
        "GitLab documentation, \"Merge requests API\", list project merge requests",
    ),
    correction(BitbucketCloud, "object @repository parent", Change::Nullable, BC_REPOSITORIES),
    correction(BitbucketCloud, "object @repository mainbranch", Change::Nullable, BC_REPOSITORIES),
    correction(
        BitbucketCloud,
        "object @error error.detail",
        Change::Or("@scopes"),
        "Recorded refusals for missing scopes (backstage issue 22383, bitbucket-cli issue 56)",
    ),
    correction(
        BitbucketCloud,
        "object @webhook_subscription subject",
        Change::Or("@repository|@workspace"),
        "Recorded webhook subscriptions (go-scm, bitbucket testdata): the subject is the repository",
    ),
    correction(
        BitbucketCloud,
        "object @webhook_subscription secret",
        Change::Nullable,
        "Bitbucket Cloud REST API, \"Webhooks\": a null secret removes it",
    ),
    correction(BitbucketDataCenter, "object @RestErrorMessage context", Change::Nullable, DC_CONTEXT),
    correction(BitbucketDataCenter, "object @RestErrorMessage exceptionName", Change::Nullable, DC_CONTEXT),
    correction(
        AzureDevOps,
        "every list",
        Change::CountAndValue,
        "Azure DevOps REST API, sample answers of every list; recorded list of subscriptions (vsts-rest-api-specs, examples)",
    ),
    correction(
        AzureDevOps,
        "object @Subscription probationRetries",
        Change::Or("integer"),
        "Azure DevOps REST API, \"Subscriptions\": a byte, which JSON has as a number",
    ),
    correction(
        AzureDevOps,
        "object @Notification status",
        Change::Or(r#""queuedForRetry""#),
        "Azure DevOps documentation, \"Troubleshoot service hooks\": notifications that wait for another try",
    ),
    correction(
        AzureDevOps,
        "object @ProjectProperty value",
        Change::Is("any"),
        "Azure DevOps REST API, \"Projects\", get project properties, the sample answer: values are strings",
    ),
];

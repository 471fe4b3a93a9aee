//! Each provider: its client and webhook against the real server or its simulator, and the operator with it.

mod azure_devops;
mod azure_devops_hooks;
mod bitbucket_cloud;
mod bitbucket_data_center;
mod chain;
mod contract;
mod faults;
mod foreign_clients;
mod gitea;
mod github;
mod gitlab;
mod listing_calls;
mod permissions;
mod recovery;
mod server_versions;

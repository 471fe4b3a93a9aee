//! Each provider: its client and webhook against the real server or its simulator, and the operator with it.

pub mod azure_devops;
pub mod azure_devops_hooks;
pub mod bitbucket_cloud;
pub mod bitbucket_data_center;
pub mod chain;
pub mod contract;
pub mod foreign_clients;
pub mod github;
pub mod gitlab;
pub mod misbehaviour;
pub mod permissions;
pub mod recovery;
pub mod server_versions;

//! Probes the git endpoint, which is the same at every provider: `info/refs` of the smart HTTP protocol, version 0.

use std::collections::BTreeMap;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use url::Url;

use super::ProviderError;
use super::model::GitProbe;
use super::transport::{Call, Operation, Transport};

/// Maximum size of an advertisement in bytes: about 150,000 references.
const ADVERTISEMENT_LIMIT: usize = 16 * 1024 * 1024;
/// Maximum number of references kept from one advertisement.
const MOST_HEADS: usize = 10_000;
const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";

/// Requests the references of the repository with this clone URL.
///
/// # Errors
/// The error of the endpoint, or `ResponseInvalid` if the answer does not come from git.
pub async fn probe(transport: &Transport, clone_url: &Url, authorization: Option<HeaderValue>) -> Result<GitProbe, ProviderError> {
    let mut url = clone_url.clone();
    url.set_path(&format!("{}/info/refs", clone_url.path().trim_end_matches('/')));
    url.set_query(Some("service=git-upload-pack"));
    let call = Call::read(Operation::ProbeGit, Method::GET, url)
        .header(ACCEPT, HeaderValue::from_static(ADVERTISEMENT))
        .body_limit(ADVERTISEMENT_LIMIT);
    let call = match authorization {
        Some(value) => call.authorization(value),
        None => call,
    };
    let answer = transport.send(call).await?.success()?;
    let content_type = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content_type.starts_with(ADVERTISEMENT.as_bytes()) {
        return Err(answer.invalid("the server at the clone URL is not a git server"));
    }
    let heads = references(answer.body()).ok_or_else(|| answer.invalid("the git endpoint's list of references is not complete"))?;
    Ok(GitProbe { heads })
}

/// Branches and tags of an advertisement, by full name. `None` if the data is not an advertisement or is truncated.
fn references(mut rest: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut heads = BTreeMap::new();
    // `# service=git-upload-pack`, then the references; a flush packet ends each of the two parts.
    if !next_line(&mut rest)??.starts_with(b"# service=git-upload-pack") || next_line(&mut rest)?.is_some() {
        return None;
    }
    while let Some(line) = next_line(&mut rest)? {
        let line = line.split(|byte| *byte == 0).next()?;
        let (object, name) = std::str::from_utf8(line.trim_ascii_end()).ok()?.split_once(' ')?;
        let wanted = name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
        // `^{}` marks the object that an annotated tag points to; it is not a reference.
        if wanted && heads.len() < MOST_HEADS && !name.ends_with("^{}") {
            heads.insert(name.to_owned(), object.to_owned());
        }
    }
    Some(heads)
}

/// The next packet: `Some(None)` for a flush packet, `None` if the packet is incomplete.
#[expect(clippy::option_option, reason = "a flush packet is not the end of the data")]
fn next_line<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_at_checked(4)?;
    let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
    if length == 0 {
        *rest = after;
        return Some(None);
    }
    let (line, after) = after.split_at_checked(length.checked_sub(4)?)?;
    *rest = after;
    Some(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    #[test]
    fn branches_and_tags_are_read() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let text = [
            packet("# service=git-upload-pack\n"),
            "0000".into(),
            packet(&format!("{one} HEAD\0multi_ack symref=HEAD:refs/heads/main\n")),
            packet(&format!("{one} refs/heads/main\n")),
            packet(&format!("{two} refs/pull/1/head\n")),
            packet(&format!("{two} refs/tags/v1\n")),
            packet(&format!("{one} refs/tags/v1^{{}}\n")),
            "0000".into(),
        ]
        .concat();
        let heads = references(text.as_bytes()).unwrap();
        assert_eq!(heads.into_iter().collect::<Vec<_>>(), [("refs/heads/main".to_owned(), one), ("refs/tags/v1".to_owned(), two)]);
        for cut in [text.len() - 4, text.len() - 1, 40, 3, 0] {
            assert_eq!(references(&text.as_bytes()[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn dv_03_an_empty_repository_has_no_heads() {
        let gitea = [packet("# service=git-upload-pack\n"), "00000000".into()].concat();
        assert_eq!(references(gitea.as_bytes()), Some(BTreeMap::new()));
        let zero = "0".repeat(40);
        let others =
            [packet("# service=git-upload-pack\n"), "0000".into(), packet(&format!("{zero} capabilities^{{}}\0x\n")), "0000".into()];
        assert_eq!(references(others.concat().as_bytes()), Some(BTreeMap::new()));
    }

    #[test]
    fn what_is_no_advertisement_is_refused() {
        for text in ["", "<html>", "0001x", "zzzz", "0000", &packet("# service=git-receive-pack\n"), "-001"] {
            assert_eq!(references(text.as_bytes()), None, "{text:?}");
        }
    }
}

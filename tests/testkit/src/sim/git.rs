//! The git endpoint: the advertisement of references of the smart HTTP protocol, version 0.

use super::contents::{Contents, ZERO};
use super::message::{Request, Response};

/// The path of the repository before `/info/refs`, if a request is for its references.
pub fn asked_for(request: &Request) -> Option<Vec<String>> {
    let path = request.path.strip_suffix("/info/refs")?;
    let asked = request.parameter("service") == Some("git-upload-pack");
    asked.then(|| Request { path: path.to_owned(), ..request.clone() }.segments())
}

/// Git's answer for a repository.
pub fn advertisement(contents: &Contents) -> Response {
    let packet = |line: &str| format!("{:04x}{line}", line.len() + 4);
    let mut text = packet("# service=git-upload-pack\n") + "0000";
    let capabilities = "multi_ack side-band-64k ofs-delta agent=git/2.47";
    let mut lines = contents.references.iter().map(|(name, object)| (object.as_str(), name.as_str()));
    match lines.next() {
        None => text += &packet(&format!("{ZERO} capabilities^{{}}\0{capabilities}\n")),
        Some((object, name)) => text += &packet(&format!("{object} {name}\0{capabilities}\n")),
    }
    for (object, name) in lines {
        text += &packet(&format!("{object} {name}\n"));
    }
    Response::text(200, "application/x-git-upload-pack-advertisement", &(text + "0000")).with("cache-control", "no-cache")
}

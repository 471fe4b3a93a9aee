//! The pictures of the guides: each SVG was drawn from the source beside it, and each is used on a page. This test does not run
//! the program that draws them (`tests/pictures`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::ConditionType;
use ring::digest;

use testkit::components::repository_root;
use testkit::guides::guides;

const FOLDER: &str = "src/docs/pictures";

/// The picture files whose names have this ending.
fn pictures(ending: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(repository_root().join(FOLDER))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect())
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")
}

#[test]
fn every_picture_was_drawn_from_the_source_beside_it() -> Result<()> {
    let sources = pictures("d2")?;
    ensure!(sources.len() > 3 && pictures("svg")?.len() == sources.len(), "a source without an SVG, or an SVG without a source");
    for source in sources {
        let hash = hex::encode(digest::digest(&digest::SHA256, &std::fs::read(&source)?).as_ref());
        let drawn = std::fs::read_to_string(source.with_extension("svg"))?;
        let comment = format!("<!-- Drawn from {} by `make generate`; sha256 {hash} -->", name(&source)?);
        ensure!(
            drawn.lines().nth(1) == Some(comment.as_str()),
            "{} was changed and not drawn again; run `make generate`",
            source.display()
        );
        // Viewing a picture must not fetch anything.
        for outside in ["<script", "url(http", "href=\"http", "@import"] {
            ensure!(!drawn.contains(outside), "{}: the SVG has {outside}", source.display());
        }
    }
    Ok(())
}

#[test]
fn every_picture_is_shown_in_a_guide_with_an_alternative_text() -> Result<()> {
    let guides = guides()?;
    for picture in pictures("svg")? {
        let end = format!("pictures/{})", name(&picture)?);
        let shown = guides.iter().flat_map(|(_, text)| text.split("![").skip(1)).filter_map(|image| image.split_once("]("));
        let mut shown = shown.filter(|(_, target)| target.split_inclusive(')').next().is_some_and(|target| target.ends_with(&end)));
        let (text, _) = shown.next().with_context(|| format!("no guide shows {}", picture.display()))?;
        ensure!(text.len() > 30, "{}: {text:?} does not describe the picture", picture.display());
    }
    Ok(())
}

/// The picture names exactly the conditions that report on a link of the chain.
#[test]
fn the_picture_of_the_chain_names_the_conditions_of_the_code() -> Result<()> {
    const OF_NO_LINK: [ConditionType; 7] = [
        ConditionType::Ready,
        ConditionType::Reconciling,
        ConditionType::Stalled,
        ConditionType::CredentialExpiring,
        ConditionType::CleanupBlocked,
        ConditionType::Cataloged,
        ConditionType::EndpointReachable,
    ];
    let chain = std::fs::read_to_string(repository_root().join(FOLDER).join("chain.d2"))?;
    let arrows = chain.lines().filter(|line| line.contains(" -> ")).filter_map(|line| line.split_once(": "));
    let mut left: String = arrows.map(|(_, label)| label.trim_end_matches("{class: link}").trim().trim_matches('"')).collect();
    left = left.replace("\\n", "");
    for condition in ConditionType::ALL.iter().filter(|condition| !OF_NO_LINK.contains(condition)) {
        ensure!(left.contains(condition.as_str()), "no arrow of the chain has {condition}");
        left = left.replacen(condition.as_str(), "", 1);
    }
    ensure!(left.is_empty(), "the arrows have {left:?}, which is not a condition");
    Ok(())
}

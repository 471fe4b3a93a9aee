//! The image: its content, that it starts on an empty root, and what a build engine makes of the Dockerfile.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::{Value, json};

use testkit::components::repository_root;
use testkit::container::{Container, Image};
use testkit::installation::Installation;
use testkit::operator::Operator;
use testkit::port::free_port;
use testkit::test_env::{SOON, TestEnv, connection_message};
use testkit::tls_proxy::TlsProxy;
use testkit::{chart, container, elf, image, shared};

const BINARY: &str = "forgebind";
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Every file below a folder: its relative path and its size.
fn files(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(folder)?.to_str().context("UTF-8")?.to_owned();
                found.insert(path, entry.metadata()?.len());
            }
        }
    }
    Ok(found)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Whether a test can continue. If the machine lacks something, it writes the reason directly to stderr, because the output of a
/// macro is hidden when a test passes.
fn goes_on(obstacle: Option<String>) -> Result<bool> {
    let Some(obstacle) = obstacle else { return Ok(true) };
    writeln!(std::io::stderr(), "image: skipped: {obstacle}")?;
    Ok(false)
}

#[tokio::test]
async fn the_image_contains_one_static_binary_and_the_public_certificate_authorities() -> Result<()> {
    if !goes_on(image::obstacle()?)? {
        return Ok(());
    }
    let image = image::image().await?;
    let files = files(&image.root)?;
    assert_eq!(files.keys().collect::<Vec<_>>(), [AUTHORITIES, BINARY]);

    let binary = std::fs::read(image.root.join(BINARY))?;
    let told = elf::read(&binary)?;
    let machine = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let wanted = elf::Elf { machine, has_interpreter: false, libraries: 0, has_symbols: false, position_independent: true };
    assert_eq!(told, wanted, "static, stripped and loaded at a random address");
    // Checks the header reader with the opposite case: this test program is linked dynamically.
    let this = elf::read(&std::fs::read(std::env::current_exe()?)?)?;
    ensure!(this.has_interpreter && this.libraries > 0 && this.has_symbols, "{this:?}");

    // A path of the build machine would differ on another machine.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo"))).context("no home")?;
    for path in [home, repository_root()] {
        let path = path.to_str().context("UTF-8")?;
        ensure!(!holds(&binary, path), "the binary contains {path}");
    }
    ensure!(holds(&binary, "/cargo/registry/src/"), "the binary contains no replaced path, so the check above finds nothing");

    let authorities = reqwest::Certificate::from_pem_bundle(&std::fs::read(image.root.join(AUTHORITIES))?)?;
    ensure!(authorities.len() >= 100, "{} authorities", authorities.len());
    Ok(())
}

/// The kernel's status of the process in a container, and how its root is mounted. The process is found by its command line,
/// which contains the port.
fn status_of(admin_url: &str) -> Result<(BTreeMap<String, String>, String)> {
    let port = admin_url.rsplit(':').next().context("a port")?;
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        if line.starts_with(b"/forgebind\0") && holds(&line, &format!(":{port}\0")) {
            let status = std::fs::read_to_string(folder.join("status"))?;
            let fields = status.lines().filter_map(|line| line.split_once(":\t"));
            let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
            let mounts = std::fs::read_to_string(folder.join("mountinfo"))?;
            // ID, parent, device, root of the mount, mount point, options.
            let roots = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|line| line[4] == "/");
            return Ok((fields, roots.map(|line| line[5]).collect::<Vec<_>>().join(" ")));
        }
    }
    anyhow::bail!("no process of /forgebind names the port {port}")
}

/// Prints help and definitions in a container of the image.
fn answers(image: &Image) -> Result<()> {
    let container = Container::new(image)?;
    let help = container.output(&["--help"])?;
    ensure!(help.contains("Usage: forgebind <COMMAND>"), "{help}");
    ensure!(container.output(&["run", "--help"])?.contains("SSL_CERT_DIR"), "the variables for further authorities");
    assert_eq!(container.output(&["crd"])?, forgebind::api::crd::to_yaml()?);
    Ok(())
}

/// Runs what the chart installs, in the image, with the settings of its pod: up to a Ready connection through TLS.
#[tokio::test]
async fn the_image_runs_read_only_as_an_unprivileged_user_and_trusts_what_the_chart_mounts() -> Result<()> {
    if !goes_on(image::obstacle()?.or_else(container::obstacle))? {
        return Ok(());
    }
    let image = image::image().await?;
    answers(image)?;

    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("image").await?, Installation::new(plane).await?, free_port()?);
    let gitea = TlsProxy::before(env.gitea.url()).await?;
    let values = json!({
        "mode": "Single", "publicURL": "https://hooks.example.com", "secretNamespaces": [env.namespace],
        "watchNamespaces": [env.namespace], "allow": {"cidrs": ["127.0.0.0/8"]},
        "crds": {"install": false}, "rbac": {"userRoles": false},
    });
    installation.install(&chart::folder(), &values).await?;
    env.create_connection(env.connection_spec_at(&gitea.url())).await?;

    let operator = Operator::start(installation.contained("operator", image, port).await?).await?;
    let (status, mount) = status_of(&operator.admin_url())?;
    ensure!(mount.split(',').any(|option| option == "ro"), "the root is mounted {mount}");
    for (field, wanted) in [
        ("Uid", "65532\t65532\t65532\t65532"),
        ("Gid", "65532\t65532\t65532\t65532"),
        ("Groups", ""),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(status.get(field).map(String::as_str), Some(wanted), "{field}");
    }
    // The image contains the public authorities; they did not sign this Gitea's certificate.
    let connection = env.connection_says("Reachable", "False/TLSError").await?;
    let message = connection_message(&connection, "Reachable");
    ensure!(message.contains("is not trusted"), "{message}");
    drop(operator);

    let maps: Api<ConfigMap> = Api::namespaced(plane.cluster().client()?, &installation.namespace);
    let authority = ConfigMap {
        metadata: ObjectMeta { name: Some("acme-ca".to_owned()), ..ObjectMeta::default() },
        data: Some([("acme.pem".to_owned(), gitea.authority_pem().to_owned())].into()),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &authority).await?;
    installation.upgrade(&chart::folder(), &json!({"caBundle": {"configMap": "acme-ca"}})).await?;
    let operator = Operator::start(installation.contained("operator", image, port).await?).await?;
    env.connection_ready().await?;
    operator.terminate(SOON).await.map(drop)
}

/// The labels that describe an image to people and scanners.
const LABELS: &[&str] = &["title", "description", "source", "documentation", "version", "revision", "licenses"];

#[tokio::test]
async fn the_dockerfile_builds_that_image_reproducibly_for_a_numeric_user_with_labels() -> Result<()> {
    let engine = || (!image::has_engine()).then(|| "no buildah: no engine has built the Dockerfile's last stage".to_owned());
    if !goes_on(image::obstacle()?.or_else(container::obstacle).or_else(engine))? {
        return Ok(());
    }
    let (built, laid_out) = (image::build().await?, image::image().await?);
    assert_eq!(files(&built.image.root)?, files(&laid_out.root)?);
    for file in [BINARY, AUTHORITIES] {
        ensure!(std::fs::read(built.image.root.join(file))? == std::fs::read(laid_out.root.join(file))?, "{file}");
    }
    assert_eq!((built.image.user, &built.image.entrypoint), (image::USER, &laid_out.entrypoint));
    let config = &built.config;
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}, "9090/tcp": {}}));
    for label in LABELS {
        let value = config["Labels"][format!("org.opencontainers.image.{label}")].as_str().unwrap_or_default();
        ensure!(!matches!(value, "" | "unknown"), "{label}: {}", config["Labels"]);
    }
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], Value::from(env!("CARGO_PKG_VERSION")));
    answers(&built.image)?;
    assert_eq!(image::build().await?.digest, built.digest, "built again, it is the same image");
    Ok(())
}

/// The images after `FROM` and `--from=` in the Dockerfile, without its own stages.
fn foreign_images(dockerfile: &str) -> Vec<&str> {
    let stages: Vec<&str> = dockerfile.lines().filter_map(|line| line.split_once(" AS ").map(|(_, name)| name)).collect();
    let named = dockerfile.lines().filter_map(|line| {
        let from = line.strip_prefix("FROM ").or_else(|| line.split_once("--from=").map(|(_, rest)| rest))?;
        from.split_whitespace().find(|word| !word.starts_with("--"))
    });
    named.filter(|name| *name != "scratch" && !stages.contains(name)).collect()
}

#[test]
fn every_image_that_the_dockerfile_uses_is_pinned_by_its_digest() -> Result<()> {
    let dockerfile = std::fs::read_to_string(repository_root().join("Dockerfile"))?;
    let images = foreign_images(&dockerfile);
    ensure!(images.len() == 1 && dockerfile.contains("\nFROM scratch\n"), "{images:?}");
    for image in images {
        let digest = image.split_once("@sha256:").context(image.to_owned())?.1;
        ensure!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{image}");
    }
    assert_eq!(foreign_images("FROM a:1 AS b\nFROM --platform=x c\nCOPY --from=b /x /\nCOPY --from=d:2 /x /"), ["a:1", "c", "d:2"]);
    Ok(())
}

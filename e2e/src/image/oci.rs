//! Writes OCI image archives, from which containerd and every other runtime can load an image.
//!
//! An archive is a tar of an [image layout]: blobs named by their SHA-256, and an index that names
//! the image. Layers are tars with sorted names and no times, so that equal content has equal names.
//!
//! [image layout]: https://github.com/opencontainers/image-spec/blob/main/image-layout.md

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command::{run, system};
use crate::digest;

/// Hex digits of a manifest's digest that make a tag.
const TAG_DIGITS: usize = 12;

/// A layer as a tar file that is named by its digest.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    digest: String,
    size: u64,
    file: PathBuf,
}

impl Layer {
    /// Packs `directory` into a layer below `layers`; every file becomes root's.
    pub(super) fn pack(directory: &Path, layers: &Path) -> Result<Self> {
        fs::create_dir_all(layers)?;
        let packed = tempfile::NamedTempFile::new_in(layers)?;
        run(system("tar")
            .args([
                "--create",
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
            ])
            .args(["--numeric-owner", "--format=gnu", "--file"])
            .arg(packed.path())
            .arg("--directory")
            .arg(directory)
            .arg("."))?;
        let digest = digest::of_file(packed.path())?;
        let file = layers.join(&digest);
        packed.persist(&file)?;
        Self::open(file)
    }

    /// A layer that was packed before.
    pub(super) fn open(file: PathBuf) -> Result<Self> {
        let size = fs::metadata(&file)
            .with_context(|| format!("no layer {}", file.display()))?
            .len();
        let digest = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self { digest, size, file })
    }

    /// Its file, for a later [`Self::open`].
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

/// How a container of the image starts.
#[derive(Debug, Clone, Default)]
pub(super) struct Start<'a> {
    /// The program and its fixed arguments.
    pub(super) entrypoint: &'a [&'a str],
    /// As whom, `uid:gid`; root if empty.
    pub(super) user: &'a str,
}

/// The parts of an image that its tag is made of.
pub(super) struct Image<'a> {
    /// Its layers, lowest first.
    pub(super) layers: &'a [Layer],
    /// How it starts.
    pub(super) start: Start<'a>,
}

impl Image<'_> {
    /// A tag that changes when anything in the image does.
    pub(super) fn content_tag(&self) -> String {
        hex_digest(self.manifest().to_string().as_bytes())[..TAG_DIGITS].to_owned()
    }

    /// Writes the archive under the full name `reference`, for instance `percolate.local/pause:1`.
    pub(super) fn write(&self, reference: &str, archive: &Path) -> Result<()> {
        let parent = archive.parent().context("an archive lies in a directory")?;
        fs::create_dir_all(parent)?;
        let layout = tempfile::tempdir_in(parent)?;
        let blobs = layout.path().join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for layer in self.layers {
            let blob = blobs.join(&layer.digest);
            if !blob.exists() {
                fs::hard_link(&layer.file, &blob)?;
            }
        }
        let (config, manifest) = (self.config().to_string(), self.manifest().to_string());
        fs::write(blobs.join(hex_digest(config.as_bytes())), &config)?;
        fs::write(blobs.join(hex_digest(manifest.as_bytes())), &manifest)?;
        fs::write(
            layout.path().join("index.json"),
            index(reference, &manifest).to_string(),
        )?;
        fs::write(
            layout.path().join("oci-layout"),
            json!({"imageLayoutVersion": "1.0.0"}).to_string(),
        )?;
        let packed = tempfile::NamedTempFile::new_in(parent)?;
        run(system("tar")
            .args([
                "--create",
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
            ])
            .arg("--file")
            .arg(packed.path())
            .arg("--directory")
            .arg(layout.path())
            .args(["oci-layout", "index.json", "blobs"]))?;
        packed.persist(archive)?;
        Ok(())
    }

    fn config(&self) -> Value {
        let digests: Vec<String> = self
            .layers
            .iter()
            .map(|layer| format!("sha256:{}", layer.digest))
            .collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.start.entrypoint,
                "User": self.start.user,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
        })
    }

    fn manifest(&self) -> Value {
        let config = self.config().to_string();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| descriptor("layer.v1.tar", &layer.digest, layer.size))
            .collect();
        let size = config.len() as u64;
        json!({
            "schemaVersion": 2,
            "mediaType": media_type("manifest.v1+json"),
            "config": descriptor("config.v1+json", &hex_digest(config.as_bytes()), size),
            "layers": layers,
        })
    }
}

fn index(reference: &str, manifest: &str) -> Value {
    let digest = hex_digest(manifest.as_bytes());
    let mut entry = descriptor("manifest.v1+json", &digest, manifest.len() as u64);
    let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({
        // containerd goes by the first, other tools by the second.
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": tag,
    });
    json!({"schemaVersion": 2, "manifests": [entry]})
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type(kind), "digest": format!("sha256:{digest}"), "size": size})
}

fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// This machine's processor by Go's name, which OCI uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    digest::of_pieces([bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(directory: &Path, name: &str, content: &str) -> Layer {
        let source = directory.join(name);
        fs::create_dir_all(&source).expect("made");
        fs::write(source.join("file"), content).expect("written");
        Layer::pack(&source, &directory.join("layers")).expect("packed")
    }

    #[test]
    fn equal_content_has_equal_tags_and_other_content_or_start_has_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let tag = |name, content, user| {
            let layers = [pack(directory.path(), name, content)];
            Image {
                layers: &layers,
                start: Start {
                    entrypoint: &["/a"],
                    user,
                },
            }
            .content_tag()
        };
        let first = tag("a", "x", "");
        assert_eq!(first, tag("b", "x", ""));
        assert_ne!(first, tag("c", "y", ""));
        assert_ne!(first, tag("d", "x", "1:1"));
    }

    #[test]
    fn every_blob_an_archive_names_is_in_it_under_its_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let layers = [
            pack(directory.path(), "a", "x"),
            pack(directory.path(), "b", "y"),
        ];
        let archive = directory.path().join("image.tar");
        let image = Image {
            layers: &layers,
            start: Start::default(),
        };
        image.write("example.local/a:1", &archive).expect("written");

        let unpacked = directory.path().join("unpacked");
        fs::create_dir_all(&unpacked).expect("made");
        run(system("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&unpacked))
        .expect("unpacked");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"]
                .as_str()
                .and_then(|text| text.strip_prefix("sha256:"));
            let path = unpacked
                .join("blobs/sha256")
                .join(digest.expect("a digest"));
            assert_eq!(
                digest::of_file(&path).expect("readable"),
                digest.expect("a digest")
            );
            assert_eq!(
                fs::metadata(&path).expect("there").len(),
                descriptor["size"].as_u64().expect("a size")
            );
            fs::read(path).expect("readable")
        };
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).expect("JSON");
        let index = read(fs::read(unpacked.join("index.json")).expect("readable"));
        let entry = &index["manifests"][0];
        assert_eq!(
            entry["annotations"]["io.containerd.image.name"],
            "example.local/a:1"
        );
        let manifest = read(blob(entry));
        blob(&manifest["config"]);
        assert_eq!(
            manifest["layers"]
                .as_array()
                .expect("a list")
                .iter()
                .map(blob)
                .count(),
            2
        );
    }
}

//! The files in `manifests/samples`, and what README.md names of them: they are what the API takes, without a server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::{Path, PathBuf};

use api::devices::{Device, DeviceModel};
use apimachinery::{object, pod, schema, yaml};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The objects of each sample.
fn samples() -> Vec<(String, Vec<Value>)> {
    let folder = root().join("manifests/samples");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let objects = yaml::parse_all(&std::fs::read_to_string(&path).unwrap());
        (name.clone(), objects.unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    files.map(read).collect()
}

#[test]
fn every_sample_is_named_and_its_pods_are_what_the_api_takes() {
    let samples = samples();
    assert!(samples.len() >= 3);
    for (file, objects) in &samples {
        assert!(!objects.is_empty(), "{file} is empty");
        for sample in objects {
            let (kind, name) = (object::text(sample, "/kind"), object::name(sample));
            assert!(!kind.is_empty() && !name.is_empty(), "{file}: an object without kind or name");
            assert!(!object::text(sample, "/apiVersion").is_empty(), "{file}: {name} has no apiVersion");
            if kind == "Pod" {
                let mut filled = sample.clone();
                pod::defaults::pod(&mut filled);
                let problems = pod::problems("spec", &filled["spec"]);
                assert!(problems.is_empty(), "{file}: pod {name}: {problems:?}");
                refers_to_its_own(file, sample, objects);
            }
        }
    }
}

/// A sample works by itself: what its pods name is in the same file.
fn refers_to_its_own(file: &str, pod: &Value, objects: &[Value]) {
    let has = |kind: &str, name: &str| {
        objects.iter().any(|other| object::text(other, "/kind") == kind && object::name(other) == name)
    };
    for volume in object::list(pod, "/spec/volumes") {
        let (map, secret) =
            (object::text(volume, "/configMap/name"), object::text(volume, "/secret/secretName"));
        assert!(map.is_empty() || has("ConfigMap", map), "{file}: no config map {map}");
        assert!(secret.is_empty() || has("Secret", secret), "{file}: no secret {secret}");
    }
}

/// The schema of a kind of `devices.kubeedge.io/v1beta1`.
fn device_schema(kind: &str) -> Value {
    let mut definitions = api::crds::ALL.iter().map(|(_, text)| yaml::parse(text).unwrap());
    let crd = definitions.find(|crd| object::text(crd, "/spec/names/kind") == kind).unwrap();
    let mut versions = object::list(&crd, "/spec/versions").iter();
    let version = versions.find(|version| object::text(version, "/name") == api::devices::VERSION).unwrap();
    version["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn devices_of_samples_fit_their_definitions_and_their_models() {
    let mut devices = 0;
    for (file, objects) in samples() {
        let of_kind =
            |kind: &'static str| objects.iter().filter(move |sample| object::text(sample, "/kind") == kind);
        for kind in ["Device", "DeviceModel"] {
            let definition = device_schema(kind);
            for sample in of_kind(kind) {
                let unknown = schema::prune(&mut sample.clone(), &definition);
                assert!(unknown.is_empty(), "{file}: {kind} has no {unknown:?}");
                let causes = schema::validate(sample, &definition);
                assert!(causes.is_empty(), "{file}: {kind}: {causes:?}");
            }
        }
        let models: Vec<DeviceModel> =
            of_kind("DeviceModel").map(|model| serde_json::from_value(model.clone()).unwrap()).collect();
        for sample in of_kind("Device") {
            let device: Device = serde_json::from_value(sample.clone()).unwrap();
            let wanted = device.spec.device_model_ref.as_ref().unwrap();
            let model = models.iter().find(|model| model.metadata.name == wanted.name).unwrap();
            for property in &device.spec.properties {
                let is_there = model.spec.properties.iter().any(|of_model| of_model.name == property.name);
                assert!(is_there, "{file}: the model has no property {}", property.name);
            }
            devices += 1;
        }
    }
    assert!(devices > 0);
}

#[test]
fn files_that_the_readme_applies_exist() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let applied: Vec<&str> =
        readme.lines().filter_map(|line| line.split("kubectl apply -f ").nth(1)?.split(' ').next()).collect();
    // What comes through a pipe is no file.
    let files: Vec<&str> = applied.into_iter().filter(|file| *file != "-").collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(root().join(file).is_file(), "README.md applies {file}, which does not exist");
    }
}

//! Custom resource definitions, as the YAML in `manifests/crds`.

/// Names and YAML texts, in the order they are installed.
pub const ALL: &[(&str, &str)] = &[
    ("devicemodels.devices.kubeedge.io", include_str!("../../../manifests/crds/devicemodels.yaml")),
    ("devices.devices.kubeedge.io", include_str!("../../../manifests/crds/devices.yaml")),
    ("devicestatuses.devices.kubeedge.io", include_str!("../../../manifests/crds/devicestatuses.yaml")),
    ("objectsyncs.reliablesyncs.kubeedge.io", include_str!("../../../manifests/crds/objectsyncs.yaml")),
    (
        "clusterobjectsyncs.reliablesyncs.kubeedge.io",
        include_str!("../../../manifests/crds/clusterobjectsyncs.yaml"),
    ),
];

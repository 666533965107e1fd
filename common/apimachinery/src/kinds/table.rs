//! The table of kinds: one line each.

use std::sync::Arc;

use super::{Definition, GroupVersionResource, KindInfo, Scope};

/// Makes the enum and the table from the lines.
macro_rules! kinds {
    ($( $variant:ident: $group:literal $version:literal $resource:literal $kind:literal $word:literal $scope:ident
        $definition:ident [$($sub:literal)*] [$($short:literal)*] $synced:expr; )*) => {
        /// What an object is. Two kinds of one name in different groups are different.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ObjectKind {
            $( $variant, )*
            /// A resource without a line in the table.
            Custom(Arc<GroupVersionResource>),
            /// A peer's word for something whose group it did not say.
            Unknown(Arc<str>),
        }

        /// The lines, by the name of their variant.
        #[allow(non_upper_case_globals)] // They are the variants' names.
        pub mod lines {
            use super::*;
            $( pub static $variant: KindInfo = KindInfo {
                group: $group,
                version: $version,
                resource: $resource,
                kind: $kind,
                word: word($word),
                scope: Scope::$scope,
                definition: Definition::$definition,
                subresources: &[$($sub),*],
                short_names: &[$($short),*],
                synced: $synced,
            }; )*
        }

        /// All lines, with the kind each is for.
        pub static KINDS: &[(ObjectKind, &KindInfo)] = &[ $( (ObjectKind::$variant, &lines::$variant), )* ];

        pub(super) fn line(kind: &ObjectKind) -> Option<&'static KindInfo> {
            match kind {
                $( ObjectKind::$variant => Some(&lines::$variant), )*
                ObjectKind::Custom(_) | ObjectKind::Unknown(_) => None,
            }
        }
    };
}

/// No word of KubeEdge's is written as an empty one.
const fn word(word: &'static str) -> Option<&'static str> {
    if word.is_empty() { None } else { Some(word) }
}

const NO: Option<u8> = None;

// variant: group, version, plural, kind, word, scope, definition, [subresources], [short names], place when synced
kinds! {
    Namespace: "" "v1" "namespaces" "Namespace" "namespace" Cluster BuiltIn ["status"] ["ns"] NO;
    Node: "" "v1" "nodes" "Node" "node" Cluster BuiltIn ["status"] ["no"] Some(0);
    Pod: "" "v1" "pods" "Pod" "pod" Namespaced BuiltIn
        ["status" "binding" "eviction" "ephemeralcontainers" "log"] ["po"] Some(3);
    ConfigMap: "" "v1" "configmaps" "ConfigMap" "configmap" Namespaced BuiltIn [] ["cm"] Some(1);
    Secret: "" "v1" "secrets" "Secret" "secret" Namespaced BuiltIn [] [] Some(1);
    ServiceAccount: "" "v1" "serviceaccounts" "ServiceAccount" "serviceaccount" Namespaced BuiltIn
        ["token"] ["sa"] NO;
    Event: "" "v1" "events" "Event" "event" Namespaced BuiltIn [] ["ev"] NO;
    Service: "" "v1" "services" "Service" "service" Namespaced BuiltIn ["status"] ["svc"] NO;
    Endpoints: "" "v1" "endpoints" "Endpoints" "endpoints" Namespaced BuiltIn [] ["ep"] NO;
    PersistentVolume: "" "v1" "persistentvolumes" "PersistentVolume" "persistentvolume" Cluster BuiltIn
        ["status"] ["pv"] NO;
    PersistentVolumeClaim: "" "v1" "persistentvolumeclaims" "PersistentVolumeClaim" "persistentvolumeclaim"
        Namespaced BuiltIn ["status"] ["pvc"] NO;
    PodTemplate: "" "v1" "podtemplates" "PodTemplate" "podtemplate" Namespaced BuiltIn [] [] NO;
    ReplicationController: "" "v1" "replicationcontrollers" "ReplicationController" "replicationcontroller"
        Namespaced BuiltIn ["status" "scale"] ["rc"] NO;
    ResourceQuota: "" "v1" "resourcequotas" "ResourceQuota" "resourcequota" Namespaced BuiltIn ["status"] ["quota"] NO;
    LimitRange: "" "v1" "limitranges" "LimitRange" "limitrange" Namespaced BuiltIn [] ["limits"] NO;
    Deployment: "apps" "v1" "deployments" "Deployment" "deployment" Namespaced BuiltIn ["status" "scale"] ["deploy"] NO;
    DaemonSet: "apps" "v1" "daemonsets" "DaemonSet" "daemonset" Namespaced BuiltIn ["status"] ["ds"] NO;
    ReplicaSet: "apps" "v1" "replicasets" "ReplicaSet" "replicaset" Namespaced BuiltIn ["status" "scale"] ["rs"] NO;
    StatefulSet: "apps" "v1" "statefulsets" "StatefulSet" "statefulset" Namespaced BuiltIn ["status" "scale"] ["sts"] NO;
    ControllerRevision: "apps" "v1" "controllerrevisions" "ControllerRevision" "controllerrevision"
        Namespaced BuiltIn [] [] NO;
    HorizontalPodAutoscaler: "autoscaling" "v2" "horizontalpodautoscalers" "HorizontalPodAutoscaler"
        "horizontalpodautoscaler" Namespaced BuiltIn ["status"] ["hpa"] NO;
    Job: "batch" "v1" "jobs" "Job" "job" Namespaced BuiltIn ["status"] [] NO;
    CronJob: "batch" "v1" "cronjobs" "CronJob" "cronjob" Namespaced BuiltIn ["status"] ["cj"] NO;
    Lease: "coordination.k8s.io" "v1" "leases" "Lease" "lease" Namespaced BuiltIn [] [] NO;
    EndpointSlice: "discovery.k8s.io" "v1" "endpointslices" "EndpointSlice" "endpointslice" Namespaced BuiltIn [] [] NO;
    EventsEvent: "events.k8s.io" "v1" "events" "Event" "" Namespaced BuiltIn [] ["ev"] NO;
    NetworkPolicy: "networking.k8s.io" "v1" "networkpolicies" "NetworkPolicy" "networkpolicy" Namespaced BuiltIn
        [] ["netpol"] NO;
    Ingress: "networking.k8s.io" "v1" "ingresses" "Ingress" "ingress" Namespaced BuiltIn ["status"] ["ing"] NO;
    IngressClass: "networking.k8s.io" "v1" "ingressclasses" "IngressClass" "ingressclass" Cluster BuiltIn [] [] NO;
    ServiceCidr: "networking.k8s.io" "v1" "servicecidrs" "ServiceCIDR" "servicecidr" Cluster BuiltIn ["status"] [] NO;
    IpAddress: "networking.k8s.io" "v1" "ipaddresses" "IPAddress" "ipaddress" Cluster BuiltIn [] ["ip"] NO;
    RuntimeClass: "node.k8s.io" "v1" "runtimeclasses" "RuntimeClass" "runtimeclass" Cluster BuiltIn [] [] NO;
    PodDisruptionBudget: "policy" "v1" "poddisruptionbudgets" "PodDisruptionBudget" "poddisruptionbudget"
        Namespaced BuiltIn ["status"] ["pdb"] NO;
    PriorityClass: "scheduling.k8s.io" "v1" "priorityclasses" "PriorityClass" "priorityclass" Cluster BuiltIn
        [] ["pc"] NO;
    CertificateSigningRequest: "certificates.k8s.io" "v1" "certificatesigningrequests" "CertificateSigningRequest"
        "certificatesigningrequest" Cluster BuiltIn ["status" "approval"] ["csr"] NO;
    StorageClass: "storage.k8s.io" "v1" "storageclasses" "StorageClass" "storageclass" Cluster BuiltIn [] ["sc"] NO;
    CsiDriver: "storage.k8s.io" "v1" "csidrivers" "CSIDriver" "csidriver" Cluster BuiltIn [] [] NO;
    CsiNode: "storage.k8s.io" "v1" "csinodes" "CSINode" "csinode" Cluster BuiltIn [] [] NO;
    CsiStorageCapacity: "storage.k8s.io" "v1" "csistoragecapacities" "CSIStorageCapacity" "csistoragecapacity"
        Namespaced BuiltIn [] [] NO;
    VolumeAttributesClass: "storage.k8s.io" "v1" "volumeattributesclasses" "VolumeAttributesClass"
        "volumeattributesclass" Cluster BuiltIn [] ["vac"] NO;
    VolumeAttachment: "storage.k8s.io" "v1" "volumeattachments" "VolumeAttachment" "volumeattachment" Cluster BuiltIn
        ["status"] [] NO;
    DeviceClass: "resource.k8s.io" "v1" "deviceclasses" "DeviceClass" "deviceclass" Cluster BuiltIn [] [] NO;
    ResourceClaim: "resource.k8s.io" "v1" "resourceclaims" "ResourceClaim" "resourceclaim" Namespaced BuiltIn
        ["status"] [] NO;
    ResourceClaimTemplate: "resource.k8s.io" "v1" "resourceclaimtemplates" "ResourceClaimTemplate"
        "resourceclaimtemplate" Namespaced BuiltIn [] [] NO;
    ResourceSlice: "resource.k8s.io" "v1" "resourceslices" "ResourceSlice" "resourceslice" Cluster BuiltIn [] [] NO;
    FlowSchema: "flowcontrol.apiserver.k8s.io" "v1" "flowschemas" "FlowSchema" "flowschema" Cluster BuiltIn
        ["status"] [] NO;
    PriorityLevelConfiguration: "flowcontrol.apiserver.k8s.io" "v1" "prioritylevelconfigurations"
        "PriorityLevelConfiguration" "prioritylevelconfiguration" Cluster BuiltIn ["status"] [] NO;
    Role: "rbac.authorization.k8s.io" "v1" "roles" "Role" "role" Namespaced BuiltIn [] [] NO;
    RoleBinding: "rbac.authorization.k8s.io" "v1" "rolebindings" "RoleBinding" "rolebinding" Namespaced BuiltIn [] [] NO;
    ClusterRole: "rbac.authorization.k8s.io" "v1" "clusterroles" "ClusterRole" "clusterrole" Cluster BuiltIn [] [] NO;
    ClusterRoleBinding: "rbac.authorization.k8s.io" "v1" "clusterrolebindings" "ClusterRoleBinding"
        "clusterrolebinding" Cluster BuiltIn [] [] NO;
    MutatingWebhookConfiguration: "admissionregistration.k8s.io" "v1" "mutatingwebhookconfigurations"
        "MutatingWebhookConfiguration" "mutatingwebhookconfiguration" Cluster BuiltIn [] [] NO;
    ValidatingWebhookConfiguration: "admissionregistration.k8s.io" "v1" "validatingwebhookconfigurations"
        "ValidatingWebhookConfiguration" "validatingwebhookconfiguration" Cluster BuiltIn [] [] NO;
    ValidatingAdmissionPolicy: "admissionregistration.k8s.io" "v1" "validatingadmissionpolicies"
        "ValidatingAdmissionPolicy" "validatingadmissionpolicy" Cluster BuiltIn ["status"] [] NO;
    ValidatingAdmissionPolicyBinding: "admissionregistration.k8s.io" "v1" "validatingadmissionpolicybindings"
        "ValidatingAdmissionPolicyBinding" "validatingadmissionpolicybinding" Cluster BuiltIn [] [] NO;
    MutatingAdmissionPolicy: "admissionregistration.k8s.io" "v1" "mutatingadmissionpolicies"
        "MutatingAdmissionPolicy" "mutatingadmissionpolicy" Cluster BuiltIn [] [] NO;
    MutatingAdmissionPolicyBinding: "admissionregistration.k8s.io" "v1" "mutatingadmissionpolicybindings"
        "MutatingAdmissionPolicyBinding" "mutatingadmissionpolicybinding" Cluster BuiltIn [] [] NO;
    ApiService: "apiregistration.k8s.io" "v1" "apiservices" "APIService" "apiservice" Cluster BuiltIn ["status"] [] NO;
    CustomResourceDefinition: "apiextensions.k8s.io" "v1" "customresourcedefinitions" "CustomResourceDefinition"
        "customresourcedefinition" Cluster BuiltIn ["status"] ["crd" "crds"] NO;
    Device: "devices.kubeedge.io" "v1beta1" "devices" "Device" "device" Namespaced Custom [] [] Some(2);
    DeviceModel: "devices.kubeedge.io" "v1beta1" "devicemodels" "DeviceModel" "devicemodel" Namespaced Custom
        [] [] Some(1);
    DeviceStatus: "devices.kubeedge.io" "v1beta1" "devicestatuses" "DeviceStatus" "devicestatus" Namespaced Custom
        [] [] NO;
    ObjectSync: "reliablesyncs.kubeedge.io" "v1alpha1" "objectsyncs" "ObjectSync" "objectsync" Namespaced Custom
        ["status"] [] NO;
    ClusterObjectSync: "reliablesyncs.kubeedge.io" "v1alpha1" "clusterobjectsyncs" "ClusterObjectSync"
        "clusterobjectsync" Cluster Custom ["status"] [] NO;
}

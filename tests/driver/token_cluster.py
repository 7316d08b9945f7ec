"""A Ray cluster that asks for a token, in a process of its own, because a process learns once how it authenticates.

Prints the cluster's address, and ends it when standard input does.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    head = {"num_cpus": 1, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()

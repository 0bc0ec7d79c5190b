"""Jobs of a Kubernetes cluster, over its REST API; see docs/drivers/kubernetes.md.

A lease is one Job with a name made from (site, lease, epoch): making it twice is a conflict and nothing else. What is
known of it comes from three watches that are resumed, never from asking for it in a loop.

    access     kubeconfig or service account       tenant     a tenant's namespace: quota, limits, network
    client     requests, bounded in time           supply     nodes as pools, and what others hold of them
    reflector  one collection, listed and watched  record     a lease's folder at the agent: intent, end, log
    views      what is kept of jobs, pods, nodes   verdict    what is known of a lease, from all of this
    manifest   a lease as objects                  logs       the log, taken in pieces; metrics  CPU and memory
    held       a lease in memory                   keeper     all of them, and what time asks for
    engine     the connection to one cluster       driver     the contract
    shared     the contract where agent and nodes share a folder: outputs, data, checkpoints
"""

"""Jobs of a Ray cluster, by the job API of its dashboard; Ray itself is not imported. See docs/drivers/ray.md.

A lease is one job whose submission id is made of the lease and its epoch: Ray refuses it a second time.
A head that was restarted forgets that too; then the claim in the lease's folder sees to it that nothing runs twice.

    client    the job API, bounded in time and size        supply    nodes and accelerators as pools, use by others
    plan      a lease as a request to the job API          driver    the contract
"""

"""Jobs of a Slurm cluster. Runs as one user without special rights; see docs/drivers/slurm.md.

A lease is one batch job, or one element of a job array. Slurm's numbers are not trusted: a controller that was killed
can lose a job that it had acknowledged, give its number to another, and start a job twice. So a job is known by its
name, `yunhe:BATCH`, and what runs in it first takes the claim in the lease's folder, once for ever.

    client    the commands, bounded in time          supply    partitions, nodes and GPUs as pools
    plan      a lease as options of sbatch           states    what each state of Slurm means
    folder    a lease's folder on the shared disk    verdict   what is known of a lease, from all of this
    batches   which leases are one job array         sender    gathers leases, gives them to Slurm
    tenants   accounts of the centre that jobs run as
    lookout   the newest list of jobs                accounting  why a job ended that is listed no more
    driver    the contract
    step      runs on the node, as the batch job     rank      runs on the nodes, one for each slot of a gang
"""

"""What drivers share whose jobs run on other hosts, by a cluster's own engine, under Yunhe's supervisor.

The supervisor on the node is `yunhe.site.supervisor.node`.

    folder    a lease's folder on the disk that agent and nodes share
    leases    the part of a driver that looks after these folders
    spec      what a supervisor reads of its job
    program   copies what nodes need to that disk
    beacon    tells nodes when the hub was last heard
    news      word that nodes leave for the agent
    verdict   what is known of a lease, from its folder and from the engine's list
    chips     names that an engine has for its devices, and the catalogue
"""

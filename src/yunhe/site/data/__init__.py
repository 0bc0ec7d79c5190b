"""Data of jobs, in and out by URL.

    agent:   transfers (a lease's inputs and outputs), progress, cache (inputs by content), child (one transfer)
    child:   transfer, a process per transfer: guard (which addresses), sources, receive, targets, stores

The libraries that speak to stores are loaded in the child alone. It can be killed at any time: a download goes on where
its partial file ends, an upload where the store's own record of it does.
"""

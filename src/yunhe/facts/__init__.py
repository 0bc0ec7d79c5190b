"""Public facts with their sources: chips, clusters, hubs, emission factors, tariffs, places, terms.

`load` reads the shipped tables as typed rows; `sites` answers what is known about one computing centre.  A figure
without a reliable public source is kept and named in `assumed`.
"""

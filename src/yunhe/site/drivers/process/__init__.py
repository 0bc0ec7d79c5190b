"""Jobs as processes of this host, each in a sandbox of its own where the host allows."""

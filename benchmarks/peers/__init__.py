"""Others that do the same work, measured in the same run where they can be installed."""

"""Who may call: organisations, members, roles, keys, quotas."""

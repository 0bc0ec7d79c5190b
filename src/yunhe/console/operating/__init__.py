"""What pages show of the hub's operation."""

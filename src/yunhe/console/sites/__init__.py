"""What pages show of sites."""

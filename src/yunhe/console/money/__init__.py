"""What pages show of money."""

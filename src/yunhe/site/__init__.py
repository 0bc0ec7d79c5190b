"""What runs at a computing centre: the agent, its link to the hub, its spool, and the drivers of its engines."""

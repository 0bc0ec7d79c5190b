"""What the network has: sites, pools, their capacity, and the public facts beside them."""

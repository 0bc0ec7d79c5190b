"""Stands for a training run that needs a whole cluster; its order asks for more than any site has."""

import sys

print("a site with 20 PFLOPS at bf16, one millisecond from Urumqi, was found after all")
sys.exit(1)

"""What may be chosen: layer inventory, tie groups, choices, policies, constraints."""

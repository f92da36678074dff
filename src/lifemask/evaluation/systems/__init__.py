"""What can be judged: systems that look at photos, and outputs stored by other programs."""

"""What can be evaluated: systems that run on photos, and predictions stored by other programs."""

"""How hair, glasses, hat and clothes of MakeHuman become the wearables of the default head."""

"""One YAML file to a sovereign AI region."""

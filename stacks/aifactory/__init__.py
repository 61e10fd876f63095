"""One YAML file to a sovereign AI region."""

__version__ = "0.1.0"

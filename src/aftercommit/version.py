"""The version of this package, for modules that must not load its public words."""

VERSION = "0.1.0"

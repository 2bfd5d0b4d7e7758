"""Models of other systems, by their names and files, as models of this package."""

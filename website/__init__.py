"""What makes a site of the documents: `make docs`."""

"""The admin's pages. Importing registers them."""

"""The test project's settings and addresses."""

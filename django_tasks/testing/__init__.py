"""What tests use: the conformance suites of our interfaces, also for implementations by third parties."""

"""What some projects use, and none has to."""

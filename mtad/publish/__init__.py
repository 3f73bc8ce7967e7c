"""What DNS should say of this host and its domains, how to write that down, and whether it does."""

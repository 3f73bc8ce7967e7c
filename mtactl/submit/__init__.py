"""The parts of the submit command. Nothing here imports more than it needs: start-up time is the cost of every mail."""

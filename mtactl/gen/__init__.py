"""Man pages, completion scripts and the reference, made from the tables that the programs themselves go by."""

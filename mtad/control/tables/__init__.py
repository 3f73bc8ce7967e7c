"""The operator verbs, a module for each group. `mtad.control.operations` is all of them."""

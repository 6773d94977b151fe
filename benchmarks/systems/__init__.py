"""What is measured: one file for each kind of training loop, all with one function, `measure`."""

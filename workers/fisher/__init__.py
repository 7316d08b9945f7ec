"""The parts of `workers.spectrum`, from the hooks inwards to the mathematics.

capture      runs the network once with hooks on its layers and leaves it as it was
likelihood   the predictive distribution: draws targets, gives the loss to differentiate
factors      maps each layer kind to its pairs of Kronecker factors
patches      the second moment of a convolution's patches without making the patches
moments      second moments of rows in mixed precision, and their eigenvalues above a floor
errors       the exceptions and the warning of this family
"""

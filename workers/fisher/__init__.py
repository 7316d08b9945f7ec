"""The parts of `workers.spectrum`, from the running network inwards to the mathematics.

capture         runs the network once, forward and backward
uses            finds every product that takes a trained weight while the network runs
left_as_found   restores the model and the process afterwards
coverage        says what share of the weights has a block, and names what has none
likelihood      the predictive distribution: draws targets, gives the loss to differentiate
products        which operations are products with a weight, and how each becomes rows
factors         from rows to the pairs of Kronecker factors of a weight
patches         the second moment of a convolution's patches without making the patches
moments         second moments of rows in mixed precision, and their eigenvalues above a floor
errors          the exceptions and the warning of this family
"""

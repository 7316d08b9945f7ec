"""The parts of `workers.spectrum`, from the running network inwards to the mathematics.

capture         runs the network once, forward and backward
batch_loss      the summed loss of a batch, with the targets of the data or drawn ones
weight_uses     finds every use of a trained weight while the network runs
kinds           what each tensor is: a weight, a constant or data
use_counting    counts the uses that are products into their blocks
counted_rows    which rows of a product belong to targets that count, by the gradients that reach them
padding         the same by shapes, for rows that no gradient reaches
blocks          which block each weight has
left_as_found   restores the model and the process afterwards
coverage        says what share of the weights has a block, and names what has none
likelihood      the predictive distribution: draws targets, gives the loss to differentiate
product_readers which operations are products with a weight
products        how a product becomes rows
factors         from rows to the pairs of Kronecker factors of a weight
patches         the second moment of a convolution's patches without making the patches
moments         second moments of rows in mixed precision, and their eigenvalues above a floor
errors          the exceptions and the warning of this family
"""
